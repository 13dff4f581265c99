"""The folder of a run: what is in it, and how it is found again."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from jsonargparse import ArgumentParser
from lightning import LightningModule
from rich.console import Console
from torch import nn

from smp_feedback.errors import InvalidValue
from smp_feedback.saving.files import replace_file
from smp_feedback.training.checkpoints import LAST, read_checkpoint

CONFIG, MODEL = "config.yaml", "model"
HOW = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "sync_batchnorm")
LENGTH = ("max_epochs", "max_steps", "limit_train_batches", "overfit_batches")
STARTED = "SMP_FEEDBACK_RUN"  # the folder of this run, for the processes that it starts


def fresh_folder(args: Any, verb: str) -> Path:
    """The folder of a new run, or of the one to resume."""
    if args.resume is not None:
        return Path(args.resume)
    folder = free_folder(args.out, verb)
    if (folder / LAST).exists():
        raise InvalidValue(f"{folder} holds a run: go on with it by --resume {folder}, or give another --out.")
    return folder


def free_folder(out: str | None, verb: str) -> Path:
    """*out*, or ``runs/VERB/TIME``; the processes that a run starts are told the same."""
    parent, _, told = os.environ.get(STARTED, "").partition(" ")
    if "LOCAL_RANK" in os.environ and parent == str(os.getppid()):
        return Path(told)
    stem = Path("runs", verb, time.strftime("%Y-%m-%d_%H-%M-%S"))
    names = (stem if k == 1 else stem.with_name(f"{stem.name}_{k}") for k in itertools.count(1))
    folder = Path(out) if out is not None else next(name for name in names if not name.exists())
    os.environ[STARTED] = f"{os.getpid()} {folder}"
    return folder


def keep_settings(parser: ArgumentParser, args: Any, folder: Path) -> None:
    """Write ``config.yaml``: what ``--config`` takes to do all this again, elsewhere."""
    text = settings_text(parser, args)
    replace_file(folder / CONFIG, lambda draft: draft.write_text(text))


def settings_text(parser: ArgumentParser, args: Any) -> str:
    """All that is told, but for where it is kept, as YAML."""
    kept = args.clone()
    for key in ("config", "resume", "out"):
        kept.pop(key, None)
    return str(parser.dump(kept, format="yaml", skip_unset=False, skip_validation=True))


def check_same(parser: ArgumentParser, args: Any, folder: Path, learnt: Sequence[str] = ("model",)) -> None:
    """A run goes on with the settings that it began with.

    Args:
        parser: Of the settings.
        args: The settings now.
        folder: That of the run, with those that it began with.
        learnt: The groups that say what is learnt, and how.

    Raises:
        InvalidValue: If one that decides what is learnt is another; how it is run may change.
    """
    begun = _decisive(yaml.safe_load((folder / CONFIG).read_text()), learnt)
    for key, now in _decisive(yaml.safe_load(settings_text(parser, args)), learnt).items():
        if begun.get(key, now) != now:
            raise InvalidValue(f"{key}={now}: the run to resume has {key}={begun[key]}; it takes the same.")


def _decisive(settings: dict[str, Any], learnt: Sequence[str]) -> dict[str, Any]:
    """What the weights depend on; one cycle, `fit`'s own schedule, depends on the length of the run, too."""
    trainer = settings["trainer"]
    cycle = "model" in learnt and settings["model"].get("schedule", "its own") is None
    keys = (*HOW, *LENGTH) if cycle else HOW
    groups = {
        **{group: settings[group] for group in learnt},
        "data": {key: value for key, value in settings["data"].items() if key not in ("root", "workers")},
        "trainer": {key: trainer[key] for key in keys if key in trainer},
    }
    named = {f"{group}.{key}": value for group, of in groups.items() for key, value in of.items()}
    return {"seed": settings["seed"], **named}


def weights_of(args: Any) -> Path:
    """The checkpoint to score or predict with."""
    if args.weights in ("best", "last"):
        if args.run is None:
            raise InvalidValue("Whose weights? Give --run DIR, the --out of fit, or --weights FILE.")
        path = checkpoint_of(Path(args.run), args.weights)
    else:
        path = Path(args.weights)
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


def save_model(module: LightningModule, folder: Path, dataset: str) -> list[Path]:
    """The model alone, for ``from_pretrained`` and ``smp-feedback export``; smp's own way for smp's own model.

    A feed-forward model that is not smp's has no such way, and is left in its checkpoints.
    """
    save = getattr(cast(Any, module.model), "save_pretrained", None)
    if save is None:
        return []
    module.cpu().eval()
    save(folder / MODEL, dataset=dataset)
    return [folder / MODEL]


def tell(folder: Path, more: list[Path], *, few: bool = False) -> None:
    """Print where every file went."""
    there = sorted(path for path in folder.rglob("*") if path.is_file() and folder / MODEL not in path.parents)
    shown = there[:3] if few else there
    for path in [*shown, *more]:
        say(f"wrote {path}")
    if len(there) > len(shown):
        say(f"wrote {len(there)} files in all to {folder}")


def say(line: str) -> None:
    """One line, however long: paths are to be copied."""
    Console().print(line, soft_wrap=True, markup=False, highlight=False)
