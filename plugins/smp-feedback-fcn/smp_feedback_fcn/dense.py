"""The parts of FC-DenseNet: dense blocks, and the ways down and up between them (arXiv 1611.09326, table 1)."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from smp_feedback_fcn.crops import cropped, size_of


class Layers(NamedTuple):
    """How every layer of a network is made.

    Attributes:
        growth: New maps of each layer of a dense block.
        dropout: After each convolution, from 0 to 1.
        batch_statistics: Whether batch normalisation uses the batch's own statistics in evaluation, too.
    """

    growth: int
    dropout: float = 0.2
    batch_statistics: bool = False

    def make(self, inputs: int, outputs: int, kernel: int) -> nn.Sequential:
        """Batch normalisation, ReLU, convolution (padded to keep the size), dropout."""
        layer = nn.Sequential()
        layer.add_module("norm", nn.BatchNorm2d(inputs, track_running_stats=not self.batch_statistics))
        layer.add_module("relu", nn.ReLU())
        layer.add_module("conv", nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2))
        layer.add_module("drop", nn.Dropout(self.dropout))
        return layer


class DenseBlock(nn.Module):
    """Layers of which each reads what came in and what all those before it made.

    Args:
        inputs: Channels that come in.
        count: Number of layers, each making ``layers.growth`` new maps.
        layers: How they are made.
        only_new: Whether what came in is left out of the answer: it is, of what is upsampled.

    Attributes:
        out_channels: Channels of the answer.

    >>> DenseBlock(8, 3, Layers(growth=2))(torch.rand(1, 8, 4, 4)).shape
    torch.Size([1, 14, 4, 4])
    """

    def __init__(self, inputs: int, count: int, layers: Layers, *, only_new: bool = False) -> None:
        super().__init__()
        growth = layers.growth
        self.layers = nn.ModuleList(layers.make(inputs + i * growth, growth, 3) for i in range(count))
        self.only_new = only_new
        self.out_channels = count * growth + (0 if only_new else inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, out_channels, H, W), in the order in which they were made."""
        maps = [x]
        for layer in self.layers:
            maps.append(layer(torch.cat(maps, 1)))
        return torch.cat(maps[self.only_new :], 1)


def transition_down(channels: int, layers: Layers) -> nn.Sequential:
    """A 1 x 1 layer that keeps the number of channels, then a pooling that halves the size, odd ones rounded down."""
    down = layers.make(channels, channels, 1)
    down.add_module("pool", nn.MaxPool2d(2))
    return down


class TransitionUp(nn.Module):
    """A transposed convolution (3 x 3, stride 2) of a block's new maps, put before the maps of the way down.

    Args:
        channels: Channels of the new maps; as many come out.

    >>> TransitionUp(4)(torch.rand(1, 4, 3, 3), torch.rand(1, 9, 6, 7)).shape
    torch.Size([1, 13, 6, 7])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, channels, h, w) and (B, S, H, W), H from 2h to 2h + 1 -> (B, channels + S, H, W)."""
        return torch.cat([cropped(self.conv(x), size_of(skip)), skip], 1)


def he_uniform(network: nn.Module) -> None:
    """He et al.'s uniform start for every convolution, biases zero, in place (arXiv 1611.09326, section 4.1)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, module.bias))
