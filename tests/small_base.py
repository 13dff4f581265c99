"""A base of two convolutions: what a loop needs, and no more."""

from __future__ import annotations

from torch import nn


class SmallBase(nn.Module):
    """Two convolutions with a norm between, and a head."""

    def __init__(self, norm, classes=3):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), norm
        self.more, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, classes, 1)

    def forward_features(self, image):
        """(B, 3, H, W) -> (B, 6, H, W)."""
        return self.more(self.norm(self.conv(image)).tanh())

    def forward_head(self, features):
        """(B, 6, H, W) -> (B, classes, H, W)."""
        return self.head(features)

    def forward(self, image):
        """(B, 3, H, W) -> (B, classes, H, W)."""
        return self.forward_head(self.forward_features(image))
