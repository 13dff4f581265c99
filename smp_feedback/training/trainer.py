"""Lightning's trainer as we ask for it, and one training run: seeded, and nothing written that was not asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar, StochasticWeightAveraging
from lightning.pytorch.utilities import rank_zero_only

from smp_feedback.checks import at_home, check_whole
from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.training.by_hand import check_by_hand
from smp_feedback.training.callbacks import SeededSteps, StopsAtNaN
from smp_feedback.training.checkpoints import (
    BEST,
    LAST,
    KeepsBest,
    SavesLast,
    WholeCheckpoints,
    check_room,
    checkpoint_bytes,
)
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.progress import OneLine
from smp_feedback.training.quiet import quiet

M = TypeVar("M", bound=lightning.LightningModule)


def fit(
    module: M,
    data: PairsModule,
    *,
    steps: int,
    seed: int = 0,
    progress: bool = True,
    accelerator: str = "auto",
    clip: float | None = None,
    out: str | Path | None = None,
    save_every: int = 200,
    resume: bool = False,
) -> M:
    """Train *module* for *steps* optimiser steps; two modules fitted with one seed see the same batches.

    Args:
        module: What to train, such as :class:`FeedbackModule`; its model ends on the CPU, evaluating.
        data: What to train it on; takes over *seed*.
        steps: Optimiser steps, >= 1.
        seed: Seeds the order of images, what is drawn for each, and dropout.
        progress: Whether to show a progress bar.
        accelerator: Lightning's.
        clip: Largest norm of the gradient; None leaves it.
        out: A folder for ``last.ckpt``; None writes nothing.
        save_every: Steps between two saves of it inside an epoch.
        resume: Go on from the ``last.ckpt`` in *out*, if there is one, to the same weights as without the
            interruption (bit for bit on a CPU).

    Returns:
        *module*.

    Raises:
        InvalidValue, InvalidType: If *steps* is no whole number >= 1.
        FeedbackError: If *out* cannot be written to or has too little room, before training.
        NotFinite: If the loss is NaN or infinite, naming the batch.
    """
    check_whole("steps", steps)
    check_whole("save_every", save_every)
    if resume and out is None:
        raise InvalidValue("resume=True without out=: expected the folder that holds last.ckpt.")
    check_by_hand(module, clip)
    lightning.seed_everything(seed, verbose=False)
    data.seed = seed
    folder = None if out is None else room_for(module, at_home(out))
    settings = {
        "max_steps": steps,
        "accelerator": accelerator,
        "devices": 1,
        "limit_val_batches": 0 if data.val is None else 1.0,
        "enable_progress_bar": progress,
        "gradient_clip_val": clip,
    }
    bar: list[Callback] = [OneLine(lines=10)] if progress else []  # epochs may be many, and a log file wants few lines
    module.train()
    with quiet():
        trainer = build_trainer(settings, folder, [*bar, *reliable(seed, folder, save_every)])
        trainer.fit(module, data, ckpt_path=last_checkpoint(folder) if resume else None)
    module.cpu().eval()
    return module


def reliable(seed: int, folder: Path | None, save_every: int) -> list[Callback]:
    """What every run needs: draws that repeat, an end at NaN, and a checkpoint to go on from."""
    callbacks: list[Callback] = [SeededSteps(seed), StopsAtNaN()]
    return callbacks if folder is None else [*callbacks, SavesLast(folder, save_every)]


def room_for(module: lightning.LightningModule, folder: Path) -> Path:
    """*folder*, with room for a new checkpoint beside the last and the best one; one process writes, and looks."""
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        return folder
    averaged = getattr(module, "ema", None) is not None
    return check_room(folder, 3 * checkpoint_bytes(module, averaged=averaged))


def last_checkpoint(folder: Path | None) -> Path | None:
    """The checkpoint to go on from; None if the run was killed before the first. Half-written ones are removed."""
    for draft in () if folder is None else (*folder.glob(f".{LAST}.*"), *folder.glob(f".{BEST}.*")):
        draft.unlink(missing_ok=True)
    path = None if folder is None else folder / LAST
    return path if path is not None and path.is_file() else None


def check_accelerator(accelerator: str) -> None:
    """See that Lightning finds *accelerator*, before anything is begun.

    Raises:
        InvalidValue: If it does not.
    """
    with quiet():
        build_trainer({"accelerator": accelerator})


def build_trainer(
    settings: Mapping[str, Any], folder: Path | None = None, callbacks: Sequence[Callback] = (), *, logger: Any = False
) -> lightning.Trainer:
    """The trainer that *settings* ask for, with our callbacks beside theirs, and its complaints as ours.

    Raises:
        InvalidValue: If it refuses *settings*.
    """
    given = settings.get("callbacks") or []
    theirs = given if isinstance(given, list) else [given]
    if any(isinstance(one, KeepsBest) for one in callbacks):
        check_kept(theirs)
    shown = settings.get("enable_progress_bar") is not False
    barred = any(isinstance(one, ProgressBar) for one in (*theirs, *callbacks))
    bar: list[Callback] = [OneLine()] if shown and not barred else []
    ours = {
        "callbacks": [*theirs, *bar, *callbacks],
        "logger": logger,
        "plugins": [WholeCheckpoints()],
        "default_root_dir": folder,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
    }
    try:
        return lightning.Trainer(**{**settings, **_usual(settings), **ours})
    except FeedbackError:
        raise
    except (MisconfigurationException, ValueError, TypeError, ModuleNotFoundError) as error:
        raise InvalidValue(f"trainer: {error}") from error


def check_kept(callbacks: Sequence[Any]) -> None:
    """What a run keeps, the weights that scored best, is what its *callbacks* leave.

    Raises:
        InvalidValue: For Lightning's StochasticWeightAveraging, whose average comes after the last score.
    """
    if any(isinstance(one, StochasticWeightAveraging) for one in callbacks):
        raise InvalidValue(
            "trainer.callbacks: StochasticWeightAveraging averages once all is scored, and a run keeps the weights "
            "that scored best; model.ema 0.999 is an average that is scored and kept."
        )


def _usual(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What we ask for where *settings* leave it open."""
    usual: dict[str, Any] = {}
    if settings.get("max_epochs") is None and settings.get("max_steps") in (None, -1) and not settings.get("max_time"):
        usual["max_epochs"] = 50
    if settings.get("log_every_n_steps") is None:
        usual["log_every_n_steps"] = 10
    if settings.get("strategy") in ("auto", "ddp"):  # smp keeps encoder stages that it does not run
        usual["strategy"] = "ddp_find_unused_parameters_true" if in_several(settings) else "auto"
    return usual


def in_several(settings: Mapping[str, Any]) -> bool:
    """Whether *settings* of a trainer ask for more than one process.

    >>> in_several({"devices": "auto"}), in_several({"devices": 1, "num_nodes": 2})
    (False, True)
    """
    return str(settings.get("devices")) not in ("None", "auto", "1") or settings.get("num_nodes", 1) > 1
