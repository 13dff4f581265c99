"""The losses with which arXiv 2507.10143 trains its models on masks, as published."""

from __future__ import annotations

import torch
from torch import Tensor

from smp_feedback.checks import check_number
from smp_feedback.errors import InvalidValue
from smp_feedback.losses.pixels import PixelLoss, Pixels

SMOOTH = 1e-4


class GeneralizedDice(PixelLoss):
    """``1 - gd / (1 + kappa (1 - gd))``, ``gd = (2 sum(p y) + 1e-4) / (sum(p) + sum(y) + 1e-4)``, mean over the batch.

    The sums run over all classes and pixels of an image, without class weights. As p and y each sum to 1 at a
    pixel, gd is nearly the mean probability of the right class; for the Dice of each class there is ``dice``.

    Args:
        ignore_index: Label that does not count; None counts all.
        kappa: How much harder a poor overlap is judged, > -1; 0 is 1 - gd, 0.75 as published.

    >>> loss = GeneralizedDice(kappa=0.0)
    >>> loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)).isclose(torch.tensor(0.5))
    tensor(True)
    """

    def __init__(self, ignore_index: int | None = None, *, kappa: float = 0.75) -> None:
        super().__init__(ignore_index)
        check_number("kappa", kappa, above=-1)
        self.kappa = kappa

    def of(self, pixels: Pixels) -> Tensor:
        """Mean over the images."""
        p = pixels.logits.softmax(1) * pixels.counted[:, None]
        overlap = 2 * (p * pixels.one_hot).sum((1, 2)) + SMOOTH
        dice = overlap / (p.sum((1, 2)) + pixels.one_hot.sum((1, 2)) + SMOOTH)
        return (1 - dice / (1 + self.kappa * (1 - dice))).mean()


class ForegroundFocal(PixelLoss):
    """Focal loss that weighs foreground against background: ``- w (1 - p)^gamma log p`` of the right class.

    w is 1 - alpha where class 0 is right, and alpha elsewhere. The mean is over classes and pixels, so that the
    value is 1/C of a mean over pixels, then over the batch. ``focal`` is smp's: one sigmoid per class.

    Args:
        ignore_index: Label that does not count; None counts all.
        alpha: Weight of every class but the first, in [0, 1]; 0.25 as published.
        gamma: Focus, >= 0; 0 is weighted cross-entropy.

    >>> loss = ForegroundFocal(alpha=0.5, gamma=0.0)
    >>> loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))  # log(2) / 2 / 2
    tensor(0.1733)
    """

    def __init__(self, ignore_index: int | None = None, *, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__(ignore_index)
        check_number("alpha", alpha, least=0)
        if alpha > 1:
            raise InvalidValue(f"alpha={alpha}: expected a number from 0 to 1.")
        check_number("gamma", gamma, least=0)
        self.alpha, self.gamma = alpha, gamma

    def of(self, pixels: Pixels) -> Tensor:
        """Mean over the classes and counted pixels of each image, then over the images."""
        log_p = (pixels.logits.log_softmax(1) * pixels.one_hot).sum(1)
        weight = self.alpha + (1 - 2 * self.alpha) * pixels.one_hot[:, 0]
        missed = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).tiny)  # the power's slope at 0 may be infinite
        focal = -weight * missed.pow(self.gamma) * log_p
        of_image = focal.sum(1) / pixels.counted.sum(1).clamp_min(1)
        return of_image.mean() / pixels.logits.shape[1]


class DiceFocal(PixelLoss):
    """The mean of :class:`GeneralizedDice` and :class:`ForegroundFocal`, as published.

    Args:
        ignore_index: Label that does not count; None counts all.
        kappa, alpha, gamma: Theirs.
    """

    def __init__(
        self, ignore_index: int | None = None, *, kappa: float = 0.75, alpha: float = 0.25, gamma: float = 2.0
    ) -> None:
        super().__init__(ignore_index)
        self.dice = GeneralizedDice(kappa=kappa)
        self.focal = ForegroundFocal(alpha=alpha, gamma=gamma)

    def of(self, pixels: Pixels) -> Tensor:
        """Half of each."""
        return (self.dice.of(pixels) + self.focal.of(pixels)) / 2
