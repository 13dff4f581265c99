"""The loss that trains the autoencoder of arXiv 1705.07450: say the right class, and be near it."""

from __future__ import annotations

from torch import Tensor

from smp_feedback.checks import check_number
from smp_feedback.errors import InvalidValue
from smp_feedback.losses.pixels import PixelLoss, Pixels

CLIP = 1e-7


class Reconstruction(PixelLoss):
    """``cross_entropy * (-log p_right) + squared_error * mean_c (p_c - y_c)^2``, mean over the counted pixels.

    p is the softmax of the logits and y one-hot. Both terms are least where p is the mean of the clean labels that a
    corrupted prediction may have come from; the score is the way there. The published models weigh them alike.

    p is clipped at 1e-7 in the logarithm, as published: no pixel costs more than 16.1, and one beyond has no gradient
    there.

    Args:
        ignore_index: Label that does not count; None counts all.
        cross_entropy: Weight of the first term, >= 0.
        squared_error: Weight of the second, >= 0.

    Raises:
        InvalidType, InvalidValue: For other weights, or where both are 0.

    >>> import torch
    >>> loss = Reconstruction()
    >>> loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))  # log(2) + 1/4
    tensor(0.9431)
    """

    def __init__(
        self, ignore_index: int | None = None, *, cross_entropy: float = 1.0, squared_error: float = 1.0
    ) -> None:
        super().__init__(ignore_index)
        check_number("cross_entropy", cross_entropy, least=0)
        check_number("squared_error", squared_error, least=0)
        if not cross_entropy and not squared_error:
            raise InvalidValue("cross_entropy=0 and squared_error=0: nothing is left; expected one weight > 0.")
        self.cross_entropy, self.squared_error = cross_entropy, squared_error

    def of(self, pixels: Pixels) -> Tensor:
        """Mean over the counted pixels of the batch."""
        p, y, counted = pixels.logits.softmax(1), pixels.one_hot, pixels.counted
        return self.cross_entropy * cross_entropy(p, y, counted) + self.squared_error * squared_error(p, y, counted)


def cross_entropy(p: Tensor, y: Tensor, counted: Tensor) -> Tensor:
    """``-log(max(p_right, 1e-7))``, mean over the pixels that count; 0 if none does.

    Args:
        p: Probabilities (B, C, ...).
        y: One-hot (B, C, ...).
        counted: (B, ...), 1 where a pixel counts and else 0.

    Returns:
        A scalar.

    >>> import torch
    >>> cross_entropy(torch.tensor([[[0.25], [0.75]]]), torch.tensor([[[1.0], [0.0]]]), torch.ones(1, 1))  # log(4)
    tensor(1.3863)
    """
    return _mean(-(p * y).sum(1).clamp_min(CLIP).log(), counted)


def squared_error(p: Tensor, y: Tensor, counted: Tensor) -> Tensor:
    """``(p - y)^2``, mean over the classes, then over the pixels that count; 0 if none does.

    Args, returns: As :func:`cross_entropy`.

    >>> import torch
    >>> squared_error(torch.tensor([[[0.25], [0.75]]]), torch.tensor([[[1.0], [0.0]]]), torch.ones(1, 1))
    tensor(0.5625)
    """
    return _mean((p - y).square().mean(1), counted)


def _mean(of_pixel: Tensor, counted: Tensor) -> Tensor:
    return (of_pixel * counted).sum() / counted.sum().clamp_min(1)
