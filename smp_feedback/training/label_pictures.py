"""A label map as a picture whose pixels are the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch  # noqa: F401  (doctests)
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from smp_feedback.errors import InvalidInput

BYTES, MOST_LABELS = 256, 65535
RGB = tuple[int, int, int]


def label_picture(
    labels: Tensor | NDArray[Any], classes: int | None = None, colours: Sequence[RGB] | None = None
) -> Image.Image:
    """A label map (H, W) as a picture whose pixels are the labels.

    Up to 256 classes take 8 bits and a palette, more take 16 bits, which have none.

    Args:
        labels: Whole numbers.
        classes: How many there may be; None goes by *labels*.
        colours: Those of the first labels; others, and all if it is None, have those of PASCAL VOC.

    Raises:
        InvalidInput: If a label is below 0 or above 65535, which a PNG has no room for.

    >>> label_picture(torch.tensor([[0, 255]])).mode, label_picture(torch.tensor([[0, 300]])).mode
    ('P', 'I;16')
    """
    array = labels.cpu().numpy() if isinstance(labels, Tensor) else labels
    least, most = int(array.min()), int(array.max())
    if least < 0 or most > MOST_LABELS:
        raise InvalidInput(f"labels from {least} to {most}: a label map as PNG holds 0 to {MOST_LABELS}.")
    if max(most + 1, classes or 0) > BYTES:
        return Image.fromarray(array.astype(np.uint16))
    picture = Image.fromarray(array.astype(np.uint8))
    picture.putpalette([value for colour in palette(colours) for value in colour])
    return picture


def palette(colours: Sequence[RGB] | None = None) -> list[RGB]:
    """256 colours: *colours*, and then PASCAL VOC's.

    >>> palette([(1, 2, 3)])[:2]
    [(1, 2, 3), (128, 0, 0)]
    """
    own = [*(colours or ())][:BYTES]
    return own + [voc_colour(label) for label in range(len(own), BYTES)]


def voc_colour(label: int) -> RGB:
    """The colour of *label* in PASCAL VOC's palette: its bits, dealt to red, green and blue, highest first.

    >>> [voc_colour(k) for k in (0, 1, 2, 15)]
    [(0, 0, 0), (128, 0, 0), (0, 128, 0), (192, 128, 128)]
    """
    red, green, blue = (
        sum(((label >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)
    )
    return red, green, blue
