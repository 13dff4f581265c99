"""The optimiser, its schedule, and an average of the weights: AdamW under one cycle, or whatever is asked for."""

from __future__ import annotations

import functools
import math
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from smp_feedback.checks import check_number
from smp_feedback.errors import InvalidValue
from smp_feedback.saving.weights import PREFIX
from smp_feedback.surgery.extension import ClosedLoop
from smp_feedback.training.checkpoints import is_resumed

OptimizerCallable = Callable[[Iterable[nn.Parameter]], Optimizer]
ScheduleCallable = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]


def make_optimizer(
    model: nn.Module,
    make: OptimizerCallable | None,
    lr: float,
    weight_decay: float,
    feedback_lr: float | None = None,
) -> Optimizer:
    """The optimiser over all parameters; norms, biases and the residual's gamma (all of one dimension) do not decay.

    Args:
        model: Whose parameters.
        make: Called with parameter groups; None is AdamW.
        lr: AdamW's peak learning rate.
        weight_decay: AdamW's; another optimiser brings its own.
        feedback_lr: The peak learning rate of what a loop added, in groups of its own; None is that of the base.

    Raises:
        InvalidValue: If the optimiser refuses its arguments, or groups of parameters (L-BFGS).
    """
    groups: list[dict[str, Any]] = []
    for new in (False, True):
        rate = {"lr": feedback_lr} if new and feedback_lr is not None else {}
        side = [p for name, p in model.named_parameters() if p.requires_grad and is_new(name) == new]
        groups += [
            {"params": [p for p in side if p.ndim > 1], **rate},
            {"params": [p for p in side if p.ndim <= 1], **rate},
        ]
    if feedback_lr is None:  # two groups, as ever: an older run goes on
        groups = [
            {"params": [*base["params"], *new["params"]]} for base, new in zip(groups[:2], groups[2:], strict=True)
        ]
    groups = [group for group in groups if group["params"]]
    if make is None:
        optimizer: Optimizer = AdamW(groups, lr=lr, weight_decay=weight_decay)
    else:
        try:
            optimizer = make(cast("Iterable[nn.Parameter]", groups))
        except (TypeError, ValueError) as error:
            raise InvalidValue(
                f"optimizer={make!r:.60} does not take {'two' if feedback_lr is None else 'four'} groups of "
                f"parameters: {error}"
            ) from error
    for group in optimizer.param_groups:
        if "weight_decay" in group and all(p.ndim <= 1 for p in group["params"]):
            group["weight_decay"] = 0.0
    return optimizer


def is_new(name: str) -> bool:
    """Whether the parameter *name* is one that a loop added to a base: all that stands under ``feedback``.

    >>> is_new("model.feedback.dynamics.gamma"), is_new("model.encoder.conv1.weight")
    (True, False)
    """
    return name.removeprefix("model.").startswith(PREFIX)


def check_feedback_lr(model: nn.Module, feedback_lr: float | None) -> None:
    """*feedback_lr* is None, or a learning rate that something in *model* has.

    Raises:
        InvalidValue, InvalidType: If it is none, or *model* has one look.
    """
    if feedback_lr is None:
        return
    check_number("feedback_lr", feedback_lr, above=0)
    if not isinstance(model, ClosedLoop):
        raise InvalidValue(
            f"feedback_lr={feedback_lr} is the learning rate of what a loop adds, and this {type(model).__name__} has "
            "none (feedback=false): leave it null."
        )


def make_schedule(optimizer: Optimizer, make: ScheduleCallable | None, total: float, monitor: str) -> dict[str, Any]:
    """The schedule as Lightning takes it: stepped after each optimiser step.

    A plateau is left to `ScoringModule.on_validation_end`: Lightning steps it after the epoch's checkpoint is
    written, which a resumed run would never make up for, and not at all where the module steps its optimiser itself.

    Args:
        optimizer: Whose learning rates are the peaks of the cycle.
        make: Called with the optimiser; None is one cycle.
        total: Optimiser steps of the whole run.
        monitor: What a plateau is a plateau of.

    Raises:
        InvalidValue: If nobody knows how long one cycle is.
    """
    if make is not None:
        schedule = make(optimizer)
        if isinstance(schedule, ReduceLROnPlateau):
            return {"scheduler": schedule, "interval": "epoch", "monitor": monitor, "frequency": sys.maxsize}
        return {"scheduler": schedule, "interval": "step"}
    if math.isinf(total):
        raise InvalidValue(
            "schedule=None is one cycle over the whole run: give max_steps or max_epochs, or a schedule."
        )
    peaks = [group["lr"] for group in optimizer.param_groups]
    momentum = "momentum" in optimizer.defaults or "betas" in optimizer.defaults
    return {
        "scheduler": OneCycleLR(optimizer, peaks, total_steps=cycle_steps(total), cycle_momentum=momentum),
        "interval": "step",
    }


