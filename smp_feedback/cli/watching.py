"""A folder that is watched: files are handed on as they arrive, once each, when they are whole."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from smp_feedback.data.folders.finding import is_image, walk

SECONDS = 1.0  # between two looks at the folder
State = tuple[int, int]
"""Bytes, and when they were last changed, in ns."""


class Arrivals:
    """The images below a folder, those in subfolders too, that have come since the last look and are whole by now.

    A file is whole when its size and its time are what they were at the look before; one that is empty is waited for.
    A file that is changed afterwards has arrived anew.

    Args:
        folder: What is watched.
        skip: A folder below it whose files are none of these: that of the answers.
        done: Files that have been handed on before.
    """

    def __init__(self, folder: Path, skip: Path, done: set[str] | None = None) -> None:
        self.folder, self.skip = folder, skip.resolve()
        self.before: dict[Path, State] = {}
        self.done: dict[Path, State | None] = {Path(name): None for name in done or ()}

    def look(self) -> list[Path]:
        """Those that have arrived, in natural order."""
        now = {path: state for path in self._images() if (state := state_of(path)) is not None}
        whole = [path for path, state in now.items() if self._is_new(path, state)]
        self.done |= {path: now[path] for path in whole}
        self.before = now
        return whole

    def waiting(self) -> list[Path]:
        """Those that have not been whole so far."""
        return [path for path, state in self.before.items() if path not in self.done or not state[0]]

    def _is_new(self, path: Path, state: State) -> bool:
        known = self.done.get(path, (0, 0))
        if known is None:  # of a watch before: whatever it is now, it was this
            self.done[path] = state
            return False
        return state[0] > 0 and self.before.get(path) == state and known != state

    def _images(self) -> list[Path]:
        hidden = self.skip
        found = [path for path in walk(self.folder) if is_image(path) and not path.name.startswith(".")]
        return [path for path in found if hidden not in path.resolve().parents]


def state_of(path: Path) -> State | None:
    """Of the file at *path*; None where it is gone again."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def watch(arrivals: Arrivals, stopped: Callable[[], bool], *, seconds: float = SECONDS) -> Iterator[list[Path]]:
    """What arrives, look by look, until it is *stopped*; a look without any gives nothing."""
    while not stopped():
        if found := arrivals.look():
            yield found
        elif not stopped():
            time.sleep(seconds)


@contextmanager
def until_interrupted() -> Iterator[Callable[[], bool]]:
    """Context: whether Ctrl-C was pressed, so that what is begun is ended; a second one interrupts as ever."""
    told: list[int] = []

    def tell(number: int, _: object) -> None:
        if told:
            raise KeyboardInterrupt
        told.append(number)

    before = signal.signal(signal.SIGINT, tell)
    try:
        yield lambda: bool(told)
    finally:
        signal.signal(signal.SIGINT, before)
