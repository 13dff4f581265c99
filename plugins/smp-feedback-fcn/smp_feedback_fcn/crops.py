"""Cropping a map to a smaller one that lies over it."""

from __future__ import annotations

import torch  # noqa: F401  (doctests)
from torch import Tensor

Size = tuple[int, int]


def size_of(x: Tensor) -> Size:
    """Height and width of a map (..., H, W)."""
    return x.shape[-2], x.shape[-1]


def cropped(x: Tensor, size: Size, offset: int | None = None) -> Tensor:
    """*size* (h, w) pixels of a map (..., H, W) that is as large or larger.

    Args:
        x: The map.
        size: Height and width that are kept.
        offset: Rows above and columns to the left that are not; None is as many as on the other side, or one fewer,
            so as Lasagne's ``cropping="center"`` has it.

    >>> cropped(torch.arange(6.0).reshape(1, 1, 1, 6), (1, 3))
    tensor([[[[1., 2., 3.]]]])
    >>> cropped(torch.arange(6.0).reshape(1, 1, 1, 6), (1, 3), 0)
    tensor([[[[0., 1., 2.]]]])
    """
    (height, width), (h, w) = size_of(x), size
    top, left = ((height - h) // 2, (width - w) // 2) if offset is None else (offset, offset)
    return x[..., top : top + h, left : left + w]
