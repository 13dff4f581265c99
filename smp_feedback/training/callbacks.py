"""Callbacks of every run: what is drawn is a function of seed and step, and a loss that is no number ends it."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from smp_feedback.data import item_name
from smp_feedback.data.batch import indices_of
from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.training.cycle import averaging
from smp_feedback.training.sampling import STEP, derived, seed_all


class NotFinite(FeedbackError, ArithmeticError):
    """A loss that is NaN or infinite."""


class SeededSteps(Callback):
    """What a step draws (dropout, a random first state) is a function of (seed, epoch, batch, process).

    So no generator's state has to be saved, and a resumed run draws what the uninterrupted one would have.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Seed torch, NumPy and Python."""
        seed_all(derived(STEP, self.seed, trainer.current_epoch, batch_idx, trainer.global_rank))


class StopsAtNaN(Callback):
    """Ends training when a loss is NaN or infinite, naming the step and the batch's files.

    On an accelerator a look at the loss would wait for it, so the device itself keeps the first bad step, and is
    asked every *every* steps and before a checkpoint is written: none holds weights from after it.

    Args:
        every: Steps between two looks on an accelerator; on a CPU every step is looked at.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.recent: deque[tuple[int, int, Any]] = deque(maxlen=every)  # (step, epoch, indices)
        self.first: Tensor | None = None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note whether this loss is finite."""
        loss = outputs["loss"].detach()
        step = trainer.fit_loop.total_batch_idx
        self.recent.append((step, trainer.current_epoch, indices_of(batch)))
        if self.first is None:
            self.first = torch.full((), -1, dtype=torch.long, device=loss.device)
        self.first = torch.where((self.first < 0) & ~loss.isfinite().all(), step, self.first)
        if loss.device.type == "cpu" or len(self.recent) == self.every:
            self._ask(trainer)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """No checkpoint from after the first bad step."""
        self._ask(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Look one last time."""
        self._ask(trainer)

    def _ask(self, trainer: Any) -> None:
        first = -1 if self.first is None else int(self.first)
        for step, epoch, indices in self.recent:
            if step == first:
                files = _names(trainer, indices)
                raise NotFinite(f"The loss is not finite in step {step} (from 0), epoch {epoch}. Its batch: {files}.")
        self.recent.clear()


def check_averaging(module: Any) -> None:
    """Lightning's StochasticWeightAveraging does with *module* what it is for.

    It takes the schedule's place and, at the end, shows all training images once more for BatchNorm's statistics,
    without learning from them.

    Raises:
        InvalidValue: If *module* averages already, sets its learning rates itself, or steps its optimiser itself and
            so would learn to the end.
    """
    if not averaging(module.trainer):
        return
    why = None
    if not module.averaged_by_lightning:
        why = f"{type(module).__name__} sets its learning rates itself"
    elif not module.automatic_optimization:
        why = f"{module.by_hand} steps its optimiser itself, also where averages are not to be touched"
    elif module.ema is not None:
        why = f"ema={module.ema} averages already"
    if why is not None:
        other = "" if module.averaged_by_lightning is False else "; ema=0.999 without it is an average of every step"
        raise InvalidValue(f"StochasticWeightAveraging: {why}{other}.")


def _names(trainer: Any, indices: Tensor | None) -> str:
    data = trainer.datamodule
    if indices is None or data is None:
        return "unknown; batches of (image, target, index), as PairsModule makes them, would tell"
    return ", ".join(item_name(data.train, index) for index in indices.tolist())
