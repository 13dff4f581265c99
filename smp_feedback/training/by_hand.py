"""Training look by look, and the steps of a module that steps its optimiser itself: what Lightning would do for it."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from smp_feedback.errors import InvalidValue
from smp_feedback.loops.base import Step
from smp_feedback.training.loss_weights import weighted
from smp_feedback.training.processes import average_gradients, begins_step, ends_step, scaled, unreduced
from smp_feedback.training.unrolling import LookPass
from smp_feedback.training.weight_average import AveragedWeights


def looked_through(
    module: Any, image: Tensor, target: Tensor, looks: LookPass, before: Step | None = None
) -> tuple[Tensor, Step]:
    """The weighted loss of *looks* in succession, which go on from *before*, and the last of them that was needed."""
    goes_on: dict[str, Any] = {} if before is None else {"before": before}
    share = weighted(looks.weights, module.judge, target, first=0 if before is None else before.index + 1)
    steps = itertools.islice(module.opened.iterate(image, **looks.call, **goes_on), looks.needed)
    losses = []
    for weight, step in zip(looks.weights[: looks.needed], steps, strict=True):
        losses += [share(step)] if weight else []
    return torch.stack(losses).sum(), step


def look_by_look(module: Any, image: Tensor, target: Tensor, index: int) -> Tensor:
    """One optimiser step; the loss of each look is sent back before the next look, the memory of one for any T.

    Where gradients of several batches add up, the last of them takes the step.
    """
    (looks,) = module.drawn(index)
    trainer, share, losses = module.trainer, weighted(looks.weights, module.judge, target), list[Tensor]()

    def lost(step: Step) -> Tensor:
        value = share(step)
        losses.append(value.detach())
        return scaled(trainer, value / trainer.accumulate_grad_batches)

    if begins_step(trainer, index):
        module.optimizers().zero_grad()
    with unreduced(trainer):
        module.opened.backward_per_step(image, lost, **looks.call)
    if ends_step(trainer, index):
        take_step(module)
    return torch.stack(losses).sum()


def in_segments(module: Any, image: Tensor, target: Tensor, index: int) -> Tensor:
    """An optimiser step for each segment, whose looks go on from the state that the one before left; the mean loss.

    A run that is over in the middle of a batch leaves the others out.
    """
    before: Step | None = None
    losses: list[Tensor] = []
    while len(losses) < module.unrolling.segments and not (losses and is_over(module.trainer)):
        (looks,) = module.drawn(index, len(losses))
        module.optimizers().zero_grad()
        loss, last = looked_through(module, image, target, looks, before)
        with unreduced(module.trainer):
            module.manual_backward(loss)
        take_step(module)
        before = last.detach()
        losses.append(loss.detach())
    return torch.stack(losses).mean()


def take_step(module: Any) -> None:
    """Step the optimiser with the mean gradient of all processes, then its schedule; average the weights it made.

    The gradient is clipped in `ScoringModule.on_before_optimizer_step`, where it is scaled no more. A plateau is
    stepped after validation, see :meth:`ScoringModule.on_validation_end`.
    """
    optimizer, schedule = module.optimizers(), module.lr_schedulers()
    average_gradients(module.trainer, optimizer.optimizer)
    optimizer.step()
    if not isinstance(schedule, ReduceLROnPlateau):
        schedule.step()
    for callback in module.trainer.callbacks:
        if isinstance(callback, AveragedWeights):
            callback.see(module.trainer, module)


def is_over(trainer: Any) -> bool:
    """Whether the run has taken all its steps."""
    return trainer.max_steps != -1 and bool(trainer.global_step >= trainer.max_steps)


def check_by_hand(module: Any, clip: float | None, accumulate: int = 1) -> None:
    """A module that steps its optimiser itself is asked for nothing that it does not do.

    Raises:
        InvalidValue: For an accumulated gradient where a batch has several steps; for a clipped one, unless it clips.
    """
    how = getattr(module, "by_hand", None if module.automatic_optimization else type(module).__name__)
    if how is None:
        return
    if clip is not None and not getattr(module, "clips", False):
        raise InvalidValue(f"{how} does not clip gradients.")
    if accumulate != 1 and (why := getattr(module, "several_steps", "")) is not None:
        raise InvalidValue(f"{how} does not accumulate gradients{why}.")
