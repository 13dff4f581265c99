"""Where the files of a split lie, and which part of their names image and mask have in common."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from smp_feedback.data.files import as_path, composed

HOLES = re.compile(r"(\{split\}|\{stem\}|\{class\})")
SUFFIX = re.compile(r"\.[a-z]{2,5}\d?$", re.IGNORECASE)  # .png and .jp2, not the .2 of a name such as v1.2


@dataclass(frozen=True)
class Place:
    """A folder, and what the files of interest in it are called.

    Attributes:
        folder: What of the path holds for every one of them.
        names: Matches their paths below *folder*, as :meth:`stem` writes them.
        weight: The more of a path is said, the greater; of two places that fit, the greater is meant.
        is_folder: All files in it are meant, whatever they are called.
    """

    folder: Path
    names: re.Pattern[str]
    weight: tuple[int, int]
    is_folder: bool

    def stem(self, path: Path) -> str | None:
        """What stands for ``{stem}`` in *path*; None where it is called otherwise, lies elsewhere or is hidden."""
        folder, whole = self.folder.as_posix().rstrip("/") + "/", path.as_posix()
        inside = whole if folder == "./" else whole.removeprefix(folder)  # text: paths would take most of the time
        if path.name.startswith(".") or (inside == whole and folder != "./"):
            return None
        match = self.names.fullmatch(written(inside))
        return match["stem"] if match else None


def place(
    root: Path, told: str, suffixes: Sequence[str], *, split: str | None = None, classes: Sequence[str] = ()
) -> Place:
    """The place that *told* describes: a folder, or a path in which ``{stem}`` is what image and mask share.

    A folder's files may lie in subfolders, which then belong to the stem. Upper and lower case are one in a suffix,
    and a path without one, or with ``.*``, takes any of *suffixes*.

    Args:
        root: What *told* is below, unless it is absolute.
        told: May have ``{split}``, ``{stem}`` (also several times) and ``{class}``.
        suffixes: Of files in a folder.
        split: For ``{split}``; None is any.
        classes: What ``{class}`` may be; none is anything.

    >>> place(Path("data"), "{split}/{stem}_mask.png", (".png",), split="val").stem(Path("data/val/sub/a_mask.PNG"))
    'sub/a'
    >>> place(Path("data"), "{split}", (".png",), split="val").stem(Path("data/val/b.png"))
    'b'
    """
    whole = root / as_path("images or masks", filled(told, split=split))
    fixed = list(takewhile(lambda part: not HOLES.search(part), whole.parts))
    rest = "/".join(whole.parts[len(fixed) :])
    is_folder = "{stem}" not in rest
    if is_folder:
        rest = f"{rest}/{{stem}}" if rest else "{stem}"
    rest, end = _ended(rest, suffixes)
    holes = {"{split}": "[^/]+", "{class}": "|".join(map(re.escape, map(composed, classes))) or "[^/]+"}
    pattern, known = "", False
    for part in HOLES.split(rest):
        if part == "{stem}":
            pattern, known = pattern + ("(?P=stem)" if known else "(?P<stem>.+)"), True
        else:
            pattern += f"(?:{holes[part]})" if part in holes else re.escape(composed(part))
    literal = len(HOLES.sub("", rest)) + (len(end) if "|" not in end else 0)
    return Place(Path(*fixed), re.compile(pattern + end, re.DOTALL), (len(fixed), literal), is_folder)


def filled(told: str, **holes: str | None) -> str:
    """*told* with its holes filled; what is None stays open.

    >>> filled("{split}/{stem}.png", split="val", stem=None)
    'val/{stem}.png'
    """
    for name, value in holes.items():
        told = told if value is None else str(told).replace(f"{{{name}}}", value)
    return told


def written(path: str) -> str:
    """A path as places compare it: one sign a letter, and its suffix in lower case.

    >>> written("A/B.PNG")
    'A/B.png'
    """
    stem, dot, suffix = composed(path).rpartition(".")
    return f"{stem}{dot}{suffix.lower()}"


def _ended(rest: str, suffixes: Sequence[str]) -> tuple[str, str]:
    """*rest* without its suffix, and a pattern of what it may be."""
    if rest.endswith(".*"):
        rest = rest[:-2]
    elif found := SUFFIX.search(rest):
        return rest[: found.start()], re.escape(found[0].lower())
    return rest, f"(?:{'|'.join(map(re.escape, suffixes))})"