def cycle_steps(total: float) -> int:
    """The steps of one cycle over a run of *total*; at least one."""
    return max(1, int(total))


def fit_cycle(trainer: Any) -> None:
    """One cycle ends where the run does, also where Lightning's tools changed its length or its rate on the way.

    A batch-size finder makes runs of other lengths, its trials and the run itself; a learning-rate finder sets the
    optimiser's rate, which the cycle would set back.

    Args:
        trainer: About to train. A run that is resumed must be as long as it was to be.

    Raises:
        InvalidValue: If the run to resume was to be longer, or shorter.
    """
    for config in trainer.lr_scheduler_configs:
        cycle, total = config.scheduler, run_steps(trainer)
        if isinstance(cycle, OneCycleLR) and is_resumed(trainer):
            check_cycle(cycle, total)
        elif isinstance(cycle, OneCycleLR):
            config.scheduler = begun_anew(cycle, total)


def run_steps(trainer: Any) -> float:
    """Optimiser steps of the whole run, without the epoch in which stochastic weight averaging learns nothing."""
    total: float = trainer.estimated_stepping_batches
    epochs: list[float] = [
        one.swa_end + 1 for one in averaging(trainer) if hasattr(one, "swa_end")
    ]  # once it has begun
    if not epochs or math.isinf(total) or math.isinf(min(epochs)):
        return total
    an_epoch: float = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return min(total, an_epoch * min(epochs))


def averaging(trainer: Any) -> list[Any]:
    """The callbacks of *trainer* that average weights over epochs, as Lightning does."""
    return [one for one in trainer.callbacks if isinstance(one, StochasticWeightAveraging)]


def begun_anew(cycle: OneCycleLR, total: float) -> OneCycleLR:
    """*cycle* from its start over a run of *total* steps; itself, if that is what it is.

    Its peaks are those it had, or, where somebody has set a rate since, that rate, in the same proportions.
    """
    groups = cycle.optimizer.param_groups
    set_since = cycle.last_epoch == 0 and groups[0]["lr"] != cycle.get_last_lr()[0]
    if cycle.last_epoch == 0 and cycle.total_steps == cycle_steps(total) and not set_since:
        return cycle
    share = groups[0]["lr"] / groups[0]["max_lr"] if set_since else 1.0
    peaks = [group["max_lr"] * share for group in groups]
    with warnings.catch_warnings():  # that the optimiser has stepped before, in a trial
        warnings.simplefilter("ignore")
        return OneCycleLR(cycle.optimizer, peaks, cycle_steps(total), cycle_momentum=cycle.cycle_momentum)


def check_cycle(schedule: OneCycleLR, total: float) -> None:
    """One cycle that is taken up again ends where the run does.

    Raises:
        InvalidValue: If the run to resume was to be longer, or shorter.
    """
    if schedule.total_steps != cycle_steps(total):
        raise InvalidValue(
            f"a run of {cycle_steps(total)} steps: the run to resume has one cycle of the learning rate over "
            f"{schedule.total_steps}; it takes the same. For runs of any length, begin with a schedule of your own."
        )


def check_decay(ema: float | None) -> None:
    """*ema* is the decay of an average, in (0, 1), or None."""
    if ema is not None:
        check_number("ema", ema, above=0)
        if ema >= 1:
            raise InvalidValue(f"ema={ema!r}: expected a number < 1; 0.999 averages over about the last 1000 steps.")


class AveragedWeights(WeightAveraging):
    """Scores and keeps the average in place of the last weights; both are in every checkpoint.

    The statistics of every step's BatchNorm are averaged as the weights are, so no pass over the data is needed
    at the end. The decay begins small, (1 + n) / (10 + n) after n updates, so that a short run's average is not
    one of random weights.

    Args:
        decay: In (0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(avg_fn=functools.partial(averaged, decay))


def averaged(decay: float, average: Tensor, now: Tensor, updates: Tensor | int) -> Tensor:
    """The average after one more update; counters, which are whole numbers, are taken as they are.

    >>> averaged(0.5, torch.tensor(0.0), torch.tensor(1.0), torch.tensor(100))
    tensor(0.5000)
    """
    if not average.is_floating_point():
        return now
    n = torch.as_tensor(updates, device=average.device, dtype=torch.float32)
    keep = torch.clamp((1 + n) / (10 + n), max=decay).to(average.dtype)
    return now + (average - now) * keep
