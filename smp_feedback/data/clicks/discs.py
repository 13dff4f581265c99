"""Clicks as a model sees them: two more channels of the image, a disc around each click."""

from __future__ import annotations

import torch
from torch import Tensor

from smp_feedback.errors import InvalidInput
from smp_feedback.ops.maps import Size

POSITIVE, NEGATIVE = 1, -1
"""What a click says: here is the object, or here it is not; 0 is no click."""


def discs(clicks: Tensor, size: Size, radius: float) -> Tensor:
    """The pixels within *radius* of a positive click, and those within it of a negative one.

    Args:
        clicks: (B, N, 3) of row, column and sign (1, -1, or 0 for none), in pixels; N may be 0.
        size: (H, W) of the image.
        radius: Of a disc in pixels; below 1 a share of the image's shorter side.

    Returns:
        float32 (B, 2, H, W) of 0 and 1: positive clicks, negative clicks.

    Raises:
        InvalidInput: If *clicks* has another shape.

    >>> discs(torch.tensor([[[1, 1, 1], [0, 3, -1]]]), (3, 4), radius=1)[0].int()
    tensor([[[0, 1, 0, 0],
             [1, 1, 1, 0],
             [0, 1, 0, 0]],
    <BLANKLINE>
            [[0, 0, 1, 1],
             [0, 0, 0, 1],
             [0, 0, 0, 0]]], dtype=torch.int32)
    """
    if clicks.ndim != 3 or clicks.shape[-1] != 3:
        raise InvalidInput(f"clicks of shape {tuple(clicks.shape)}: expected (B, N, 3), row, column and sign of each.")
    if not clicks.shape[1]:
        return torch.zeros(len(clicks), 2, *size, device=clicks.device)
    row, column, sign = clicks.unbind(-1)
    rows, columns = (torch.arange(side, device=clicks.device) for side in size)
    squared = (rows - row[..., None]).square()[..., None] + (columns - column[..., None]).square()[..., None, :]
    near = squared <= in_pixels(radius, size) ** 2
    kinds = [(near & (sign == kind)[..., None, None]).any(1) for kind in (POSITIVE, NEGATIVE)]
    return torch.stack(kinds, 1).float()


def in_pixels(radius: float, size: Size) -> float:
    """*radius* in pixels; below 1 it is a share of the shorter side.

    >>> in_pixels(5, (64, 48)), in_pixels(0.125, (64, 48))
    (5, 6.0)
    """
    return radius * min(size) if radius < 1 else radius
