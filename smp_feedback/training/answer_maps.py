"""What is read off an image's logits at the image's own size, a band of rows at a time."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smp_feedback.ops.maps import Size
from smp_feedback.ops.reading import labels_of, per_class
from smp_feedback.ops.row_bands import row_bands

BYTES = 256


class AnswerMap(NamedTuple):
    """What one answer says of an image.

    Attributes:
        labels: (H, W), uint8, or uint16 of more than 256 classes.
        pixels: How many of them each class has (classes,).
        uncertainty: The mean over pixels of the entropy, in [0, 1].
        doubt: The entropy of each (H, W), uint8, 255 for 1; None if nobody asked.
    """

    labels: NDArray[Any]
    pixels: NDArray[np.int64]
    uncertainty: float
    doubt: NDArray[np.uint8] | None = None


def answer_map(logits: Tensor, size: Size, *, doubt: bool = False) -> AnswerMap:
    """Read *logits* (C, h, w), resized to *size* (H, W); one channel is read by its sign.

    Labels are read off resized logits: resized labels would have steps as large as the model's pixels.

    >>> answer_map(torch.tensor([[[-1.0, 3.0]]]), (1, 4)).labels  # logits -1, 0, 2, 3
    array([[0, 0, 1, 1]], dtype=uint8)
    """
    classes = max(2, len(logits))
    labels = np.empty(size, np.uint8 if classes <= BYTES else np.uint16)
    doubts = np.empty(size, np.uint8) if doubt else None
    pixels, total = np.zeros(classes, np.int64), 0.0
    for rows, band in row_bands(logits, size):
        found, unsure = labels_of(band[None])[0], entropy(band[None])[0]
        pixels += torch.bincount(found.flatten(), minlength=classes).cpu().numpy()
        total += float(unsure.sum(dtype=torch.float64))
        labels[rows] = found.cpu().numpy()
        if doubts is not None:
            doubts[rows] = unsure.mul(255).round().byte().cpu().numpy()
    return AnswerMap(labels, pixels, total / labels.size, doubts)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the chances that *logits* give, divided by log C: (B, C, H, W) -> (B, H, W), in [0, 1].

    One channel is a choice of two.

    >>> entropy(torch.zeros(1, 4, 1, 1)), entropy(torch.zeros(1, 1, 1, 1))
    (tensor([[[1.]]]), tensor([[[1.]]]))
    """
    log_p = per_class(logits.float()).log_softmax(1)
    return -(log_p.exp() * log_p).sum(1) / math.log(max(2, logits.shape[1]))
