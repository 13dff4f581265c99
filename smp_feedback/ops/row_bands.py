"""Maps resized a band of rows at a time: those of a large image would not fit as a whole, with all their classes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from smp_feedback.ops.maps import Size, resize, size_of

VALUES = 1 << 23  # of a band, at most about so many: 32 MiB


def row_bands(maps: Tensor, size: Size, *, values: int = VALUES) -> Iterator[tuple[slice, Tensor]]:
    """Maps (C, h, w), bilinear at *size* (H, W), corners not aligned, as float32: rows, and what they hold.

    All bands together are the whole map as `smp_feedback.ops.maps.resize` has it, to rounding.

    Args:
        maps: Floating point.
        size: Height and width to come.
        values: How many a band has at most, if that is at least one row.

    >>> bands = [(rows, band.shape) for rows, band in row_bands(torch.zeros(2, 3, 4), (5, 4), values=16)]
    >>> [(rows.start, rows.stop) for rows, _ in bands], bands[0][1]
    ([(0, 2), (2, 4), (4, 5)], torch.Size([2, 2, 4]))
    """
    (height, width), (own, _) = size, size_of(maps)
    rows = max(1, values // max(1, len(maps) * max(width, maps.shape[-1])))
    for first in range(0, height, rows):
        band = slice(first, min(first + rows, height))
        yield band, resize(_rows(maps, band, own, height)[None], (band.stop - first, width))[0]


def _rows(maps: Tensor, band: slice, own: int, height: int) -> Tensor:
    """The rows *band* of *height*, out of *own* rows."""
    if own == height:
        return maps[:, band].float()
    place = (torch.arange(band.start, band.stop, dtype=torch.float64) + 0.5) * (own / height) - 0.5
    place = place.clamp_min(0)
    above = place.long().clamp_max(own - 1)
    part = (place - above).float().to(maps.device)[:, None]
    above = above.to(maps.device)
    upper, lower = maps[:, above].float(), maps[:, (above + 1).clamp_max(own - 1)].float()
    return upper + part * (lower - upper)
