"""Names of files: which are images, which hold labels, how they are sorted, and how they are said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

SUFFIXES = (*(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".pgm", ".ppm"),)
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")  # JPEG would blur labels into one another


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """Sorts ``frame2`` before ``frame10``; the name itself decides between ``frame2`` and ``frame02``.

    >>> [path.name for path in sorted([Path("f10.png"), Path("f2.png"), Path("f1.png")], key=natural_key)]
    ['f1.png', 'f2.png', 'f10.png']
    """
    parts = re.split(r"(\d+)", path.stem.lower())  # text and digits take turns, so like is compared with like
    return [int(part) if k % 2 else part for k, part in enumerate(parts)], path.name


def some(names: Sequence[str]) -> str:
    """The first three of *names*, for an error."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def by(size: Sequence[int]) -> str:
    """``480 x 640``."""
    return " x ".join(map(str, size))
