"""One picture of labels, as a file stores it, upright; whoever decodes files gives it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smp_feedback.data.images.raster import upright

Array = NDArray[Any]

BLUR = "JPEG and lossy WebP blur labels into one another; save masks as PNG, from the labelling tool."
INVERTED = (
    "its values are stored inverted (white is zero, as tifffile writes booleans), which readers take differently; "
    "save it as PNG, or as uint8."
)


@dataclass(frozen=True)
class Stored:
    """A file's values.

    Attributes:
        values: (H, W), or (H, W, C) of several channels, alpha apart.
        palette: uint8 (N, 3), the colours that *values* are indices of; None if there is no palette.
        alpha: uint8 (H, W), 0 where transparent and 255 where opaque; None if it is opaque everywhere.
    """

    values: Array
    palette: Array | None = None
    alpha: Array | None = None

    def turned(self, orientation: int) -> Stored:
        """As it is to be seen, by EXIF's (and TIFF's) tag 274."""
        alpha = None if self.alpha is None else upright(self.alpha, orientation)
        return replace(self, values=upright(self.values, orientation), alpha=alpha)


def alpha_of(channel: Array) -> Array | None:
    """An alpha channel of any depth as uint8, 128 where it is half transparent; None if it is opaque everywhere.

    >>> alpha_of(np.array([0, 7, 65535], np.uint16)), alpha_of(np.array([255], np.uint8))
    (array([  0, 128, 255], dtype=uint8), None)
    """
    full = np.iinfo(channel.dtype).max
    if (channel == full).all():
        return None
    return np.where(channel == full, 255, np.where(channel == 0, 0, 128)).astype(np.uint8)
