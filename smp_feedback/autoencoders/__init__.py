"""Conditional denoising autoencoders. PLACEHOLDER of the core author: the AE slice replaces this file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.score_config import Score


class Feature(NamedTuple):
    """A feature that conditions an autoencoder."""

    name: str
    channels: int
    stride: float


class Placeholder(nn.Module):
    """One convolution over features and y."""

    def __init__(self, classes: int, features: Sequence[Feature]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(classes + sum(f.channels for f in features), classes, 3, padding=1)

    def condition(self, features: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Resized."""
        return tuple(F.interpolate(f.to(self.conv.weight.dtype), size, mode="bilinear") for f in features)

    def forward(self, y: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """Logits."""
        out: Tensor = self.conv(torch.cat([*conditions, y.to(self.conv.weight.dtype)], 1))
        return out


def build_autoencoder(config: Score, classes: int, features: Sequence[Feature]) -> nn.Module:
    """The autoencoder of *config*."""
    return Placeholder(classes, features)
