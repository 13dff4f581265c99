"""The schedule: one cycle over the whole run, however Lightning's tools change its length, or what is asked for."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from typing import Any

from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from smp_feedback.errors import InvalidValue
from smp_feedback.training.checkpoints import is_resumed

ScheduleCallable = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]


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


def fit_cycle(trainer: Any, a_batch: int = 1) -> None:
    """One cycle ends where the run does, also where Lightning's tools changed its length or its rate on the way.

    A batch-size finder makes runs of other lengths, its trials and the run itself; a learning-rate finder sets the
    optimiser's rate, which the cycle would set back.

    Args:
        trainer: About to train. A run that is resumed must be as long as it was to be.
        a_batch: Optimiser steps for each batch.

    Raises:
        InvalidValue: If the run to resume was to be longer, or shorter.
    """
    for config in trainer.lr_scheduler_configs:
        cycle, total = config.scheduler, run_steps(trainer, a_batch)
        if isinstance(cycle, OneCycleLR) and is_resumed(trainer):
            if getattr(trainer.datamodule, "regrouped", False) and cycle.total_steps != cycle_steps(total):
                config.scheduler = gone_on(cycle, total, steps_left(trainer, total, a_batch))
            else:
                check_cycle(cycle, total)
        elif isinstance(cycle, OneCycleLR):
            config.scheduler = begun_anew(cycle, total)


def asked_steps(trainer: Any, a_batch: int = 1) -> float:
    """Optimiser steps that the whole run is told to take.

    Args:
        trainer: Told how long the run is to be: so many steps, or epochs of so many batches.
        a_batch: Optimiser steps for each batch.
    """
    total: float = trainer.estimated_stepping_batches
    if a_batch == 1 or trainer.max_epochs in (None, -1):
        return total
    epochs = float(trainer.num_training_batches * max(trainer.max_epochs, 1) * a_batch)
    return epochs if trainer.max_steps == -1 else min(epochs, trainer.max_steps)


def run_steps(trainer: Any, a_batch: int = 1) -> float:
    """As :func:`asked_steps`, without the epoch in which stochastic weight averaging learns nothing."""
    total = asked_steps(trainer, a_batch)
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


def steps_left(trainer: Any, total: float, a_batch: int = 1) -> int:
    """Of a run of *total* optimiser steps, those that *trainer* is going to take."""
    state = trainer.datamodule.state_dict()
    an_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    over = (state["epoch"] * an_epoch + state["batches"] // trainer.accumulate_grad_batches) * a_batch
    left: list[int] = (
        [] if trainer.max_epochs in (None, -1) else [max(trainer.max_epochs, 1) * an_epoch * a_batch - over]
    )
    left += [] if trainer.max_steps == -1 else [trainer.max_steps - trainer.global_step]
    return min([cycle_steps(total), *left])


def gone_on(cycle: OneCycleLR, total: float, left: int) -> OneCycleLR:
    """*cycle* over a run of *total* steps, where *left* of them are left."""
    made = begun_anew(cycle, total)
    made.last_epoch = made.total_steps - max(0, left) - 1
    with warnings.catch_warnings():  # that the optimiser has not stepped since
        warnings.simplefilter("ignore")
        made.step()
    return made


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
