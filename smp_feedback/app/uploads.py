"""What may be uploaded: files up to a limit, pictures up to a number of pixels; and why another is not taken."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from smp_feedback.data.files import by
from smp_feedback.data.images import tiff
from smp_feedback.data.images.limits import LIFTED, opened_picture
from smp_feedback.data.images.pictures import FORMATS
from smp_feedback.data.images.reader import head_of
from smp_feedback.data.images.unreadable import naming_file
from smp_feedback.errors import FeedbackError, InvalidInput, InvalidValue, one_line

UNITS = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
RESIZED, WHOLE = 2**25, 2**22
"""Pixels at most of an image that is resized for the model (33 million), and of one that is shown to it whole (4
million): a U-Net keeps some hundred numbers of each."""


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        nbytes: Of a file, at most.
        pixels: Of a picture, at most.
        lifted: What of the command lets more through.
    """

    nbytes: int = 20 << 20
    pixels: int = RESIZED
    lifted: str = "--max_pixels"

    def check_file(self, path: Path) -> None:
        """The file at *path* is small enough.

        Raises:
            InvalidInput: If it is not, with both numbers.
        """
        if (found := path.stat().st_size) > self.nbytes:
            raise InvalidInput(
                f"{path} has {in_units(found)}, more than the {in_units(self.nbytes)} that are taken (--max_size)."
            )

    def check_image(self, path: Path) -> None:
        """So is the picture in it, by its head: nothing is decoded.

        Raises:
            InvalidInput: If it is too large, or no picture that can be read.
        """
        self.check_file(path)
        try:
            size = announced_size(path)
        except InvalidInput as error:
            if LIFTED not in str(error):
                raise
            announced = str(error).partition(", more than")[0]  # a variable of the environment is nothing for a page
            raise InvalidInput(f"{announced}, {self._most()}") from None
        self.check_pixels(path, size)

    def check_pixels(self, path: Path, size: tuple[int, int]) -> None:
        """A picture of *size* is small enough."""
        if (found := size[0] * size[1]) > self.pixels:
            raise InvalidInput(f"{path} has {by(size)} pixels, {found / 1e6:.1f} million, {self._most()}")

    def _most(self) -> str:
        return f"more than the {self.pixels / 1e6:.1f} million that are taken ({self.lifted})."


def announced_size(path: Path) -> tuple[int, int]:
    """Height and width by the head of the file at *path*, as it is stored.

    For EXIF's orientation `head_of` asks Pillow, which decodes a PNG to find it.

    Raises:
        InvalidInput: If there is no picture that can be read, or one larger than any that is.
    """
    with naming_file(path):
        with path.open("rb") as file:
            if file.read(4) in tiff.HEADS:
                return head_of(path).size
        with opened_picture(path, path, FORMATS) as picture:
            return picture.height, picture.width


def limits_of(nbytes: int, pixels: int | None, *, resizes: bool) -> Limits:
    """The limits of a page; *resizes*: whether images are resized before the model is shown them."""
    if pixels is None:
        pixels = RESIZED if resizes else WHOLE
    hint = "--max_pixels" if resizes else "--size N resizes images, --max_pixels takes larger ones"
    return Limits(nbytes, pixels, hint)


def size_in_bytes(text: str) -> int:
    """Bytes of a size in words; a kilobyte has 1024, as browsers count.

    Raises:
        InvalidValue: If it is none.

    >>> size_in_bytes("20MB"), size_in_bytes("1.5 kb"), size_in_bytes("300")
    (20971520, 1536, 300)
    >>> size_in_bytes("much")
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: max_size='much': expected a size such as 20MB, 500KB or 1GB.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?B?)\s*", str(text), re.IGNORECASE)
    unit = "" if found is None else found[2].upper()
    count = 0 if found is None else round(float(found[1]) * UNITS.get(unit, UNITS.get(f"{unit}B", 1)))
    if count < 1:
        raise InvalidValue(f"max_size={text!r}: expected a size such as 20MB, 500KB or 1GB.")
    return count


def in_units(nbytes: int) -> str:
    """Bytes in words.

    >>> in_units(20 << 20), in_units(1536), in_units(12)
    ('20 MB', '1.5 KB', '12 B')
    """
    for unit in ("GB", "MB", "KB"):
        if nbytes >= UNITS[unit]:
            return f"{nbytes / UNITS[unit]:.3g} {unit}"
    return f"{nbytes} B"


def why_not(error: Exception, path: Path | None = None) -> str:
    """What to say on the page of *error* at the file in *path*: its name alone, for nobody need know where it lay.

    >>> why_not(InvalidInput("uploads/a.png: it is empty."), Path("uploads/a.png"))
    'a.png: it is empty.'
    """
    if not isinstance(error, FeedbackError):
        text = f"This went wrong: {one_line(error)}"
        if isinstance(error, MemoryError) or "alloc" in text:
            text = f"There is not enough memory for this; give --size N to show the model smaller images. ({text})"
    else:
        text = one_line(error)
    return text if path is None else text.replace(str(path), path.name)
