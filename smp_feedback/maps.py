"""Feature maps (B, C, H, W): their size, and their layout in memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners not aligned; *x* itself where the size is right.

    >>> resize(torch.ones(1, 1, 2, 2), (4, 4)).shape
    torch.Size([1, 1, 4, 4])
    """
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)


def laid_out_as(x: Tensor, like: Tensor) -> Tensor:
    """*x* in channels_last if *like* is; *x* itself otherwise, or where it is already.

    >>> like = torch.ones(1, 3, 4, 4).to(memory_format=torch.channels_last)
    >>> laid_out_as(torch.ones(1, 2, 4, 4), like).is_contiguous(memory_format=torch.channels_last)
    True
    """
    last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    return x.contiguous(memory_format=torch.channels_last) if last else x
