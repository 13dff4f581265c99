"""The three blocks that ERFNet is made of (Romera et al. 2018, figure 2 and table I)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-3  # added to the variance by every batch normalisation, as published


class Downsampler(nn.Module):
    """Half the size: a 3 x 3 convolution of stride 2 beside a 2 x 2 max-pooling, batch normalisation, ReLU.

    The pooling hands the input's channels on; the convolution makes the others. Odd sizes are rounded up, by both.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out, more than *inputs*.

    >>> Downsampler(3, 16)(torch.rand(1, 3, 9, 12)).shape
    torch.Size([1, 16, 5, 6])
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs - inputs, 3, stride=2, padding=1)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, h, w), h = H / 2 rounded up."""
        return F.relu(self.bn(torch.cat([self.conv(x), self.pool(x)], 1)))


class NonBottleneck1D(nn.Module):
    """A residual block whose two 3 x 3 convolutions are each a 3 x 1 and a 1 x 3, with a ReLU between them.

    ``relu(x + drop(bn2(c13(relu(c31(relu(bn1(c13(relu(c31(x)))))))))))``; the second pair is dilated, each along its
    own axis, and padded to keep the size.

    Args:
        channels: That come in and go out.
        dropout: Share of the channels that are dropped before the sum, whole maps at a time.
        dilation: Of the second pair, in pixels.

    >>> NonBottleneck1D(8, dilation=4)(torch.rand(1, 8, 5, 7)).shape
    torch.Size([1, 8, 5, 7])
    """

    def __init__(self, channels: int, dropout: float = 0.0, dilation: int = 1) -> None:
        super().__init__()
        d = dilation
        self.conv3x1_1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.conv1x3_1 = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.bn1 = nn.BatchNorm2d(channels, eps=EPS)
        self.conv3x1_2 = nn.Conv2d(channels, channels, (3, 1), padding=(d, 0), dilation=(d, 1))
        self.conv1x3_2 = nn.Conv2d(channels, channels, (1, 3), padding=(0, d), dilation=(1, d))
        self.bn2 = nn.BatchNorm2d(channels, eps=EPS)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same."""
        y = F.relu(self.bn1(self.conv1x3_1(F.relu(self.conv3x1_1(x)))))
        y = self.bn2(self.conv1x3_2(F.relu(self.conv3x1_2(y))))
        return F.relu(x + self.dropout(y))


class Upsampler(nn.Module):
    """Twice the size: a transposed 3 x 3 convolution of stride 2, batch normalisation, ReLU.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.

    >>> Upsampler(8, 4)(torch.rand(1, 8, 5, 7)).shape
    torch.Size([1, 4, 10, 14])
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, 2H, 2W)."""
        return F.relu(self.bn(self.conv(x)))
