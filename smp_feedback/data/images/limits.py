"""How large a picture may be: one that its head announces as larger is refused before a pixel of it is decoded.

A file of a few kilobytes can announce gigapixels and decode to as many. The most is 2 ** 28 pixels: twice what the
largest cameras (150 million) and a Sentinel-2 tile (121 million) have, the largest WebP, and 0.8 GB of colours. Of
bytes, 16 times as many (4.3 GB): a Sentinel-2 tile of 13 bands of 16 bits is read, one pixel of a million bands is not.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from PIL import Image

from smp_feedback.data.files import by
from smp_feedback.errors import InvalidInput, InvalidValue

MOST = 2**28
BYTES = 16  # of a pixel, on average at most
LIFTED = "SMP_FEEDBACK_MAX_PIXELS"
_opening = threading.Lock()


def most_pixels() -> int:
    """How many pixels a picture may have: what the environment says, or 2 ** 28.

    Raises:
        InvalidValue: If the environment says no whole number.
    """
    said = os.environ.get(LIFTED)
    if said is None:
        return MOST
    try:
        found = int(said)
    except ValueError:
        found = 0
    if found < 1:
        raise InvalidValue(f"{LIFTED}={said!r}: expected a whole number of pixels >= 1, such as {4 * MOST}.")
    return found


def check_size(path: Path, size: Sequence[int], nbytes: int = 0) -> None:
    """A picture of *size* (H, W), and of so many bytes once decoded, is not too large to be read.

    Raises:
        InvalidInput: If it is, naming the file, and how the limit is lifted.

    >>> check_size(Path("a.png"), (50_000, 50_000))
    Traceback (most recent call last):
    smp_feedback.errors.InvalidInput: a.png: its head announces 50000 x 50000 pixels, more than the 268,435,456 that
    are read; if it is no fake and the memory is there, set the environment's SMP_FEEDBACK_MAX_PIXELS to 2500000000.
    """
    most, pixels = most_pixels(), math.prod(size)
    if pixels <= most and nbytes <= BYTES * most:
        return
    many = pixels > most
    of_bytes = "" if many else f" of {nbytes} bytes in all"
    limit = f"{most:,}" if many else f"{BYTES * most:,} bytes"
    raise InvalidInput(
        f"{path}: its head announces {by(size)} pixels{of_bytes}, more than the {limit} that are read; if it is no "
        f"fake and the memory is there, set the environment's {LIFTED} to {max(pixels, -(-nbytes // BYTES))}."
    )


@contextmanager
def opened_picture(file: Path | IO[bytes], path: Path, formats: tuple[str, ...] | None = None) -> Iterator[Any]:
    """*file*, opened by Pillow and not yet decoded, if it is not too large; *path* is what an error names.

    Pillow's own limit, a warning at a third of ours and an error at two thirds, is this one's meanwhile.

    Raises:
        InvalidInput: If it is too large.
        Exception: Whatever Pillow stumbles over.
    """
    with _opening:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = theirs
    with picture:
        check_size(path, (picture.height, picture.width))
        yield picture
