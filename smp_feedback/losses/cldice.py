"""The losses of arXiv 2003.07311: clDice of soft skeletons, which min- and max-pooling make of chances."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from smp_feedback.checks import check_number, check_whole
from smp_feedback.errors import InvalidValue
from smp_feedback.losses.maps import MapLoss, Maps
from smp_feedback.ops.morphology import dilated, eroded

ITERATIONS = 5
SMOOTH = 1.0


class SoftClDice(MapLoss):
    """``1 - 2 Tprec Tsens / (Tprec + Tsens)`` of soft skeletons, mean over images and foreground classes.

    With chances p, truth y, S their soft skeletons and s = *smooth*: ``Tprec = (sum(S(p) y) + s) / (sum S(p) + s)``
    and ``Tsens = (sum(S(y) p) + s) / (sum S(y) + s)``. It says nothing of how broad a structure is, nor of the
    background: beside a loss of regions it keeps together what that finds. ``dice_cldice`` is the published sum, a
    ``mixture`` any other.

    Args:
        ignore_index: Label that does not count, and is background in both; None counts all.
        iterations: Of the soft skeleton, k >= 0: half the width, in pixels, of the broadest structure, as each takes a
            pixel from every side; 5 is enough for lines of up to ten. More cost time and no quality.
        smooth: s > 0; 1 as published, by which a class that is nowhere costs nothing.

    Raises:
        InvalidType, InvalidValue: For arguments out of range.

    Source:
        Shit et al., *clDice - a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation* (2021),
        algorithms 1 and 2; erosion by a cross and dilation by a square are those of the published code, whose sums
        are over a whole batch and not, as here, over an image.

    >>> import torch
    >>> target = torch.zeros(1, 5, 9).long()
    >>> target[0, 2] = 1
    >>> sure = 40.0 * torch.stack([1 - target, target], 1)
    >>> SoftClDice()(sure, target)
    tensor(0.)
    """

    def __init__(
        self, ignore_index: int | None = None, *, iterations: int = ITERATIONS, smooth: float = SMOOTH
    ) -> None:
        super().__init__(ignore_index)
        self.iterations = check_whole("iterations", iterations, least=0)
        check_number("smooth", smooth, above=0)
        self.smooth = smooth

    def of_maps(self, maps: Maps) -> Tensor:
        """Mean over the images and foreground classes."""
        p, y = maps
        precision = _share(soft_skeleton(p, self.iterations), y, self.smooth)
        sensitivity = _share(soft_skeleton(y, self.iterations), p, self.smooth)
        return (1 - 2 * precision * sensitivity / (precision + sensitivity)).mean()


class DiceClDice(SoftClDice):
    """``(1 - alpha) softDice + alpha softclDice``, the published sum; softDice is ``1 - (2 sum(p y) + s) / ...``.

    Both are means over images and foreground classes.

    Args:
        ignore_index: Label that does not count; None counts all.
        alpha: Share of the second, in [0, 1]; 0.5, the most that was published.
        iterations, smooth: Those of :class:`SoftClDice`.

    Raises:
        InvalidType, InvalidValue: For arguments out of range.

    >>> import torch
    >>> target = torch.ones(1, 4, 4).long()
    >>> unsure = torch.zeros(1, 2, 4, 4)
    >>> DiceClDice(alpha=0.0)(unsure, target)  # 1 - (2 * 8 + 1) / (8 + 16 + 1)
    tensor(0.3200)
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        *,
        alpha: float = 0.5,
        iterations: int = ITERATIONS,
        smooth: float = SMOOTH,
    ) -> None:
        super().__init__(ignore_index, iterations=iterations, smooth=smooth)
        check_number("alpha", alpha, least=0)
        if alpha > 1:
            raise InvalidValue(f"alpha={alpha}: expected a number from 0 to 1.")
        self.alpha = alpha

    def of_maps(self, maps: Maps) -> Tensor:
        """The sum of both."""
        p, y = (part.flatten(2) for part in maps)
        dice = (2 * (p * y).sum(2) + self.smooth) / (p.sum(2) + y.sum(2) + self.smooth)
        return (1 - self.alpha) * (1 - dice).mean() + self.alpha * super().of_maps(maps)


def soft_skeleton(image: Tensor, iterations: int) -> Tensor:
    """Where what an opening takes away from *image*, eroded 0 to *iterations* times, is left: a centre line, softly.

    Args:
        image: (B, C, H, W) in [0, 1].
        iterations: k >= 0.

    Returns:
        (B, C, H, W) in [0, 1]; beyond the border nothing is known, and nothing erodes.

    >>> import torch
    >>> bar = torch.zeros(1, 1, 5, 7)
    >>> bar[..., 1:4, 1:6] = 1
    >>> soft_skeleton(bar, 2)[0, 0, 2]
    tensor([0., 0., 1., 1., 1., 0., 0.])
    """
    less = eroded(image)
    skeleton = F.relu(image - dilated(less))
    for _ in range(iterations):
        image, less = less, eroded(less)
        more = F.relu(image - dilated(less))
        skeleton = skeleton + (1 - skeleton) * more
    return skeleton


def _share(skeleton: Tensor, within: Tensor, smooth: float) -> Tensor:
    """The part of each *skeleton* that lies *within* (B, C)."""
    return ((skeleton * within).flatten(2).sum(2) + smooth) / (skeleton.flatten(2).sum(2) + smooth)
