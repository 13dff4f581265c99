"""PlainConv: a few 3 x 3 convolutions at full resolution, for a local rule that a loop repeats."""

from __future__ import annotations

from typing import cast

import torch  # noqa: F401  (doctests)
from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.checks import check_bool, check_whole


class PlainConv(nn.Module):
    """3 x 3 convolutions at the image's own resolution, with ReLU between, and a 1 x 1 head.

    It sees no further than ``depth`` pixels to each side (a receptive field of 2 ``depth`` + 1), has no normalisation
    and no notion of the image's size: whatever it learns is a local rule, and a loop that repeats it carries it to
    images of any size. With C channels, n classes and width w it has 9 C w + w + (``depth`` - 1) (9 w^2 + w) +
    (w + 1) n parameters: 19,425 by default.

    Args:
        in_channels: Channels of the image.
        classes: Channels of the logits.
        width: Channels of each convolution.
        depth: How many there are, >= 1.
        residual: Each convolution but the first adds to what it is handed, so that a deep one trains; its weights begin
            smaller by the square root of their number, so that what is added up does not grow with the depth.

    Raises:
        InvalidType, InvalidValue: If a number is not whole, or below 1.

    >>> net = PlainConv(classes=2)
    >>> net(torch.rand(1, 3, 11, 7)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([1, 2, 11, 7]), 19458)
    """

    def __init__(
        self, in_channels: int = 3, classes: int = 1, *, width: int = 32, depth: int = 3, residual: bool = False
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "classes": classes, "width": width, "depth": depth}
        for name, value in sizes.items():
            check_whole(name, value)
        check_bool("residual", residual)
        self.config = {**sizes, "residual": residual}  # what it is made of, as smp's models keep it
        widths = [in_channels, *[width] * (depth - 1)]
        self.convs = nn.ModuleList(nn.Conv2d(channels, width, 3, padding=1) for channels in widths)
        self.head = nn.Conv2d(width, classes, 1)
        self.residual = residual
        for conv in self.convs[1:] if residual else ():
            cast(nn.Conv2d, conv).weight.data /= (depth - 1) ** 0.5

    def forward_features(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, H, W)."""
        first, *rest = self.convs
        x: Tensor = first(image)
        for conv in rest:
            made = conv(F.relu(x))
            x = x + made if self.residual else made
        return x

    def forward_head(self, features: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, classes, H, W)."""
        return cast(Tensor, self.head(features))

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes, H, W)."""
        return self.forward_head(self.forward_features(image))
