"""VGG16 made fully convolutional: the encoder of FCN-8s, by the names that its Caffe model gave the layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torchvision
from smp_feedback.checks import check_number
from smp_feedback.errors import InvalidValue
from torch import Tensor, nn

from smp_feedback_fcn.chain import Chain

PAD = 100  # of the first convolution, in pixels: what the 7 x 7 convolution over stride 32 takes away from any image
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of the 3 x 3 convolutions before each pooling."""
TOP = 4096
"""Channels of fc6 and fc7."""


def vgg16(in_channels: int, width: float = 1.0, dropout: float = 0.5) -> Chain:
    """Five stages of 3 x 3 convolutions, each followed by ReLU, then fc6 (7 x 7, not padded) and fc7 (1 x 1).

    Long et al. 2015 (arXiv 1411.4038), section 4.1. Its parts are ``conv1_1 relu1_1 ... pool1 ... pool5 fc6 relu6 drop6
    fc7 relu7 drop7``; it shows the image, the five poolings, which halve and drop an odd last row, and ``drop7``.

    Args:
        in_channels: Channels of the image.
        width: All channels are this many times the published ones, rounded, at least 1.
        dropout: After fc6 and fc7, from 0 to 1.

    Raises:
        InvalidType, InvalidValue: If *width* is not above 0.

    >>> import torch
    >>> encoder = vgg16(3, width=1 / 32)
    >>> [tuple(x.shape[1:]) for x in encoder(torch.zeros(1, 3, 26, 58))]
    [(3, 26, 58), (2, 112, 128), (4, 56, 64), (8, 28, 32), (16, 14, 16), (16, 7, 8), (128, 1, 2)]
    """
    check_number("width", width, above=0)
    parts: dict[str, nn.Module] = {}
    shown = {"image": in_channels}
    inputs = in_channels
    for stage, (channels, count) in enumerate(STAGES, start=1):
        outputs = _scaled(channels, width)
        for i in range(1, count + 1):
            parts[f"conv{stage}_{i}"] = nn.Conv2d(inputs, outputs, 3, padding=1 if parts else PAD)
            parts[f"relu{stage}_{i}"] = nn.ReLU()
            inputs = outputs
        parts[f"pool{stage}"] = nn.MaxPool2d(2)
        shown[f"pool{stage}"] = outputs
    for number, kernel in ((6, 7), (7, 1)):
        outputs = _scaled(TOP, width)
        parts[f"fc{number}"] = nn.Conv2d(inputs, outputs, kernel)
        parts[f"relu{number}"], parts[f"drop{number}"] = nn.ReLU(), nn.Dropout(dropout)
        inputs = outputs
    encoder = Chain(parts, {**shown, "drop7": inputs}, 32)
    _initialise(encoder)
    return encoder


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _initialise(encoder: nn.Module) -> None:
    """He et al.'s: sixteen layers without normalisation, of which torch's own would let little through."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def from_torchvision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's VGG16 by our names; its first two linear layers read 7 x 7 maps, and are convolutions here.

    Args:
        weights: The state dict of ``torchvision.models.vgg16``; its classifier's last layer is left out.

    Raises:
        InvalidValue: If a layer is missing.
    """
    ours: dict[str, Tensor] = {}
    for theirs, name in _names():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" not in weights:
                raise InvalidValue(f"These weights have no {theirs}.{kind}: expected those of torchvision's vgg16.")
            ours[f"{name}.{kind}"] = weights[f"{theirs}.{kind}"]
    ours["fc6.weight"] = ours["fc6.weight"].reshape(len(ours["fc6.bias"]), -1, 7, 7)
    ours["fc7.weight"] = ours["fc7.weight"][:, :, None, None]
    return ours


def _names() -> Iterator[tuple[str, str]]:
    """torchvision's name and ours for each layer with weights: it counts activations and poolings too."""
    index = 0
    for stage, (_, count) in enumerate(STAGES, start=1):
        for i in range(1, count + 1):
            yield f"features.{index}", f"conv{stage}_{i}"
            index += 2
        index += 1
    yield "classifier.0", "fc6"
    yield "classifier.3", "fc7"


def imagenet() -> dict[str, Tensor]:
    """torchvision's ImageNet weights of VGG16 by our names; downloads 528 MB the first time."""
    weights = torchvision.models.VGG16_Weights.IMAGENET1K_V1
    return from_torchvision(weights.get_state_dict(weights_only=True, check_hash=True))
