"""DFMDeepLabV3Plus: the segmentation model of Deep Feedback Models (arXiv 2509.15905), of smp's parts."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base import SegmentationHead
from torch import nn
from torchvision.models.resnet import BasicBlock

from smp_feedback.errors import InvalidValue
from smp_feedback.models.recipes.reading import reading_first


class DFMDeepLabV3Plus(smp.DeepLabV3Plus):  # type: ignore[misc]
    """smp's DeepLabV3+ whose decoder is K channels wider than its head reads.

    The first residual block has a convolution in its shortcut, as published: in a loop it reads the feedback beside
    the stem's channels. Where smp's encoder has none there, it begins as the identity.

    Args:
        encoder_name: An encoder of smp's that begins as a ResNet does; resnet18 as published.
        encoder_weights: As in smp; None is random.
        in_channels: Channels of the image.
        classes: Channels of the logits.
        feedback_channels: Channels that are fed back, K.
        decoder_channels: Channels that the head reads; 256 as published.
        activation: As in smp.
        upsampling: As in smp.
        **kwargs: As smp's DeepLabV3Plus takes them.

    Raises:
        InvalidValue: If the encoder does not begin as a ResNet.

    >>> import torch, smp_feedback as smpf
    >>> model = smpf.create("DFMDeepLabV3Plus", classes=4).eval()
    >>> model(torch.rand(1, 3, 64, 64), steps=2).shape, model.feedback.readout
    (torch.Size([1, 4, 64, 64]), None)
    """

    def __init__(
        self,
        encoder_name: str = "resnet18",
        encoder_weights: str | None = None,
        in_channels: int = 3,
        classes: int = 1,
        feedback_channels: int = 0,
        decoder_channels: int = 256,
        activation: Any = None,
        upsampling: int = 4,
        **kwargs: Any,
    ) -> None:
        wide = decoder_channels + feedback_channels
        super().__init__(
            encoder_name, encoder_weights=encoder_weights, in_channels=in_channels, decoder_channels=wide, **kwargs
        )
        self.feedback_channels = feedback_channels
        head = SegmentationHead(decoder_channels, classes, activation=activation, kernel_size=1, upsampling=upsampling)
        self.segmentation_head = reading_first(head, decoder_channels)
        give_shortcut(self.encoder, encoder_name)


def give_shortcut(encoder: nn.Module, name: str) -> None:
    """A convolution in the shortcut of the first residual block, the identity so far, where there is none."""
    layer = getattr(encoder, "layer1", None)
    block = layer[0] if isinstance(layer, nn.Sequential) else None
    if block is None or not hasattr(block, "downsample"):
        raise InvalidValue(f"encoder {name!r} does not begin as a ResNet (resnet18 ... resnext101, se_resnet50, ...).")
    if block.downsample is None and isinstance(block, BasicBlock):
        width = block.conv1.in_channels
        conv = nn.Conv2d(width, width, 1, bias=False)
        nn.init.dirac_(conv.weight)
        block.downsample = nn.Sequential(conv, nn.BatchNorm2d(width))
