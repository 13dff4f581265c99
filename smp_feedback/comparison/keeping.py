"""The folder of an experiment: one at a time, with one set of settings, each run kept as soon as it is there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from smp_feedback.errors import InvalidValue
from smp_feedback.saving.files import replace_file


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
