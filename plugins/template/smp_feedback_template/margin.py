"""A loss: the right class is to win by a margin."""

from __future__ import annotations

import math

import torch
from smp_feedback.losses.pixels import PixelLoss, Pixels
from torch import Tensor


class Margin(PixelLoss):
    """``relu(margin + largest wrong logit - right logit)``, mean over the pixels that count.

    Args:
        ignore_index: Label that does not count; None counts all.
        margin: By how much the right class is to win, > 0.

    >>> loss = Margin(margin=1.0)
    >>> loss(torch.tensor([[2.0, 1.5, 0.0]]), torch.tensor([0]))
    tensor(0.5000)
    """

    def __init__(self, ignore_index: int | None = None, *, margin: float = 1.0) -> None:
        super().__init__(ignore_index)
        if not 0 < margin < math.inf:
            raise ValueError(f"margin={margin}: expected a number > 0.")
        self.margin = margin

    def of(self, pixels: Pixels) -> Tensor:
        """The mean; ignored pixels have weight 0."""
        right = (pixels.logits * pixels.one_hot).sum(1)
        wrong = pixels.logits.masked_fill(pixels.one_hot > 0, -torch.inf).amax(1)
        missing = (self.margin + wrong - right).relu()
        return (missing * pixels.counted).sum() / pixels.counted.sum().clamp_min(1)
