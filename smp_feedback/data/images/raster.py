"""What a file of pixels holds, before anything is chosen, scaled or made a tensor of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from smp_feedback.data.files import by
from smp_feedback.errors import InvalidInput

Pixels = NDArray[np.generic]
T = TypeVar("T", bound=np.generic)
TURNED = (5, 6, 7, 8)  # orientations that swap height and width


@dataclass(frozen=True, kw_only=True)
class PixelLayout:
    """What the tags of a file say about each of its pixels.

    Attributes:
        bands: Values of a pixel, alpha included; a palette has its colours'.
        kind: Their dtype, such as ``uint8``.
        white: The value that becomes 1; None where the numbers have no natural end (heights, densities).
        alpha: Which band, counted from 0, says how opaque a pixel is; None if there is none.
    """

    bands: int
    kind: str = "uint8"
    white: int | None = 255
    alpha: int | None = None

    @property
    def colours(self) -> tuple[int, ...]:
        """The bands that are no alpha, from 0."""
        return tuple(band for band in range(self.bands) if band != self.alpha)


class Head(NamedTuple):
    """What the tags of a file say, without its pixels.

    Attributes:
        layout: Of each pixel.
        size: (H, W), upright.
        orientation: Of the rows as they are stored, as TIFF and EXIF count; 1 is upright.
    """

    layout: PixelLayout
    size: tuple[int, int]
    orientation: int = 1


@dataclass(frozen=True, kw_only=True)
class Raster:
    """A decoded file, upright.

    Attributes:
        values: (H, W, bands), of the dtype that was stored.
        layout: What its tags say of a pixel.
        missing: Where a value is no data, as the file says itself, (H, W, bands); None is nowhere.
    """

    values: Pixels
    layout: PixelLayout
    missing: NDArray[np.bool_] | None = None


def whole(path: Path, values: Pixels, size: tuple[int, int], layout: PixelLayout) -> Pixels:
    """*values*, if they are all that the tags of the file announce.

    Raises:
        InvalidInput: If the decoder gave another number of pixels, bands or bytes.
    """
    if values.shape != (*size, layout.bands) or values.dtype != layout.kind:
        raise InvalidInput(
            f"{path}: its tags say {by(size)} pixels of {layout.bands} bands of {layout.kind}, its decoder gives "
            f"{by(values.shape)} of {values.dtype}; expected them to agree. Save it anew, as PNG or TIFF."
        )
    return values


def check_parts(path: Path, offsets: Sequence[int], counts: Sequence[int], wanted: int | None = None) -> None:
    """All strips or tiles of a TIFF, *wanted* of them, are in the file: a decoder would fill in what is not.

    Raises:
        InvalidInput: With how many are missing.
    """
    end, wanted = path.stat().st_size, len(offsets) if wanted is None else wanted
    there = sum(count > 0 and 0 < begin <= end - count for begin, count in zip(offsets, counts, strict=False))
    if there < wanted:
        raise InvalidInput(f"{path}: {wanted - there} of its {wanted} strips or tiles are empty or cut off.")


def upright(values: NDArray[T], orientation: int) -> NDArray[T]:
    """Stored rows as they are to be seen, by the orientation of EXIF and TIFF, (H, W, ...); unknown ones are 1.

    >>> upright(np.array([[1, 2], [3, 4]]), 6).tolist()  # the camera was held on its side
    [[3, 1], [4, 2]]
    """
    if orientation in TURNED:
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(H, W) as seen, of (H, W) as stored.

    >>> upright_size((480, 640), 6)
    (640, 480)
    """
    return (size[1], size[0]) if orientation in TURNED else size
