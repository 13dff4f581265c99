"""The loss of arXiv 2404.03010: how much of the truth's centre lines is found."""

from __future__ import annotations

import torch
from torch import Tensor

from smp_feedback.checks import check_number, check_whole
from smp_feedback.losses.maps import MapLoss, Maps
from smp_feedback.losses.thinning import thinned, tube

RADIUS = 2
ROUNDS = 10
SMOOTH = 1e-5


class SkeletonRecall(MapLoss):
    """``1 - (sum(p t) + s) / (sum(t) + s)``, t the truth's tubed skeleton, mean over images and foreground classes.

    All foreground is thinned as one mask to centre lines, these are broadened to tubes of *radius*, and what of a tube
    is of a class is t of that class. Only the truth is thinned, so that no gradient goes through a skeleton, and
    nothing of one is kept for the backward pass. To say a class everywhere costs nothing, so it stands beside a loss
    that judges the rest: published are Dice, cross-entropy and this, each with weight 1; see ``mixture``.

    The paper thins on the CPU, with scikit-image, as an image is loaded. Here it is done on the labels' device, as a
    batch is judged, so that flips and crops need not know of it and nothing waits for the device.

    Args:
        ignore_index: Label that does not count, and is background; None counts all.
        radius: Of a tube in pixels, >= 0, in steps up, down and across; 2 as published.
        rounds: Of thinning, >= 0; half the width in pixels of the broadest structure. What is broader keeps a core.
        smooth: s > 0; 1e-5 as published.

    Raises:
        InvalidType, InvalidValue: For arguments out of range.

    Source:
        Kirchhoff et al., *Skeleton Recall Loss for Connectivity Conserving and Resource Efficient Segmentation of Thin
        Tubular Structures* (2024), algorithm 1 and equation 4.

    >>> target = torch.zeros(1, 5, 8).long()
    >>> target[0, 2] = 1
    >>> said = torch.stack([1 - target, target], 1) * 40.0
    >>> said[..., 2:4] = said[..., 2:4].flip(1)  # two pixels of eight are missed
    >>> SkeletonRecall()(said, target)
    tensor(0.2500)
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        *,
        radius: int = RADIUS,
        rounds: int = ROUNDS,
        smooth: float = SMOOTH,
    ) -> None:
        super().__init__(ignore_index)
        self.radius, self.rounds = check_whole("radius", radius, least=0), check_whole("rounds", rounds, least=0)
        check_number("smooth", smooth, above=0)
        self.smooth = smooth

    def of_maps(self, maps: Maps) -> Tensor:
        """Mean over the images and foreground classes."""
        p, y = maps
        with torch.no_grad():
            tubes = y * tube(thinned(y.any(1), self.rounds), self.radius)[:, None]
        found, whole = ((part * tubes).flatten(2).sum(2) + self.smooth for part in (p, torch.ones_like(p)))
        return (1 - found / whole).mean()
