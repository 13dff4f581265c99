"""What corrupts a prediction in training, so that the autoencoder has something to undo."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gaussian(y: Tensor, level: float) -> Tensor:
    """``y + level * N(0, 1)``, neither clipped nor normalised after: *level* is the noise's standard deviation.

    To a network that removes such noise, r(y) - y is the score of the corrupted predictions times level^2.
    """
    return y + level * torch.randn_like(y)


def swap(y: Tensor, level: float) -> Tensor:
    """Each pixel of *y* (B, K, H, W), with probability *level*, is certain of a class drawn uniformly of all K.

    >>> _ = torch.manual_seed(0)
    >>> swap(torch.full((1, 2, 1, 3), 0.5), 1.0).sum(1)
    tensor([[[1., 1., 1.]]])
    """
    batch, classes, *size = y.shape
    drawn = torch.randint(classes, (batch, 1, *size), device=y.device)
    one_hot = drawn == torch.arange(classes, device=y.device)[:, None, None]
    chosen = torch.rand((batch, 1, *size), device=y.device) < level
    return torch.where(chosen, one_hot.to(y.dtype), y)


def none(y: Tensor, level: float) -> Tensor:
    """*y* itself."""
    return y


NOISES: dict[str, Callable[[Tensor, float], Tensor]] = {"gaussian": gaussian, "swap": swap, "none": none}
