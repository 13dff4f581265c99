"""Pictures of answers, which say whose they are: what somebody else has put in a folder is not written over."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO

from PIL import Image, PngImagePlugin

from smp_feedback.errors import InvalidValue
from smp_feedback.saving.files import replace_file

SOFTWARE, OURS = "Software", "smp_feedback"
"""What a PNG says of what wrote it, by PNG's own keyword, and what ours say."""
BESIDE = (".png", ".tif", ".geojson")
"""What an answer may be called, beside its name; the first is there of every answer, and says whose it is."""


def write_picture(picture: Image.Image, file: Path | IO[bytes]) -> None:
    """Write *picture* as a PNG that is known again as ours."""
    said = PngImagePlugin.PngInfo()
    said.add_text(SOFTWARE, OURS)
    picture.save(file, format="png", pnginfo=said)


def save_map(picture: Image.Image, path: Path) -> Path:
    """The same, whole or not at all; returns *path*."""
    return replace_file(path, lambda draft: write_picture(picture, draft))


def is_ours(path: Path) -> bool:
    """Whether `save_map` wrote the file *path*."""
    try:
        with Image.open(path) as picture:
            return picture.info.get(SOFTWARE) == OURS
    except (OSError, ValueError, SyntaxError):  # whatever it is, it is none of ours
        return False


def check_free(folder: Path, names: Iterable[str]) -> None:
    """Nothing but answers is lost where files called *names*, without their endings, are written to *folder*.

    Raises:
        InvalidValue: For what stands there and is none: a photograph, a mask, another program's map.
    """
    if not folder.is_dir():
        return
    there = {path.name for path in folder.iterdir()}
    for name in names:
        found = [f"{name}{ending}" for ending in BESIDE if f"{name}{ending}" in there]
        if found and not is_ours(folder / f"{name}{BESIDE[0]}"):
            raise InvalidValue(
                f"{folder / found[0]} is there, and is no answer that was written before; it would be written over. "
                "Give another folder."
            )
