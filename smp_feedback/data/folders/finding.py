"""All files below a folder: which are images, and which would be left out without a word."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from smp_feedback.data.files import SUFFIXES, absent, as_path, natural_order, some
from smp_feedback.errors import DataWarning, InvalidValue

BESIDE = (  # kinds that lie beside images and are none: words, tables, places on a map, what systems leave behind
    *(".txt", ".md", ".rst", ".html", ".pdf", ".log", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml"),
    *(".toml", ".ini", ".db", ".py", ".ipynb", ".sh", ".md5", ".sha256", ".zip", ".tar", ".gz", ".tgz", ".7z"),
    *(".tfw", ".jgw", ".pgw", ".wld", ".prj", ".ovr", ".geojson", ".shp", ".shx", ".dbf", ".cpg", ".kml"),
)
WORDS = ("readme", "license", "licence", "copying", "changelog", "makefile", "sha256sums", "md5sums")
OF_SYSTEMS = ("__MACOSX", "@eaDir")  # folders that systems make for themselves
HIDDEN, UNREAD, BROKEN = "hidden", "of a kind that is not read", "linked to nothing"


class LeftOut(NamedTuple):
    """A file that is not used, and why."""

    why: str
    path: Path


def find_images(path: str | Path) -> tuple[list[Path], tuple[LeftOut, ...]]:
    """The images below a folder, subfolders included, in natural order, and what looks like one and is not read.

    Args:
        path: A folder, or one image.

    Raises:
        InvalidValue: If it does not exist, or there is no image.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("a10.png", "a9.png", "new.heic", "notes.txt"):
    ...     (folder / name).touch()
    >>> found, left_out = find_images(folder)
    >>> [path.name for path in found], [(path.name, why) for why, path in left_out]
    (['a9.png', 'a10.png'], [('new.heic', 'of a kind that is not read')])
    """
    path = as_path("images", path)
    expected = f"{path}: expected an image or a folder of images ({', '.join(SUFFIXES)})"
    if not path.exists():
        raise InvalidValue(f"{expected}; {absent(path)}")
    files = walk(path) if path.is_dir() else [path]
    reasons = {p: unread(p) for p in files}
    found = [p for p in files if reasons[p] is None and is_image(p)]
    left_out = tuple(LeftOut(why, p) for p, why in reasons.items() if why)
    if not found:
        raise InvalidValue(f"{expected}, found {'none' if not left_out else said(left_out)}.")
    return found, left_out


def walk(folder: Path) -> list[Path]:
    """All files below *folder* in natural order, through links; what hidden folders hold is not looked at."""
    files, seen = [], set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".") and name not in OF_SYSTEMS]
        files += [Path(here, name) for name in names]
    return sorted(files, key=lambda path: natural_order(path.relative_to(folder)))


def is_image(path: Path) -> bool:
    """*path* is called as images are that are read; the forks that macOS leaves (``._a.png``) are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def unread(path: Path) -> str | None:
    """Why *path* is not read though it may well be an image; None for what is read, and for what is surely none."""
    if path.name.startswith("."):
        return HIDDEN if is_image(path) else None
    if is_image(path):
        return None if path.exists() else BROKEN
    words = path.suffix.lower() in BESIDE or path.stem.lower() in WORDS
    return None if words else UNREAD


def said(left_out: Sequence[LeftOut]) -> str:
    """``2 of a kind that is not read (a.npy, b.heic), 1 hidden (.c.png)``."""
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for why, path in left_out:
        by_reason[why].append(path.name)
    return ", ".join(f"{len(names)} {why} ({some(names)})" for why, names in by_reason.items())


def warn_left_out(where: object, left_out: Iterable[LeftOut], used: int) -> None:
    """Say, once and in one line, what is left out of *where*, of which *used* files are used."""
    all_of_it = tuple(left_out)
    if all_of_it:
        one = len(all_of_it) == 1
        what = f"{len(all_of_it)} {'file is' if one else 'files are'} left out, {used} used"
        warnings.warn(f"{where}: {what}: {said(all_of_it)}.", DataWarning, stacklevel=4)
