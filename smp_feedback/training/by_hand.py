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
    """One optimiser step; the loss of each look is sent back before the next look, the memory of one for any T."""
    (looks,) = module.drawn(index)
    module.optimizers().zero_grad()
    losses = module.opened.backward_per_step(image, weighted(looks.weights, module.judge, target), **looks.call)
    take_step(module)
    total: Tensor = losses.sum()
    return total


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
        module.manual_backward(loss)
        take_step(module)
        before = last.detach()
        losses.append(loss.detach())
    return torch.stack(losses).mean()


def take_step(module: Any) -> None:
    """Clip the gradient as the trainer was told, step the optimiser and its schedule, and average what came of it.

    A plateau is stepped after validation, see :meth:`ScoringModule.on_validation_end`.
    """
    optimizer, schedule = module.optimizers(), module.lr_schedulers()
    module.clip_gradients(optimizer)
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
    """A module that steps its optimiser itself is asked for nothing that only Lightning's stepping does.

    Raises:
        InvalidValue: For an accumulated gradient; for a clipped one, unless it clips by itself.
    """
    how = getattr(module, "by_hand", None if module.automatic_optimization else type(module).__name__)
    clips = getattr(module, "clips", False)
    if how is None or (accumulate == 1 and (clip is None or clips)):
        return
    other = ": use backward='together'" if how.startswith("backward") else ""
    raise InvalidValue(f"{how} {'does not accumulate' if clips else 'neither clips nor accumulates'} gradients{other}.")
