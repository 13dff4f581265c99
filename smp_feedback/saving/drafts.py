"""Drafts: what is written beside a file before it takes its place, and what of them a killed process left behind.

A draft is hidden, is called ``.NAME.XXXXXXXX.draft``, and is locked by who writes it: the lock ends with its process,
however that ends, so that a draft which nobody holds is nobody's.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".draft"
NAMES = re.compile(r"\..+\.[a-z0-9_]{8}\.draft")
YOUNG = 0.2  # seconds in which one may have been made and not yet been locked
OLD = 86_400  # seconds after which one is nobody's where there are no locks


@contextmanager
def draft_of(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """An empty file, or a *folder*, beside *path*, held while it is written; gone afterwards, if it was not moved.

    >>> with tempfile.TemporaryDirectory() as there, draft_of(Path(there, "a.json")) as draft:
    ...     bool(NAMES.fullmatch(draft.name)), draft.read_bytes(), clear_drafts(Path(there))
    (True, b'', [])
    """
    how = {"dir": path.parent, "prefix": f".{path.name}.", "suffix": SUFFIX}
    if folder:
        draft = Path(tempfile.mkdtemp(**how))  # type: ignore[call-overload]
        handle = os.open(draft, os.O_RDONLY) if fcntl is not None else None
    else:
        handle, name = tempfile.mkstemp(**how)  # type: ignore[call-overload]
        draft = Path(name)
    try:
        if handle is not None:
            _lock(handle)
            if fcntl is None:  # an open file cannot be replaced there
                os.close(handle)
                handle = None
        yield draft
    finally:
        _remove(draft)
        if handle is not None:
            os.close(handle)


def clear_drafts(folder: Path, name: str | None = None) -> list[Path]:
    """Remove the drafts in *folder* and below that no process writes any more, and say which.

    Args:
        folder: Where to look; what it links to is left.
        name: Only those of the file of this name, and only in *folder* itself; None is all.

    Returns:
        What was removed.
    """
    every = "**/.*.draft" if name is None else f".{_literal(name)}.*.draft"
    found = [path for path in folder.glob(every) if NAMES.fullmatch(path.name) and not path.is_symlink()]
    gone = sorted(path for path in found if _is_abandoned(path))
    for path in gone:
        _remove(path)
    return gone


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _is_abandoned(path: Path) -> bool:
    """Whether nobody holds *path*; where that cannot be known, it is somebody's."""
    try:
        age = time.time() - path.stat().st_mtime
        if fcntl is None:
            return age > OLD
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return age > YOUNG and _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Hold what is open as *handle*, until it is closed; False if somebody else does, or the disk has no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
