"""The folder of an experiment: one at a time, with one set of settings, each run kept as soon as it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from safetensors.torch import load_file, save
from torch import nn

from smp_feedback.errors import InvalidValue
from smp_feedback.saving.drafts import clear_drafts
from smp_feedback.saving.files import replace_file

SEEDS = "seeds"
"""The setting that may grow: a run knows its own seed alone, so more of them leave those that are kept as they are."""

RENAMED = {"images": "train_count"}
"""Settings by what they were called."""


class Trained(NamedTuple):
    """What a run brings: its numbers, as the results hold them, and its model's weights, as safetensors does."""

    found: dict[str, Any]
    weights: bytes

    @classmethod
    def of(cls, model: nn.Module, found: dict[str, Any]) -> Trained:
        """Of *model*, of which *found* was measured."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
        return cls(found, save(tensors))


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
    """Make *folder* the experiment's own, or see that it is; it may have more seeds than were asked for there.

    Raises:
        InvalidValue: If runs with other settings are kept there, or of more seeds.
    """
    mark, text = folder / "settings.json", json.dumps(settings, indent=2)
    taken = mark.is_file() and any((folder / "runs").glob("*.json"))
    if taken and (differs := _differences(mark.read_text(), json.loads(text))):
        raise InvalidValue(f"{folder} holds {what} with other settings: give another --out, or remove it. {differs}")
    for name in ("runs", "models"):
        (folder / name).mkdir(exist_ok=True)
    clear_drafts(folder)  # of an experiment that was killed while it wrote
    replace_file(mark, lambda path: path.write_text(text))


def _differences(mark: str, now: Mapping[str, Any]) -> str:
    """What was asked for there, and is now, where the two differ."""
    try:
        kept: dict[str, Any] = dict(json.loads(mark))
        there = {RENAMED.get(name, name): value for name, value in kept.items()}
    except (ValueError, TypeError, RecursionError):
        return "Its settings.json cannot be read."
    differing = [k for k in {**there, **now} if there.get(k) != now.get(k) and not (k == SEEDS and _grows(there, now))]
    return "; ".join(f"there {k}={there.get(k)}, here {now.get(k)}" for k in differing)


def _grows(there: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    asked, kept = now.get(SEEDS), there.get(SEEDS)
    return isinstance(kept, int) and isinstance(asked, int) and kept < asked


def run_path(folder: Path, key: object) -> Path:
    """Where the numbers of *key* are kept."""
    return folder / "runs" / f"{key}.json"


def weights_path(folder: Path, key: object) -> Path:
    """Where the weights of *key* are kept."""
    return folder / "models" / f"{key}.safetensors"


def keep(folder: Path, key: object, made: Trained) -> None:
    """Keep a run: each file whole, and its numbers last, which say that it is there."""
    replace_file(weights_path(folder, key), lambda path: path.write_bytes(made.weights))
    replace_file(run_path(folder, key), lambda path: path.write_text(json.dumps(made.found)))


def kept(folder: Path, key: object) -> dict[str, Any] | None:
    """The numbers of *key*, if they are there and whole."""
    try:
        return dict(json.loads(run_path(folder, key).read_text()))
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return None


def restored(folder: Path, key: object, make: Callable[[], nn.Module]) -> nn.Module | None:
    """What *make* makes with the weights of *key*, if they are in *folder*."""
    path = weights_path(folder, key)
    if not path.is_file():
        return None
    model = make()
    model.load_state_dict(load_file(path))
    return model.eval()
