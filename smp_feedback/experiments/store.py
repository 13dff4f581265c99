"""The folder of an experiment: one at a time, with one set of settings, each run kept as soon as it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from safetensors.torch import save_file
from torch import nn

from smp_feedback.errors import InvalidValue
from smp_feedback.experiments.parallel import run_all
from smp_feedback.saving.files import replace_file

K = TypeVar("K")
MODELS = "models"  # where weights are kept, in the folder of an experiment


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Let nobody else write into *folder* meanwhile; the lock of a process that was killed is free.

    Args:
        folder: The experiment's.
        what: What it is, for the error: ``a comparison``.

    Raises:
        InvalidValue: If somebody does.
    """
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise InvalidValue(f"{folder}: {what} is running there; wait for it, or give another --out.") from None


def claim(folder: Path, settings: Mapping[str, Any], what: str) -> None:
    """Make *folder* the experiment's own, or see that it is.

    Raises:
        InvalidValue: If runs with other settings are kept there.
    """
    mark, wanted = folder / "settings.json", json.dumps(settings, indent=2)
    if mark.is_file() and mark.read_text() != wanted and any((folder / "runs").glob("*.json")):
        raise InvalidValue(
            f"{folder} holds {what} with other settings: give another --out, or remove it. "
            f"{_differences(mark.read_text(), wanted)}"
        )
    (folder / "runs").mkdir(exist_ok=True)
    replace_file(mark, lambda path: path.write_text(wanted))


def _differences(mark: str, wanted: str) -> str:
    """What was asked for there, and is now, where the two differ."""
    try:
        there = dict(json.loads(mark))
    except (ValueError, TypeError):
        return "Its settings.json cannot be read."
    now = json.loads(wanted)
    return "; ".join(
        f"there {k}={there.get(k)}, here {now.get(k)}" for k in {**there, **now} if there.get(k) != now.get(k)
    )


def path_of(folder: Path, key: object) -> Path:
    """Where the run of *key* is kept."""
    return folder / "runs" / f"{key}.json"


def keep(folder: Path, key: object, run: Mapping[str, Any]) -> None:
    """Keep a run, whole."""
    replace_file(path_of(folder, key), lambda path: path.write_text(json.dumps(run)))


def kept(folder: Path, key: object) -> dict[str, Any] | None:
    """The run of *key*, if it is there and whole."""
    try:
        return dict(json.loads(path_of(folder, key).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def keep_weights(folder: Path, key: object, model: nn.Module) -> None:
    """Keep the weights of the model of *key* in *folder*, whole."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    replace_file(folder / f"{key}.safetensors", lambda path: save_file(tensors, path))


def all_runs(
    folder: Path,
    keys: Iterable[K],
    work: Callable[[K], dict[str, Any]],
    jobs: int,
    advance: Callable[[K, Mapping[str, Any] | None], None],
) -> list[dict[str, Any]]:
    """The runs of *keys*, in their order: those that are kept, and what *work* makes of the others, kept as it comes.

    Args:
        folder: The experiment's.
        keys: All of its runs.
        work: Trains and scores one; picklable, where *jobs* > 1.
        jobs: How many at the same time.
        advance: Called with each key, and its run once it is there or None as it begins.
    """
    found = {key: kept(folder, key) for key in keys}
    missing = [key for key, there in found.items() if there is None]
    for key, there in found.items():
        if there is not None:
            advance(key, there)
    (folder / MODELS).mkdir(exist_ok=True)
    for key, made in run_all(work, missing, jobs, lambda key: advance(key, None)):
        keep(folder, key, made)
        advance(key, made)
        found[key] = made
    return [there for there in found.values() if there is not None]
