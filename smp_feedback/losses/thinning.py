"""Centre lines of masks on whatever device these are: parallel thinning, without a word to the CPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""The eight neighbours, rows and columns away, from that above on with the clock."""


def thinned(mask: Tensor, rounds: int) -> Tensor:
    """*mask* after so many rounds of thinning, each of which takes a pixel from every side of what is broad.

    A round has two halves, one for the right and upper sides and one for the left and lower ones. In each all pixels go
    at once without which their neighbours stay connected and that are no end of a line. Where nothing changes any more
    lines are one pixel wide; on a CPU, where it costs nothing to ask, it ends there.

    Args:
        mask: (..., H, W) of bool; beyond the border is background.
        rounds: How many, >= 0; a structure of w pixels takes w / 2.

    Returns:
        (..., H, W) of bool, part of *mask*: what ``skimage.morphology.thin(mask, rounds)`` gives of each.

    Source:
        Guo and Hall, *Parallel thinning with two-subiteration algorithms* (1989), algorithm A1.

    >>> bar = torch.zeros(5, 9, dtype=torch.bool)
    >>> bar[1:4, 1:8] = True
    >>> thinned(bar, 3).sum(0).tolist()
    [0, 0, 1, 1, 1, 1, 1, 0, 0]
    """
    for _ in range(rounds):
        before = mask
        for half in (0, 4):
            mask = mask & ~_superfluous(mask, half)
        if mask.device.type == "cpu" and torch.equal(mask, before):
            break
    return mask


def tube(line: Tensor, radius: int) -> Tensor:
    """What is no further than *radius* steps, up, down or across, from *line* (..., H, W); of bool.

    >>> dot = torch.zeros(5, 5, dtype=torch.bool)
    >>> dot[2, 2] = True
    >>> tube(dot, 2).sum(0).tolist()
    [1, 3, 5, 3, 1]
    """
    for _ in range(radius):
        around = F.pad(line, (1, 1, 1, 1))
        line = line | around[..., 2:, 1:-1] | around[..., :-2, 1:-1] | around[..., 1:-1, 2:] | around[..., 1:-1, :-2]
    return line


def _superfluous(mask: Tensor, half: int) -> Tensor:
    """Pixels at the sides of this *half* (0 or 4, by which the neighbours are turned) that end and connect nothing."""
    height, width = mask.shape[-2:]
    padded = F.pad(mask, (1, 1, 1, 1))
    near = [padded[..., 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in AROUND]
    parts = _count([~near[k] & (near[k + 1] | near[(k + 2) % 8]) for k in (0, 2, 4, 6)])
    before, after = (_count([near[k] | near[(k + by) % 8] for k in (0, 2, 4, 6)]) for by in (7, 1))
    many = torch.minimum(before, after)
    above, corner, side, other = (near[(k + half) % 8] for k in (0, 1, 2, 3))
    return (parts == 1) & (many >= 2) & (many <= 3) & ~((above | corner | ~other) & side)


def _count(of: list[Tensor]) -> Tensor:
    return torch.stack(of).sum(0, dtype=torch.uint8)
