"""What conditions an autoencoder: features of the base model, and how they come onto its grids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from smp_feedback.errors import InvalidInput
from smp_feedback.ops.maps import Size


class Feature(NamedTuple):
    """A feature of the base that conditions an autoencoder.

    Attributes:
        name: As the config calls it ("stage:4"); messages say it.
        channels: C_h.
        stride: How many pixels of y lie between two neighbouring pixels of the feature, as a dry run showed. That is
            the ratio of the two sizes, unless the base pads its image as FCN-8 does.
    """

    name: str
    channels: int
    stride: float

    @property
    def level(self) -> int:
        """The pooling after which the autoencoder's grid fits best; 0 is y's own grid.

        >>> Feature("pool4", 512, 16.0).level, Feature("blocks.11", 384, 14.0).level, Feature("input", 3, 1.0).level
        (4, 4, 0)
        """
        return max(0, round(math.log2(self.stride)))


def check_features(given: Sequence[Tensor], expected: Sequence[Feature]) -> None:
    """*given* are the maps that *expected* announces, in their order.

    Raises:
        InvalidInput: If their number, dimensions, channels or batch sizes differ.
    """
    wanted = ", ".join(f"{feature.name} (B, {feature.channels}, h, w)" for feature in expected)
    if len(given) != len(expected):
        raise InvalidInput(f"features: got {len(given)}; expected {len(expected)}: {wanted}.")
    for h, feature in zip(given, expected, strict=True):
        if h.ndim != 4 or h.shape[1] != feature.channels:
            raise InvalidInput(f"features: {feature.name!r} has the shape {tuple(h.shape)}; expected {wanted}.")
        if h.shape[0] != given[0].shape[0]:  # len() would tie an exported model to its batch
            first = f"{expected[0].name!r} of {given[0].shape[0]}"
            raise InvalidInput(f"features: {feature.name!r} is of {h.shape[0]} images, {first}.")


def lay_onto(x: Tensor, grid: Size) -> Tensor:
    """*x* (B, C, h, w) on a *grid* that begins where it does: cropped, or its edge repeated, at the bottom and right.

    >>> import torch
    >>> lay_onto(torch.tensor([[[[1.0, 2.0, 3.0]]]]), (2, 2))
    tensor([[[[1., 2.],
              [1., 2.]]]])
    """
    return F.pad(x, (0, grid[1] - x.shape[-1], 0, grid[0] - x.shape[-2]), mode="replicate")


def resized(h: Tensor, size: Size, level: int) -> Tensor:
    """*h* as large as y of *size* after *level* halvings, up to rounding; else resized (bilinear) to that.

    An encoder may round down or up at each halving, and such maps begin where y does: they are left as they are. A
    patch embedding of 14 pixels gives a grid of another pitch.

    >>> import torch
    >>> [tuple(resized(torch.ones(1, 1, n, n), (40, 40), 4).shape[2:]) for n in (2, 3, 5)]
    [(2, 2), (3, 3), (3, 3)]
    """
    pitch = 2**level
    wanted = [-(-n // pitch) for n in size]
    if all(n // pitch <= got <= up for n, got, up in zip(size, h.shape[-2:], wanted, strict=True)):
        return h
    return F.interpolate(h, wanted, mode="bilinear", align_corners=False)
