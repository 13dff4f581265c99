"""Centre lines of masks on whatever device these are: parallel thinning, without a word to the CPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

AROUND = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""The eight neighbours, rows and columns away, from the right one on against the clock."""
SIDES = (2, 6, 4, 0)
"""Which of them is outside when a side is thinned: above, below, left, right."""


def thinned(mask: Tensor, rounds: int) -> Tensor:
    """*mask* after so many rounds of thinning, each of which takes a pixel from every side of what is broad.

    In a round, from above, below, left and right in turn, all pixels go at once that are at that side's border, are no
    end of a line, and without which their neighbours stay connected (8-connected; Yokoi's number is 1). Pieces and
    holes stay as they are after any number of rounds, and where nothing changes any more lines are one pixel wide. On a
    CPU, where it costs nothing to ask, it ends there.

    Args:
        mask: (..., H, W) of bool; beyond the border is background.
        rounds: How many, >= 0; a structure of w pixels takes w / 2.

    Returns:
        (..., H, W) of bool, part of *mask*.

    Source:
        Rosenfeld, *A characterization of parallel thinning algorithms* (1975).

    >>> bar = torch.zeros(5, 9, dtype=torch.bool)
    >>> bar[1:4, 1:8] = True
    >>> thinned(bar, 3).sum(0).tolist()
    [0, 0, 1, 1, 1, 1, 1, 0, 0]
    """
    for _ in range(rounds):
        before = mask
        for side in SIDES:
            mask = mask & ~_superfluous(mask, side)
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


def _superfluous(mask: Tensor, side: int) -> Tensor:
    """Pixels whose neighbour at *side* is outside, that end no line and that connect nothing."""
    height, width = mask.shape[-2:]
    padded = F.pad(mask, (1, 1, 1, 1))
    near = [padded[..., 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in AROUND]
    outside = [~one for one in near]
    # Yokoi's number of 8-connected parts around: beginnings of background at a side that no corner goes on with
    parts = [outside[k] & ~(outside[k + 1] & outside[(k + 2) % 8]) for k in (0, 2, 4, 6)]
    simple = torch.stack(parts).sum(0, dtype=torch.uint8) == 1
    many = torch.stack(near).sum(0, dtype=torch.uint8) > 1
    return outside[side] & simple & many
