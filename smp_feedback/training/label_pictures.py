"""A label map as a picture whose pixels are the labels."""

from __future__ import annotations

import numpy as np
import torch  # noqa: F401  (doctests)
from PIL import Image
from torch import Tensor

from smp_feedback.errors import InvalidInput

BYTES, MOST_LABELS = 256, 65535


def label_picture(labels: Tensor, classes: int | None = None) -> Image.Image:
    """A label map (H, W) as a picture whose pixels are the labels.

    Up to 256 classes take 8 bits and the palette of PASCAL VOC, more take 16 bits, which have none.

    Args:
        labels: Whole numbers.
        classes: How many there may be; None goes by *labels*.

    Raises:
        InvalidInput: If a label is below 0 or above 65535, which a PNG has no room for.

    >>> label_picture(torch.tensor([[0, 255]])).mode, label_picture(torch.tensor([[0, 300]])).mode
    ('P', 'I;16')
    """
    least, most = (int(value) for value in labels.aminmax())
    if least < 0 or most > MOST_LABELS:
        raise InvalidInput(f"labels from {least} to {most}: a label map as PNG holds 0 to {MOST_LABELS}.")
    if max(most + 1, classes or 0) > BYTES:
        return Image.fromarray(labels.cpu().numpy().astype(np.uint16))
    picture = Image.fromarray(labels.cpu().numpy().astype(np.uint8))
    picture.putpalette([value for label in range(BYTES) for value in voc_colour(label)])
    return picture


def voc_colour(label: int) -> tuple[int, int, int]:
    """The colour of *label* in PASCAL VOC's palette: its bits, dealt to red, green and blue, highest first.

    >>> [voc_colour(k) for k in (0, 1, 2, 15)]
    [(0, 0, 0), (128, 0, 0), (0, 128, 0), (192, 128, 128)]
    """
    red, green, blue = (
        sum(((label >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)
    )
    return red, green, blue
