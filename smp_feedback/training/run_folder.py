"""The folder of a run: how it is filled, what is in it, and how it is found again."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from lightning import LightningModule
from lightning.pytorch.callbacks import Callback, LambdaCallback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from smp_feedback.config.data import DataConfig
from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.models.normalisation import given_config
from smp_feedback.saving.files import replace_file
from smp_feedback.saving.run_parts import keep_parts
from smp_feedback.surgery.cuts import cut_name
from smp_feedback.training.checkpoints import LAST, KeepsBest, StopsEarly, read_checkpoint
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.logs import GoesOn, OneCSV
from smp_feedback.training.same_settings import CONFIG
from smp_feedback.training.trainer import build_trainer, last_checkpoint, reliable

MODEL, DATA = "model", "data.json"
STARTED = "SMP_FEEDBACK_RUN"  # the folder of this run, for the processes that it starts


def train_in(
    folder: Path,
    module: LightningModule,
    data: PairsModule,
    trainer: dict[str, Any],
    *,
    monitor: str,
    config: str,
    seed: int,
    save_every: int,
    patience: int | None,
    resume: bool,
    begin: Callable[[], None],
    more: Sequence[Callback] = (),
) -> bool:
    """Train *module*, or go on with it, until it holds the weights that have the best score *monitor*.

    *trainer* is what Lightning's trainer is told, *config* what ``config.yaml`` is to say: all that it takes to do this
    again. *patience* is in validations. *begin* is called before the first step, in the one process that speaks.
    *more* are callbacks.

    Returns:
        Whether this is that process.
    """
    callbacks: list[Callback] = [KeepsBest(folder, monitor), *reliable(seed, folder, save_every)]
    if patience is not None:
        callbacks.append(StopsEarly(monitor, patience))

    def keep(trainer: Any, _: Any = None) -> None:
        if trainer.is_global_zero:
            replace_file(folder / CONFIG, lambda draft: draft.write_text(config))
            model = cast(Any, module).model
            keep_data(folder, model)
            keep_parts(folder, yaml.safe_load(config) or {}, cut_name(model))

    loggers = _loggers(trainer, folder, resume=resume)
    if resume:  # only once the checkpoint has taken them: a refused resume changes nothing
        callbacks.append(LambdaCallback(on_train_start=keep))
        callbacks += [GoesOn(log) for log in loggers if isinstance(log, OneCSV)]
    made = build_trainer(trainer, folder, [*callbacks, *more], logger=loggers)
    if not resume:
        keep(made)
    if made.is_global_zero:
        begin()
    module.train()
    made.fit(module, data, ckpt_path=last_checkpoint(folder) if resume else None)
    if made.is_global_zero:
        load_weights(module, checkpoint_of(folder))
    return made.is_global_zero


def _loggers(settings: dict[str, Any], folder: Path, *, resume: bool) -> list[Any]:
    """TensorBoard and CSV, unless the settings bring their own or none."""
    given = settings.get("logger")
    if given not in (None, True):
        return list(given) if isinstance(given, (list, tuple)) else [given] if given else []
    return [OneCSV(folder, resume=resume), TensorBoardLogger(folder, name="tensorboard", version="")]


def fresh_folder(out: str | None, resume: str | None, verb: str) -> Path:
    """The folder of a new run, or of the one to resume."""
    if resume is not None:
        return Path(resume)
    folder = free_folder(out, verb)
    if (folder / LAST).exists():
        raise InvalidValue(f"{folder} holds a run: go on with it by --resume {folder}, or give another --out.")
    return folder


def free_folder(out: str | None, verb: str) -> Path:
    """*out*, or ``runs/VERB/TIME``; the processes that a run starts are told the same.

    Raises:
        InvalidValue: If there is no *out*, and somebody else, such as torchrun, has started several processes.
    """
    parent, _, told = os.environ.get(STARTED, "").partition(" ")
    if "LOCAL_RANK" in os.environ and parent == str(os.getppid()):
        return Path(told)
    if out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InvalidValue("Each process of torchrun would name a folder of its own by the time: give --out DIR.")
    stem = Path("runs", verb, time.strftime("%Y-%m-%d_%H-%M-%S"))
    names = (stem if k == 1 else stem.with_name(f"{stem.name}_{k}") for k in itertools.count(1))
    folder = Path(out) if out is not None else next(name for name in names if not name.exists())
    os.environ[STARTED] = f"{os.getpid()} {folder}"
    return folder


def keep_data(folder: Path, model: nn.Module) -> None:
    """Write ``data.json``: what *model* expects of its images, and what its answers mean."""
    text = json.dumps(given_config(model).config.to_dict(), indent=2)
    replace_file(folder / DATA, lambda draft: draft.write_text(text))


def kept_data(folder: Path) -> DataConfig | None:
    """What ``data.json`` in *folder* says; None where there is none, as in a run of 0.1.

    Raises:
        InvalidValue: If it cannot be understood, naming it.
    """
    path = folder / DATA
    if not path.is_file():
        return None
    try:
        return DataConfig.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, RecursionError, FeedbackError) as error:
        raise InvalidValue(f"{path} is not what fit writes: {error}") from None


def weights_of(run: str | None, weights: str) -> Path:
    """The checkpoint to score or predict with: the *best* or the *last* of *run*, or any by its path."""
    if weights not in ("best", "last"):
        path = Path(weights)
    elif run is None:
        raise InvalidValue("Whose weights? Give --run DIR, the --out of fit, or --weights FILE.")
    else:
        path = checkpoint_of(Path(run), weights)
    if not path.is_file():
        raise InvalidValue(f"{path}: expected a checkpoint, there is none.")
    return path


def checkpoint_of(folder: Path, weights: str = "best") -> Path:
    """The best or the last checkpoint of a run; one that never validated has the last alone."""
    path = folder / f"{weights}.ckpt"
    return path if path.is_file() or weights == "last" else folder / LAST


def load_weights(module: nn.Module, path: Path) -> None:
    """The weights in *path*, the averaged ones if there are any.

    Raises:
        InvalidValue: If they belong to another model.
    """
    try:
        module.load_state_dict(read_checkpoint(path)["state_dict"])
    except (RuntimeError, KeyError) as error:
        raise InvalidValue(
            f"{path} holds the weights of another model than the settings build: {error!s:.300}"
        ) from None
    cut = learned_cut(path.parent)
    if cut is not None:
        cast(Any, module).opened.choose_cut(cut)


def learned_cut(run: Path) -> float | None:
    """The change of the state that the model of *run* learned to take for a cut; its checkpoints are from before."""
    saved = run / MODEL / "config.json"
    if not saved.is_file():
        return None
    try:
        told = json.loads(saved.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidValue(f"{saved} is no JSON: {error}") from None
    loop = told.get("feedback") if isinstance(told, dict) else None
    found = loop.get("cut") if isinstance(loop, dict) else None
    if not isinstance(found, float | int | None) or isinstance(found, bool):
        raise InvalidValue(f"{saved}: feedback.cut={found!r:.60}: expected a number, or null.")
    return found


def save_model(module: LightningModule, folder: Path, dataset: str) -> list[Path]:
    """The model alone, for ``from_pretrained`` and ``smp-feedback export``; smp's own way for smp's own model.

    A feed-forward model that is not smp's has no such way, and is left in its checkpoints.
    """
    save = getattr(cast(Any, module.model), "save_pretrained", None)
    if save is None:
        return []
    module.cpu().eval()
    save(folder / MODEL, dataset=dataset)
    if not isinstance(module.model, FeedbackModel):  # smp's own way has no place for it
        keep_data(folder / MODEL, cast(nn.Module, module.model))
    return [folder / MODEL]
