"""Where windows lie on an image: how large they are, and how far it is from one to the next."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from smp_feedback.ops.maps import Size, size_of


class WindowGrid(NamedTuple):
    """Windows over a map, in its own places.

    Attributes:
        size: (H, W) of what they cover: the map, and what is added below and to the right where it is too small.
        window: (h, w) of each.
        step: Rows, and columns, from one to the next; the last ends where the map ends.
    """

    size: Size
    window: Size
    step: Size

    @property
    def windows(self) -> int:
        """How many there are.

        >>> WindowGrid((10, 4), (4, 4), (3, 3)).windows
        3
        """
        return math.prod(
            1 + math.ceil((side - window) / step)
            for side, window, step in zip(self.size, self.window, self.step, strict=True)
        )

    @property
    def begins(self) -> tuple[list[int], list[int]]:
        """The rows, and the columns, where windows begin.

        >>> WindowGrid((10, 4), (4, 4), (3, 3)).begins
        ([0, 3, 6], [0])
        """
        tops, lefts = (
            [min(at, side - window) for at in range(0, side - window + step, step)]
            for side, window, step in zip(self.size, self.window, self.step, strict=True)
        )
        return tops, lefts

    def over(self, stride: Size) -> WindowGrid:
        """The same windows over a map of which one place is *stride* of these.

        >>> WindowGrid((8, 8), (4, 4), (2, 2)).over((2, 2))
        WindowGrid(size=(4, 4), window=(2, 2), step=(1, 1))
        """
        return WindowGrid(*(tuple(side // by for side, by in zip(pair, stride, strict=True)) for pair in self))  # type: ignore[arg-type]


def laid(
    image: Size, window: Size, overlap: float, multiple: Size, *, aligned: bool = False, whole: bool
) -> WindowGrid:
    """Windows over an image of so many pixels.

    Where the image is smaller than a window, the window is made smaller, and as little as may be is added to the image.

    Args:
        image: (H, W).
        window: (h, w), multiples of *multiple*.
        overlap: The share of a window that the next one covers, too, in [0, 1).
        multiple: What the sides of a window are multiples of.
        aligned: Whether windows begin at its multiples, too.
        whole: Whether windows stay as large as they are, for a model that takes no other size.

    >>> laid((100, 40), (64, 64), 0.25, (32, 32), whole=False)
    WindowGrid(size=(100, 64), window=(64, 64), step=(48, 48))
    >>> laid((20, 40), (64, 64), 0.25, (1, 1), whole=False)  # nothing is added
    WindowGrid(size=(20, 40), window=(20, 40), step=(15, 30))
    """
    sides = [_side(*one, overlap, aligned, whole) for one in zip(image, window, multiple, strict=True)]
    return WindowGrid(*zip(*sides, strict=True))


def _side(image: int, window: int, multiple: int, overlap: float, aligned: bool, whole: bool) -> tuple[int, int, int]:
    up = math.ceil(image / multiple) * multiple
    window = window if whole else min(window, up)
    unit = multiple if aligned else 1
    step = max(unit, math.floor(window * (1 - overlap) / unit) * unit)
    return max(up if aligned else image, window), window, step


def cut(image: Tensor, top: int, left: int, window: Size) -> Tensor:
    """The *window* (..., h, w) of *image* that begins there; what lies beyond the image is as its last row or column.

    >>> cut(torch.arange(4).view(2, 2), 1, 0, (2, 2))
    tensor([[2, 3],
            [2, 3]])
    """
    part = image[..., top : top + window[0], left : left + window[1]]
    for axis, (there, wanted) in zip((-2, -1), zip(size_of(part), window, strict=True), strict=True):
        if there < wanted:
            part = part.index_select(axis, torch.arange(wanted, device=part.device).clamp(max=there - 1))
    return part
