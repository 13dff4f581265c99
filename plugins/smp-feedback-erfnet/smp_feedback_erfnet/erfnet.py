"""ERFNet: an encoder of factorised residual blocks at an eighth of the image, and a small decoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch  # noqa: F401  (doctests)
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from smp_feedback import Cut
from smp_feedback.checks import check_number, check_whole
from smp_feedback.errors import InvalidType, InvalidValue
from torch import Tensor, nn

from smp_feedback_erfnet.blocks import Downsampler, NonBottleneck1D, Upsampler
from smp_feedback_erfnet.weights import encoder_weights_of

FIRST = 16  # channels after the first block, which the image's are part of
DILATIONS = (2, 4, 8, 16, 2, 4, 8, 16)


class ERFNet(SegmentationModel):  # type: ignore[misc]  # smp is not typed
    """ERFNet (Romera et al. 2018, *IEEE Transactions on Intelligent Transportation Systems* 19, 263-272).

    2.06 million parameters for 20 classes. Images of any size: the three downsamplers round odd sizes up, and logits
    beyond the image are cut off; where height and width are multiples of 8 it is the published network.

    Args:
        in_channels: Channels of the image, 1 to 15: the first block hands them on among its 16.
        classes: Channels of the logits; 20 are Cityscapes' 19 and void, as published.
        encoder_weights: None is random. A file of weights, of a classifier whose encoder this is or of a whole ERFNet:
            safetensors, or what ``torch.save`` wrote, read without running code; see
            :func:`smp_feedback_erfnet.weights.encoder_weights_of`.
        dropout: Of the five blocks at a quarter of the image, and of the eight at an eighth, each in [0, 1].

    Raises:
        InvalidType, InvalidValue: For a value outside its range, a file that cannot be read, and weights that are not
            an ERFNet encoder's.

    >>> model = ERFNet(classes=11).eval()
    >>> model(torch.rand(1, 3, 37, 50)).shape
    torch.Size([1, 11, 37, 50])
    """

    _is_torch_scriptable = False
    requires_divisible_input_shape = False

    @supports_config_loading  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 20,
        *,
        encoder_weights: str | Path | None = None,
        dropout: Sequence[float] = (0.03, 0.3),
    ) -> None:
        if check_whole("in_channels", in_channels) >= FIRST:
            raise InvalidValue(
                f"in_channels={in_channels}: expected 1 to {FIRST - 1}; the first block hands the image's channels on "
                f"among its {FIRST}."
            )
        check_whole("classes", classes)
        quarter, eighth = _checked_dropout(dropout)
        super().__init__()
        self.encoder = Encoder(in_channels, quarter, eighth)
        self.decoder = Decoder()
        self.segmentation_head = nn.ConvTranspose2d(FIRST, classes, 2, stride=2)
        self.classification_head = None
        self.name = "erfnet"
        if encoder_weights is not None:
            self.encoder.load_state_dict(encoder_weights_of(encoder_weights, self.encoder.state_dict()))
            self.config["encoder_weights"] = None  # a saved model has them itself, and is built without the file

    def check_input_shape(self, x: Tensor) -> None:
        """Every size is taken."""

    def forward(self, x: Tensor) -> Tensor:
        """Image (B, C, H, W) -> logits (B, classes, H, W)."""
        return _head(self, _body(self, x)[0], (x.shape[-2], x.shape[-1]))


class Encoder(nn.Module):
    """Three downsamplers, with five blocks after the second and eight dilated ones after the third.

    Its modules bear the published names, ``initial_block`` and ``layers.0`` to ``layers.14``.

    Args:
        in_channels: Channels of the image.
        quarter, eighth: Dropout of the blocks at that part of the image's size.

    Attributes:
        out_channels: Channels of each map of the answer; the k-th, counted from 0, has 2^k pixels of the image to one.
    """

    output_stride = 8

    def __init__(self, in_channels: int, quarter: float, eighth: float) -> None:
        super().__init__()
        self.out_channels = (in_channels, FIRST, 64, 128)
        self.initial_block = Downsampler(in_channels, FIRST)
        blocks: list[nn.Module] = [Downsampler(FIRST, 64)]
        blocks += [NonBottleneck1D(64, quarter) for _ in range(5)]
        blocks += [Downsampler(64, 128)]
        blocks += [NonBottleneck1D(128, eighth, dilation) for dilation in DILATIONS]
        self.layers = nn.ModuleList(blocks)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> the image, and the maps at a half, a quarter and an eighth of its size."""
        x = self.initial_block(image)
        features = [image]
        for layer in self.layers:
            if isinstance(layer, Downsampler):
                features.append(x)
            x = layer(x)
        return [*features, x]


class Decoder(nn.Module):
    """Two upsamplers, each followed by two blocks; ``layers.0`` to ``layers.5``, as published.

    Attributes:
        out_channels: Channels of the answer.
    """

    out_channels = FIRST

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for inputs, outputs in ((128, 64), (64, FIRST)):
            blocks += [Upsampler(inputs, outputs), NonBottleneck1D(outputs), NonBottleneck1D(outputs)]
        self.layers = nn.ModuleList(blocks)

    def forward(self, features: list[Tensor]) -> Tensor:
        """The encoder's maps -> (B, 16, 4h, 4w), h and w those of the last."""
        x = features[-1]
        for layer in self.layers:
            x = layer(x)
        return x


def _checked_dropout(dropout: Sequence[float]) -> tuple[float, float]:
    if isinstance(dropout, str) or not isinstance(dropout, Sequence) or len(dropout) != 2:
        raise InvalidType(f"dropout={dropout!r}: expected two numbers from 0 to 1, such as (0.03, 0.3).")
    for share in dropout:
        check_number("dropout", share, least=0)
        if share > 1:
            raise InvalidValue(f"dropout={share!r}: expected a number from 0 to 1.")
    return dropout[0], dropout[1]


def _body(model: Any, image: Tensor) -> tuple[Tensor, None]:
    return model.decoder(model.encoder(image)), None


def _head(model: Any, output: Tensor, size: tuple[int, int]) -> Tensor:
    logits: Tensor = model.segmentation_head(output)
    return logits[..., : size[0], : size[1]]


CUT = Cut(_body, _head, encoder="encoder")
"""Encoder and decoder, whose 16 channels at half the image's size are the state | last upsampling, cropping."""
