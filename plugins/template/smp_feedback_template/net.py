"""An architecture: a few convolutions, in two parts."""

from __future__ import annotations

import torch  # noqa: F401  (doctests)
from torch import Tensor, nn
from torch.nn import functional as F


class TemplateNet(nn.Module):
    """Three convolutions at half the image's size, and a head.

    Args:
        in_channels: Channels of the image.
        classes: Channels of the logits.
        width: Channels between.

    >>> TemplateNet(3, 2)(torch.rand(1, 3, 8, 8)).shape
    torch.Size([1, 2, 8, 8])
    """

    def __init__(self, in_channels: int, classes: int, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3, stride=2, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.third = nn.Conv2d(width, width, 3, padding=4, dilation=4)
        self.last = nn.Conv2d(width, 4 * classes, 1)

    def forward_features(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, h, w): runs at every step; the loop's state is made of this."""
        x: Tensor = self.first(image).relu()
        x = x + self.second(x).relu()
        return x + F.relu(self.third(x))

    def forward_head(self, features: Tensor) -> Tensor:
        """(B, width, h, w) -> logits (B, classes, 2h, 2w): reads the state after the last step."""
        return F.pixel_shuffle(self.last(features), 2)

    def check_input_shape(self, image: Tensor) -> None:
        """Raise ``RuntimeError`` for odd sides: the head would answer one pixel more."""
        height, width = image.shape[-2:]
        if height % 2 or width % 2:
            raise RuntimeError(f"image of {height} x {width}: expected even sides.")

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W), sides even, -> logits (B, classes, H, W)."""
        self.check_input_shape(image)
        logits: Tensor = self.forward_head(self.forward_features(image))
        return logits
