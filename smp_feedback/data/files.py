"""Names of files: which are images, which hold labels, how they are sorted, and how they are said."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from smp_feedback.errors import InvalidType, InvalidValue, did_you_mean

Root = str | Path | None
Size = int | Sequence[int] | None
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".pgm", ".ppm")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")  # JPEG would blur labels into one another


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """Sorts ``frame2`` before ``frame10``; the name itself decides between ``frame2`` and ``frame02``.

    >>> [path.name for path in sorted([Path("f10.png"), Path("f2.png"), Path("f1.png")], key=natural_key)]
    ['f1.png', 'f2.png', 'f10.png']
    """
    parts = re.split(r"(\d+)", path.stem.lower())  # text and digits take turns, so like is compared with like
    return [int(part) if k % 2 else part for k, part in enumerate(parts)], path.name


def natural_order(path: PurePath) -> list[tuple[list[str | int], str]]:
    """The same for a path: folder by folder, so that what lies together stays together.

    >>> sorted(["b.png", "a/f10.png", "a/f9.png"], key=lambda name: natural_order(Path(name)))
    ['a/f9.png', 'a/f10.png', 'b.png']
    """
    return [natural_key(Path(part)) for part in path.parts]


def composed(name: str) -> str:
    """*name* with each accented letter as one sign, where some systems store two (``e`` and its accent).

    >>> len("e\u0301"), len(composed("e\u0301"))
    (2, 1)
    """
    return unicodedata.normalize("NFC", name)


def as_path(name: str, value: str | Path) -> Path:
    """*value* as a path; ``~`` is the user's home.

    Raises:
        InvalidType: If it is no path.
        InvalidValue: If there is no such user.

    >>> as_path("root", "~/data") == Path.home() / "data"
    True
    """
    if not isinstance(value, (str, os.PathLike)) or value == "":
        raise InvalidType(f"{name}={value!r}: expected a path.")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        user = Path(value).parts[0]
        raise InvalidValue(f"{name}={str(value)!r}: {user} is nobody's home; ./{user} is the folder here.") from None


def below(root: Path, path: Path) -> Path:
    """*path* as seen from *root*, or as it is where it lies elsewhere."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def absent(path: Path) -> str:
    """Why there is no folder *path*, and what is there that is called nearly so.

    >>> absent(Path(__file__).parent / "corrupton")
    "...corrupton does not exist. Did you mean 'corruption'?"
    """
    there, name = path, path.name
    while not there.exists() and there != there.parent:
        there, name = there.parent, there.name
    if there.is_file():
        return f"{there} is a file."
    return f"{there / name} does not exist. {meant(name, subfolders(there))}".strip()


def meant(name: str, known: Iterable[str]) -> str:
    """``Did you mean ...?``, or nothing where nothing is called nearly so."""
    close = did_you_mean(name, known)
    return f"Did you mean {' or '.join(map(repr, close))}?" if close else ""


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in *folder*, none where it cannot be read."""
    try:
        return sorted(p.name for p in folder.iterdir() if p.is_dir())
    except OSError:
        return []


def some(names: Sequence[str], most: int = 3) -> str:
    """The first *most* of *names*, for an error."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def by(size: Sequence[int]) -> str:
    """``480 x 640``."""
    return " x ".join(map(str, size))


def needed(dataset: str, root: Root, holds: str) -> Path:
    """*root* as a path.

    >>> needed("camvid", None, "train/ and trainannot/")
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: camvid: root=None: expected the folder that holds train/ and trainannot/.
    """
    if root is None:
        raise InvalidValue(f"{dataset}: root=None: expected the folder that holds {holds}.")
    return as_path("root", root)
