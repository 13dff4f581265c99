"""FC-DenseNet, the hundred-layer tiramisu: a U-Net of dense blocks."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch  # noqa: F401  (doctests)
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from smp_feedback.checks import check_bool, check_whole
from smp_feedback.errors import InvalidInput, InvalidValue
from torch import Tensor, nn

from smp_feedback_fcn.chain import Chain
from smp_feedback_fcn.dense import DenseBlock, Layers, TransitionUp, he_uniform, transition_down

BLOCKS_103 = (4, 5, 7, 10, 12, 15, 12, 10, 7, 5, 4)
"""Layers of each dense block of FC-DenseNet103 (table 2)."""


class FCDenseNet(SegmentationModel):  # type: ignore[misc]  # smp is not typed
    """A fully convolutional DenseNet (Jegou et al. 2017, arXiv 1611.09326), from random weights.

    A 3 x 3 convolution; on the way down dense blocks, each followed by a 1 x 1 layer and a pooling; a block at the
    bottom; on the way up the last block's *new* maps, upsampled, joined by what the way down made at that size, and a
    block; a 1 x 1 convolution. A layer is batch normalisation, ReLU, convolution, dropout.

    Args:
        in_channels: Channels of the image.
        classes: Channels of the logits.
        blocks: Layers of each dense block, from the first to the last, an odd number of blocks: as many go up as down.
            Those of FC-DenseNet103.
        growth: New maps of each layer.
        first_channels: Channels of the first convolution.
        dropout: After each convolution of a layer; 0.2 as published.
        batch_statistics: Whether batch normalisation uses the batch's own statistics in evaluation, too, as arXiv
            1705.07450 runs it: its state dict has no running statistics then, and an image's answer depends on the
            batch that it is in.

    Raises:
        InvalidType, InvalidValue: For a value outside its range.

    >>> model = FCDenseNet(classes=11, blocks=(2, 2, 3, 2, 2), growth=4, first_channels=8)
    >>> model(torch.rand(1, 3, 37, 50)).shape
    torch.Size([1, 11, 37, 50])
    """

    _is_torch_scriptable = False
    requires_divisible_input_shape = False

    @supports_config_loading  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 1,
        *,
        blocks: Sequence[int] = BLOCKS_103,
        growth: int = 16,
        first_channels: int = 48,
        dropout: float = 0.2,
        batch_statistics: bool = False,
    ) -> None:
        wholes = {"in_channels": in_channels, "classes": classes, "growth": growth, "first_channels": first_channels}
        for name, value in wholes.items():
            check_whole(name, value)
        check_bool("batch_statistics", batch_statistics)
        counts = _checked_blocks(blocks)
        super().__init__()
        layers = Layers(growth, dropout, batch_statistics)
        depth = len(counts) // 2
        self.encoder = _way_down(in_channels, first_channels, counts[: depth + 1], layers)
        self.decoder = WayUp(self.encoder, counts[depth + 1 :], layers)
        self.segmentation_head = nn.Conv2d(self.decoder.out_channels, classes, 1)
        self.classification_head = None
        self.batch_statistics = batch_statistics
        self.name = f"fc-densenet{sum(counts) + len(counts) + 1}"  # the ways between blocks, first and last convolution
        he_uniform(self)

    def check_input_shape(self, x: Tensor) -> None:
        """Raise ``InvalidInput`` for an image (B, C, H, W) of which the poolings leave nothing, or no statistics."""
        least = self.encoder.output_stride
        if min(x.shape[-2:]) < least:
            raise InvalidInput(
                f"image of {x.shape[-2]} x {x.shape[-1]}: expected at least {least} x {least}. Resize or pad it, or "
                "make the model of fewer blocks."
            )
        if self.batch_statistics and len(x) * (x.shape[-2] // least) * (x.shape[-1] // least) < 2:
            raise InvalidInput(
                f"one image of {x.shape[-2]} x {x.shape[-1]} is a single pixel at the bottom, which has no statistics: "
                f"with batch_statistics=True, expected {2 * least} pixels in height or width, or a larger batch."
            )


class WayUp(nn.Module):
    """The decoder: each block is upsampled and joined by what the way down made; the last answers with all it read.

    Args:
        encoder: That of :class:`FCDenseNet`.
        counts: Layers of each block.
        layers: How they are made.

    Attributes:
        out_channels: Channels of the answer.
    """

    def __init__(self, encoder: Chain, counts: Sequence[int], layers: Layers) -> None:
        super().__init__()
        *skips, channels = encoder.out_channels
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for i, (count, skip) in enumerate(zip(counts, reversed(skips), strict=True), start=1):
            self.ups.append(TransitionUp(channels))
            block = DenseBlock(channels + skip, count, layers, only_new=i < len(counts))
            self.blocks.append(block)
            channels = block.out_channels
        self.out_channels = channels

    def forward(self, features: list[Tensor]) -> Tensor:
        """The encoder's maps -> (B, out_channels, H, W)."""
        *skips, x = features
        for up, block, skip in zip(self.ups, self.blocks, reversed(skips), strict=True):
            x = block(up(x, skip))
        return x


def _way_down(in_channels: int, first_channels: int, counts: Sequence[int], layers: Layers) -> Chain:
    """``first block1 down1 ... bottom``; shows the blocks, and of the bottom what is new."""
    parts: dict[str, nn.Module] = {"first": nn.Conv2d(in_channels, first_channels, 3, padding=1)}
    shown: dict[str, int] = {}
    channels = first_channels
    *before, last = counts
    for i, count in enumerate(before, start=1):
        block = DenseBlock(channels, count, layers)
        channels = shown[f"block{i}"] = block.out_channels
        parts |= {f"block{i}": block, f"down{i}": transition_down(channels, layers)}
    bottom = DenseBlock(channels, last, layers, only_new=True)
    parts["bottom"], shown["bottom"] = bottom, bottom.out_channels
    return Chain(parts, shown, 2 ** len(before))


def _checked_blocks(blocks: Sequence[int]) -> tuple[int, ...]:
    for count in blocks:
        check_whole("blocks", count)
    if len(blocks) % 2 == 0 or len(blocks) < 3:
        raise InvalidValue(
            f"blocks={tuple(blocks)}: expected an odd number of dense blocks, three or more; as many go up as down, "
            "with one at the bottom."
        )
    return tuple(blocks)


fc_densenet56 = functools.partial(FCDenseNet, blocks=(4,) * 11, growth=12)
fc_densenet67 = functools.partial(FCDenseNet, blocks=(5,) * 11, growth=16)
fc_densenet103 = functools.partial(FCDenseNet, blocks=BLOCKS_103, growth=16)
