"""Several processes, and a module that steps its optimisers itself: gradients are averaged once, before each step.

DistributedDataParallel averages in each backward pass, of which such a module may have many for one step, or none that
Lightning knows of. So nothing is averaged in them, and all that has added up is, once.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import Any, cast

import torch
from lightning.pytorch.strategies import DDPStrategy, ParallelStrategy
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from smp_feedback.errors import InvalidValue


def check_whole_parameters(trainer: Any, who: str) -> None:
    """Each process of *trainer* has all of the parameters, as *who* needs it that steps its optimisers itself.

    Raises:
        InvalidValue: For a strategy that spreads them over processes, naming the one that does not.
    """
    if trainer.world_size > 1 and not isinstance(trainer.strategy, DDPStrategy):
        kind = type(trainer.strategy).__name__
        raise InvalidValue(f"{who} steps its optimiser itself, and {kind} may spread parameters: use strategy 'ddp'.")


def unreduced(trainer: Any) -> AbstractContextManager[Any]:
    """Inside, backward passes leave each process its own gradients."""
    strategy = trainer.strategy
    return strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext()


def average_gradients(trainer: Any, optimizer: Optimizer) -> None:
    """The mean over processes of what *optimizer* is about to step with; of one process nothing changes.

    A parameter that one process has a gradient of counts as 0 where another has none (its frames had no labels, say);
    what nobody has a gradient of stays without. Which those are is asked of the device, once a step.
    """
    if trainer.world_size == 1:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    there = torch.tensor(
        [p.grad is not None for p in parameters], dtype=torch.uint8, device=trainer.strategy.root_device
    )
    distributed.all_reduce(there, distributed.ReduceOp.MAX)
    learnt = [p for p, one in zip(parameters, there.tolist(), strict=True) if one]
    for parameter in learnt:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for _, alike in groupby(learnt, key=lambda p: (p.device, cast(Tensor, p.grad).dtype)):
        _average([cast(Tensor, parameter.grad) for parameter in alike], trainer.world_size)


def _average(gradients: list[Tensor], processes: int) -> None:
    """The mean over *processes*, in place; of all in one message, for small ones cost as much as large ones."""
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    parts = torch.split(flat / processes, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def take_over_buffers(trainer: Any, module: nn.Module) -> None:
    """The buffers of the first process, such as BatchNorm's statistics, for all: what is scored is what is kept.

    Where Lightning steps the optimiser, DistributedDataParallel sees to that before each forward pass.
    """
    if trainer.world_size > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)


def scaled(trainer: Any, loss: Tensor) -> Tensor:
    """*loss* times what the precision of *trainer* scales gradients by; *loss* itself, where it does not.

    >>> from types import SimpleNamespace
    >>> scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    >>> scaled(SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler)), torch.tensor(2.0))
    tensor(8.)
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return loss if scaler is None else cast(Tensor, scaler.scale(loss))


def begins_step(trainer: Any, batch: int) -> bool:
    """Whether *batch* of the epoch is the first of those whose gradients add up for one step."""
    return bool(batch % trainer.accumulate_grad_batches == 0)


def ends_step(trainer: Any, batch: int) -> bool:
    """Whether *batch* of the epoch is the last of those whose gradients add up for one step.

    Where the epoch ends before, it is the last one, whose sum is still divided as that of all, as Lightning has it.
    """
    return bool((batch + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch)
