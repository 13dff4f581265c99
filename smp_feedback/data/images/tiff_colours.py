"""What the samples of a TIFF's page stand for, and how they become grey, colours or bands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smp_feedback.data.images.raster import PixelLayout, Pixels
from smp_feedback.errors import InvalidInput

WHITE_IS_0, BLACK_IS_0, RGB, PALETTE, INK, YCBCR = 0, 1, 2, 3, 5, 6  # PhotometricInterpretation
JPEG = (6, 7, 33007, 34892)  # compressions whose decoder makes RGB of YCbCr
ALPHA = (1, 2)  # ExtraSamples: associated and unassociated
COLOUR_MAP, INK_SET = 320, 332  # tags
WHOLE = "u"  # NumPy's letter of numbers that have a natural end


def layout(path: Path, page: Any) -> PixelLayout:
    """What a pixel of *page* holds, once it is `shown`.

    Raises:
        InvalidInput: If that is neither grey, colours nor bands.
    """
    samples, photometric = page.samplesperpixel, int(page.photometric)
    plain = isinstance(page.bitspersample, int) and page.dtype is not None and page.dtype.kind in "biuf"
    if not plain:
        raise _refused(path, f"values of {page.bitspersample} bits in format {int(page.sampleformat)}")
    kind, bits = "uint8" if page.dtype.kind == "b" else page.dtype.name, page.bitspersample
    white = _white(page)
    if _has_palette(page):
        deep = palette_of(page).dtype.name
        return PixelLayout(bands=3, kind=deep, white=255 if deep == "uint8" else 65535)
    if photometric == INK and (samples, bits, page.tags.valueof(INK_SET, default=1)) == (4, 8, 1):
        return PixelLayout(bands=3)
    ycbcr = photometric == YCBCR and samples == 3 and page.compression in JPEG and page.planarconfig == 1
    inverted = photometric == WHITE_IS_0 and samples == 1 and white is not None
    if not (photometric in (BLACK_IS_0, RGB) or ycbcr or inverted):
        name = getattr(page.photometric, "name", photometric)
        raise _refused(path, f"{samples} samples of {kind} with PhotometricInterpretation {name}")
    return PixelLayout(bands=samples, kind=kind, white=white, alpha=_alpha(page))


def shown(page: Any, stored: NDArray[Any]) -> Pixels:
    """The samples of *page*, (H, W, samples), as `layout` says: palettes and ink as RGB, white above black."""
    photometric = int(page.photometric)
    if photometric == PALETTE:
        return palette_of(page)[stored[..., 0].astype(np.intp)]
    if photometric == INK:
        return np.array(Image.fromarray(np.ascontiguousarray(stored), "CMYK").convert("RGB"))
    if stored.dtype.kind == "b":
        stored = stored.astype(np.uint8) * np.uint8(255)
    return stored.dtype.type(_white(page)) - stored if photometric == WHITE_IS_0 else stored


def _has_palette(page: Any) -> bool:
    """A pixel is one number, of a colour of the palette."""
    indices = page.samplesperpixel == 1 and page.dtype.kind in "bu"
    return indices and int(page.photometric) == PALETTE and page.tags.valueof(COLOUR_MAP) is not None


def _white(page: Any) -> int | None:
    """The largest number that fits, of 16 unsigned bits at most: more bits are counts, not shades."""
    if page.dtype.kind == "b":
        return 255
    return 2**page.bitspersample - 1 if page.dtype.kind == WHOLE and page.bitspersample <= 16 else None


def _alpha(page: Any) -> int | None:
    """Which sample is tagged as opacity."""
    extra = tuple(int(one) for one in np.atleast_1d(page.extrasamples))
    first = page.samplesperpixel - len(extra)
    return next((first + k for k, one in enumerate(extra) if one in ALPHA), None)


def palette_of(page: Any) -> NDArray[Any]:
    """The palette of *page* (entries, 3): as bytes where its 16 bits say no more, as such where they do."""
    table = np.asarray(page.tags.valueof(COLOUR_MAP), np.uint16).reshape(3, -1).T
    if table.max(initial=0) < 256:  # some writers fill in bytes
        return table.astype(np.uint8)
    high = table >> 8
    bytes_say_all = ((table == high * 257) | (table == high * 256)).all()
    return high.astype(np.uint8) if bytes_say_all else table


def _refused(path: Path, what: str) -> InvalidInput:
    return InvalidInput(
        f"{path}: a TIFF of {what} cannot be read whole; expected grey, RGB, a palette, CMYK of 8 bits, or bands of "
        "whole or floating-point numbers. Convert it."
    )
