"""Grey-scale erosion and dilation by a cross and a square, with a gradient: pooling, without its cost on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from smp_feedback.ops.maps import Size, size_of

SQUARE = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))
CROSS = tuple((y, x) for y, x in SQUARE if not (y and x))


def eroded(image: Tensor) -> Tensor:
    """The least of each pixel and its four neighbours (..., H, W); beyond the border nothing erodes.

    >>> eroded(torch.tensor([[1.0, 1, 1], [1, 1, 1], [1, 1, 0]]))
    tensor([[1., 1., 1.],
            [1., 1., 0.],
            [1., 0., 0.]])
    """
    return -_greatest(-image, CROSS)


def dilated(image: Tensor) -> Tensor:
    """The greatest of each pixel and its eight neighbours (..., H, W).

    >>> dilated(torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, 0, 1]]))
    tensor([[0., 0., 0.],
            [0., 1., 1.],
            [0., 1., 1.]])
    """
    return _greatest(image, SQUARE)


class _Greatest(torch.autograd.Function):
    """The greatest value around each pixel; the gradient goes to the first that has it, as in max-pooling.

    Slices are written in place, which autograd cannot do for us without a copy of the map for each.
    """

    @staticmethod
    def forward(image: Tensor, around: tuple[tuple[int, int], ...]) -> Tensor:
        """(..., H, W) -> the same."""
        most = image.clone()
        for to, of in _slices(around, size_of(image)):
            most[to] = torch.maximum(most[to], image[of])
        return most

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """What the gradient needs: who was greatest."""
        image, ctx.around = inputs
        ctx.save_for_backward(image, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Each gradient to one pixel."""
        image, most = ctx.saved_tensors
        (given,) = gradients
        passed, free = torch.zeros_like(given), torch.ones_like(image, dtype=torch.bool)
        for to, of in _slices(ctx.around, size_of(image)):
            found = free[to] & (image[of] == most[to])
            free[to] ^= found
            passed[of] += torch.where(found, given[to], 0)
        return passed, None


def _greatest(image: Tensor, around: tuple[tuple[int, int], ...]) -> Tensor:
    found: Tensor = _Greatest.apply(image, around)
    return found


def _slices(around: tuple[tuple[int, int], ...], size: Size) -> Iterator[tuple[Any, Any]]:
    """For every neighbour, the pixels that have one there, and those neighbours."""
    for away in around:
        to = [slice(max(0, -by), max(0, side - max(0, by))) for by, side in zip(away, size, strict=True)]
        of = [slice(max(0, by), max(0, side + min(0, by))) for by, side in zip(away, size, strict=True)]
        yield (..., *to), (..., *of)
