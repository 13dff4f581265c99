"""Checkpoints: the last, from which a run that was killed goes on, and the best; whole, with room on the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from torch import nn

from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.saving.drafts import clear_drafts, draft_of
from smp_feedback.saving.files import replace_file
from smp_feedback.training.monitors import direction

LAST, BEST = "last.ckpt", "best.ckpt"
OF_FINDERS = (".scale_batch_size_", ".lr_find_")  # what Lightning's tuner keeps while it tries, and takes back


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


class KeepsBest(ModelCheckpoint):
    """Keeps ``best.ckpt``, one file: what a killed run left is replaced, and a run that was moved knows its own.

    Args:
        folder: Where it goes.
        monitor: The score that is to be high, or low, as its name says.
    """

    best_epoch: int | None = None
    """The epoch, from 0, of the best score; None before the first."""

    def __init__(self, folder: Path, monitor: str) -> None:
        options: dict[str, Any] = {"save_on_train_epoch_end": False, "enable_version_counter": False}
        super().__init__(folder, Path(BEST).stem, monitor, mode=direction(monitor), **options)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep these weights if they are better, and remember when."""
        before = self.best_model_score
        super().on_validation_end(trainer, pl_module)
        if self.best_model_score is not before:
            self.best_epoch = trainer.current_epoch

    def state_dict(self) -> dict[str, Any]:
        """Lightning's, and the epoch."""
        return {**super().state_dict(), "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The paths of *state_dict* where the run is now; Lightning would forget the best score of a moved run."""
        best = {str(self._here(path)): score for path, score in state_dict["best_k_models"].items()}
        paths = {key: state_dict[key] and self._here(state_dict[key]) for key in state_dict if key.endswith("_path")}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})
        self.best_epoch = state_dict.get("best_epoch")

    def _here(self, path: str) -> str:
        return str(Path(cast(str, self.dirpath), Path(path).name))


class StopsEarly(EarlyStopping):
    """Ends a run after *patience* validations without a better score; one that has ended so stays as it is.

    Args:
        monitor: The score that is to be high, or low, as its name says.
        patience: Validations.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        # after validations alone: an epoch that max_steps cuts short has no score, nor has a class that never came up
        how: dict[str, Any] = {"check_on_train_epoch_end": False, "check_finite": False}
        super().__init__(monitor, patience=patience, mode=direction(monitor), **how)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """All but the patience, which is asked for anew."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Lightning would train another epoch at each resume."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


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


def is_resumed(trainer: Any) -> bool:
    """Whether *trainer* goes on with an earlier run, and does not take back what a finder kept during its trials."""
    path = trainer.ckpt_path
    return path is not None and not Path(path).name.startswith(OF_FINDERS)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint, on the CPU, without running any code that it may hold.

    Raises:
        FeedbackError: If the file is missing, truncated, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise InvalidValue(f"{path}: expected a checkpoint, there is none.")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle and zip raise whatever they stumble over
        why = str(error).strip().partition("\n")[0]
        raise FeedbackError(f"{path} is no checkpoint of this package, or not whole: {why}") from error
    weights = held.get("state_dict") if isinstance(held, dict) else None
    if not isinstance(weights, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in weights.items()
    ):
        raise FeedbackError(f"{path} is no checkpoint of this package: it holds no weights by name, as 'state_dict'.")
    return cast("dict[str, Any]", held)


def instead_of_loading(kind: str, path: Any) -> str:
    """What to write where ``load_from_checkpoint`` was asked for a module of *kind* without its model.

    >>> instead_of_loading("FeedbackModule", "run/best.ckpt")[:66]
    'FeedbackModule.load_from_checkpoint(run/best.ckpt) needs model=...'
    """
    saved = Path(path).parent / "model" if isinstance(path, (str, os.PathLike)) else Path("RUN/model")
    return (
        f"{kind}.load_from_checkpoint({path}) needs model=...: a checkpoint holds weights, and not how their model is "
        f"built. The trained model of a run is smp_feedback.from_pretrained({str(saved)!r}); for weights alone, give "
        f"what they were trained in, {kind}.load_from_checkpoint(path, model=create(...), classes=...)."
    )


def checkpoint_bytes(module: nn.Module, *, averaged: bool = False) -> int:
    """About the size of a checkpoint: the weights, two moments of Adam, and the average if there is one."""
    weights = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    return weights * (4 if averaged else 3)


def check_room(folder: Path, size: int, kept: str = "a run keeps its checkpoints there") -> Path:
    """*folder*, made if need be, after *size* bytes were written there, flushed to disk, and removed.

    *kept* says what they are for.

    Raises:
        FeedbackError: If it cannot be made or written to, or the disk is too full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_drafts(folder)  # of a run that was killed while it wrote: each may be as large as a checkpoint
        with draft_of(folder / "room") as draft, draft.open("rb+") as file:
            _reserve(file.fileno(), size)
            os.fsync(file.fileno())
    except OSError as error:
        raise FeedbackError(f"{folder}: {_why(error, size, kept)}") from error
    return folder


def _reserve(handle: int, size: int) -> None:
    """Take *size* bytes of the disk; a sparse file would not."""
    take: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)
    if take is not None:
        take(handle, 0, max(1, size))
        return
    for _ in range(0, max(1, size), 1 << 20):
        os.write(handle, bytes(1 << 20))


def _why(error: OSError, size: int, kept: str) -> str:
    need = f"{kept} and needs {size / 1e6:.0f} MB"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full; {need}."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"it cannot be written to ({error.strerror}); {need}."
    return f"it is no folder that can be written to ({error.strerror}); {need}."
