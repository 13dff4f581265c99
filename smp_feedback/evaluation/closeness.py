"""How close a restored image is to the clean one."""

from __future__ import annotations

from torch import Tensor


def psnr(image: Tensor, clean: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of each image, ``-10 log10(mean (image - clean)^2)`` dB (B,).

    Args:
        image: (B, C, H, W), of values in [0, 1].
        clean: What it is held to, of the same shape.

    >>> import torch
    >>> psnr(torch.full((1, 3, 2, 2), 0.6), torch.full((1, 3, 2, 2), 0.5))
    tensor([20.0000])
    """
    return -10 * (image.double() - clean.double()).square().flatten(1).mean(1).log10().to(image.dtype)


def l1(image: Tensor, clean: Tensor) -> Tensor:
    """The mean distance of each image's values to those of the clean one (B,)."""
    return (image - clean).abs().flatten(1).mean(1)
