"""Feature maps (B, C, H, W): their size, their layout in memory, and mixtures of their channels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Size = tuple[int, int]
"""Height and width."""


def size_of(x: Tensor) -> Size:
    """Height and width of a map (..., H, W)."""
    return x.shape[-2], x.shape[-1]


def masks_of(answer: Any) -> Tensor:
    """The map of a model's *answer*: beside it may be labels (B, labels), of a classifying head.

    >>> masks_of((torch.ones(1, 2, 4, 4), torch.ones(1, 3))).shape
    torch.Size([1, 2, 4, 4])
    """
    return cast(Tensor, answer[0] if isinstance(answer, tuple) else answer)


def resize(x: Tensor, size: Size) -> Tensor:
    """Bilinear, corners not aligned; *x* itself where the size is right.

    >>> resize(torch.ones(1, 1, 2, 2), (4, 4)).shape
    torch.Size([1, 1, 4, 4])
    """
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)


def as_map(x: Tensor) -> Tensor:
    """(B, C) as a map (B, C, 1, 1); a map as it is.

    >>> as_map(torch.ones(2, 3)).shape
    torch.Size([2, 3, 1, 1])
    """
    return x[:, :, None, None] if x.ndim == 2 else x


def filled(like: Tensor, values: float | Sequence[float] | Tensor, channels: int, size: Size) -> Tensor:
    """Maps (B, channels, H, W) for the batch of *like*, of one value, or of one for each channel.

    Of a tensor () or (channels,) too, through which gradient flows.

    >>> filled(torch.ones(1, 3, 4, 4), (0.5, 0.0), 2, (1, 1)).flatten()
    tensor([0.5000, 0.0000])
    """
    if isinstance(values, Tensor):
        return values.to(like.dtype).reshape(1, -1, 1, 1).expand(like.shape[0], channels, *size)
    if isinstance(values, Sequence):
        return torch.cat([like.new_full((like.shape[0], 1, *size), value) for value in values], 1)
    return like.new_full((like.shape[0], channels, *size), values)


def laid_out_as(x: Tensor, like: Tensor) -> Tensor:
    """*x* in channels_last if *like* is; *x* itself otherwise, or where it is already.

    >>> like = torch.ones(1, 3, 4, 4).to(memory_format=torch.channels_last)
    >>> laid_out_as(torch.ones(1, 2, 4, 4), like).is_contiguous(memory_format=torch.channels_last)
    True
    """
    return x.contiguous(memory_format=torch.channels_last) if _is_channels_last(like) else x


def laid_out_like(x: Tensor, like: Tensor) -> Tensor:
    """*x* in channels_last where *like* is, and contiguous where it is not.

    >>> x = torch.ones(1, 3, 4, 4).to(memory_format=torch.channels_last)
    >>> laid_out_like(x, torch.ones(1, 2, 8, 8)).is_contiguous()
    True
    """
    return laid_out_as(x, like) if _is_channels_last(like) else x.contiguous()


def as_precise_as(x: Tensor) -> AbstractContextManager[object]:
    """No autocast around what is computed from *x*; the device ``meta``, which computes nothing, knows none."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


class Mixture(nn.Conv2d):
    """A 1 x 1 convolution without bias, as the matrix product that it is.

    On a CPU the product takes a tenth of the convolution's time for few output channels (measured: 16 to 2
    channels at 256 px, 0.2 against 3 ms); what is channels_last stays so.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h, w).

        >>> mix, x = Mixture(3, 2), torch.rand(1, 3, 4, 5)
        >>> torch.allclose(mix(x), F.conv2d(x, mix.weight), atol=1e-6)
        True
        """
        if _is_channels_last(x):
            return super().forward(x)
        return self.product(x)

    def product(self, x: Tensor) -> Tensor:
        """The same, contiguous whatever the layout of *x*, which it reads as it lies."""
        weight = self.weight.flatten(1).expand(x.shape[0], -1, -1)
        return torch.bmm(weight, x.flatten(2)).reshape(x.shape[0], self.out_channels, *x.shape[2:])


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
