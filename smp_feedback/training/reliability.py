"""What can go wrong in a long run: a killed process, a full disk, a loss that is no number."""

from __future__ import annotations

import errno
import os
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor, nn

from smp_feedback.data import item_name
from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.saving.files import replace_file
from smp_feedback.training.order import STEP, derived, seed_all

LAST = "last.ckpt"


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
        self.recent.append((step, trainer.current_epoch, batch[-1] if len(batch) > 2 else None))
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


def _names(trainer: Any, indices: Tensor | None) -> str:
    data = trainer.datamodule
    if indices is None or data is None:
        return "unknown; batches of (image, target, index), as PairsModule makes them, would tell"
    return ", ".join(item_name(data.train, index) for index in indices.tolist())


class SavesLast(Checkpoint):
    """Keeps ``last.ckpt``, from which a run that was killed goes on bit for bit.

    It is written every so many batches of an epoch, unless validation comes first, and between two epochs.

    Args:
        folder: Where it goes.
        every: Batches between two saves inside an epoch.
    """

    def __init__(self, folder: Path, every: int = 200) -> None:
        self.path, self.every, self.since, self.between = folder / LAST, every, 0, False

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save in the middle of an epoch."""
        self.since += 1
        done = batch_idx + 1
        last = done >= trainer.num_training_batches
        scored = trainer.enable_validation and done % (trainer.val_check_batch or done + 1) == 0
        accumulating = done % trainer.accumulate_grad_batches != 0
        if self.since >= self.every and not (last or scored or accumulating):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Save between two epochs."""
        self.between = True
        self._save(trainer)
        self.between = False

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Between two epochs, say so: Lightning's counters still stand at the end of the old one."""
        if not self.between:
            return
        loop = checkpoint["loops"]["fit_loop"]
        for counters in loop["epoch_progress"]["total"], loop["epoch_progress"]["current"]:
            counters["completed"] = counters["processed"]
        batches = loop["epoch_loop.batch_progress"]
        batches["current"], batches["is_last_batch"] = dict.fromkeys(batches["current"], 0), False

    def _save(self, trainer: Any) -> None:
        self.since = 0
        trainer.save_checkpoint(self.path)


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there, on disk before they take the old one's place; loading runs no code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the old one, flush, then take its place in one move."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        replace_file(Path(path), lambda draft: torch.save(checkpoint, draft))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: Any = None) -> dict[str, Any]:
        """Tensors and plain values alone.

        Raises:
            FeedbackError: If the file is missing, truncated, or holds more than that.
        """
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint, on the CPU, without running any code that it may hold.

    Raises:
        FeedbackError: If the file is missing, truncated, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise InvalidValue(f"{path}: expected a checkpoint, there is none.")
    try:
        return cast("dict[str, Any]", torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # pickle and zip raise whatever they stumble over
        raise FeedbackError(f"{path} is no checkpoint of this package, or not whole: {_first_line(error)}") from error


def checkpoint_bytes(module: nn.Module, *, averaged: bool = False) -> int:
    """About the size of a checkpoint: the weights, two moments of Adam, and the average if there is one."""
    weights = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    return weights * (4 if averaged else 3)


def check_room(folder: Path, size: int) -> Path:
    """*folder*, made if need be, after *size* bytes were written there, flushed to disk, and removed.

    Raises:
        FeedbackError: If it cannot be made or written to, or the disk is too full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".room.") as file:
            _reserve(file.fileno(), size)
            os.fsync(file.fileno())
    except OSError as error:
        raise FeedbackError(f"{folder}: {_why(error, size)}") from error
    return folder


def _reserve(handle: int, size: int) -> None:
    """Take *size* bytes of the disk; a sparse file would not."""
    take: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)
    if take is not None:
        take(handle, 0, max(1, size))
        return
    for _ in range(0, max(1, size), 1 << 20):
        os.write(handle, bytes(1 << 20))


def _why(error: OSError, size: int) -> str:
    need = f"a run keeps its checkpoints there and needs {size / 1e6:.0f} MB"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full; {need}."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"it cannot be written to ({error.strerror}); {need}."
    return f"it is no folder that can be written to ({error.strerror}); {need}."


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
