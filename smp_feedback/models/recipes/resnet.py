"""DFMResNet: the classifiers of Deep Feedback Models (arXiv 2509.15905), of torchvision's residual blocks."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, cast

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from smp_feedback.checks import check_weights
from smp_feedback.errors import InvalidValue
from smp_feedback.models.recipes.reading import readout
from smp_feedback.surgery.cuts import FEATURES_CUT

Block = type[BasicBlock] | type[Bottleneck]
WIDTHS = (64, 128, 256, 512)


class Layers(nn.Sequential):
    """The ResNet's trunk as a chain: stem with its pooling, then four layers; answers all, as smp's encoders do."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> the image and what each part made of it."""
        x, features = image, [image]
        for part in self:
            x = part(x)
            features.append(x)
        return features


class DFMResNet(nn.Module):
    """A ResNet whose last layer makes K channels more, per unit of its blocks' expansion, than its classifier reads.

    Layer 1 begins with a convolution in its shortcut: in a loop it reads the feedback beside the stem's 64 channels.

    Args:
        block: torchvision's ``BasicBlock`` or ``Bottleneck``.
        counts: Blocks in each layer.
        in_channels: Channels of the image.
        classes: Length of the logits.
        feedback_channels: Channels that are fed back, K; a multiple of the block's expansion.
    """

    def __init__(
        self, block: Block, counts: tuple[int, ...], in_channels: int, classes: int, feedback_channels: int
    ) -> None:
        super().__init__()
        self.feedback_channels, self.reads = feedback_channels, WIDTHS[-1] * block.expansion
        widths = (*WIDTHS[:-1], WIDTHS[-1] + feedback_channels // block.expansion)
        parts: dict[str, nn.Module] = {"stem": _stem(in_channels)}
        inputs = WIDTHS[0]
        for i, (width, count) in enumerate(zip(widths, counts, strict=True), start=1):
            parts[f"layer{i}"] = _layer(block, inputs, width, count, stride=1 if i == 1 else 2)
            inputs = width * block.expansion
        self.encoder = Layers()
        for name, part in parts.items():
            self.encoder.add_module(name, part)
        self.fc = nn.Linear(self.reads, classes)
        _initialise(self)

    def forward_features(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, S + K, H/32, W/32)."""
        return cast(Tensor, self.encoder(image)[-1])

    def forward_head(self, features: Tensor) -> Tensor:
        """The classifier of the spatial mean of the first S channels -> (B, classes)."""
        return cast(Tensor, self.fc(features[:, : self.reads].mean((2, 3))))

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes)."""
        return self.forward_head(self.forward_features(image))


def _stem(in_channels: int) -> nn.Sequential:
    """One module, pooling and all, so that the feedback enters behind the pooling."""
    stem = nn.Sequential()
    stem.add_module("conv1", nn.Conv2d(in_channels, WIDTHS[0], 7, stride=2, padding=3, bias=False))
    stem.add_module("bn1", nn.BatchNorm2d(WIDTHS[0]))
    stem.add_module("relu", nn.ReLU(inplace=True))
    stem.add_module("maxpool", nn.MaxPool2d(3, stride=2, padding=1))
    return stem


def _layer(block: Block, inputs: int, width: int, count: int, stride: int) -> nn.Sequential:
    outputs = width * block.expansion
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
    first = block(inputs, width, stride=stride, downsample=shortcut)
    return nn.Sequential(first, *(block(outputs, width) for _ in range(1, count)))


def _initialise(model: DFMResNet) -> None:
    """As torchvision's ResNets are; a shortcut that they do not have begins as the identity."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    shortcut = model.encoder.get_submodule("layer1.0.downsample.0")
    if shortcut.in_channels == shortcut.out_channels:
        nn.init.dirac_(cast(nn.Conv2d, shortcut).weight)


@torch.no_grad()
def take_weights(model: DFMResNet, plain: torchvision.models.ResNet) -> None:
    """Take over torchvision's weights: without feedback, *model* answers as *plain* then.

    What the last layer's own channels read of its additional ones starts at zero.
    """
    own = dict(model.encoder.named_parameters()) | dict(model.encoder.named_buffers())
    for name, theirs in plain.state_dict().items():
        place = f"stem.{name}" if name.startswith(("conv1", "bn1")) else name
        if place not in own:
            continue
        ours, part = own[place], tuple(slice(0, size) for size in theirs.shape)
        if ours.ndim > 1:
            ours[part[:1]] = 0.0
        ours[part] = theirs
    if model.fc.weight.shape == plain.fc.weight.shape:
        model.fc.load_state_dict(plain.fc.state_dict())


def _dfm_resnet(
    name: str,
    block: Block,
    counts: tuple[int, ...],
    encoder_weights: Any = None,
    in_channels: int = 3,
    classes: int = 1000,
    feedback_channels: int = 0,
) -> DFMResNet:
    """The base of that depth; *encoder_weights* other than None are torchvision's, downloaded."""
    if feedback_channels % block.expansion:
        raise InvalidValue(
            f"channels={feedback_channels}: this ResNet makes channels in multiples of {block.expansion}; give one."
        )
    if encoder_weights is not None and in_channels != 3:
        raise InvalidValue(f"encoder_weights={encoder_weights!r}: torchvision's read 3 channels, not {in_channels}.")
    model = DFMResNet(block, counts, in_channels, classes, feedback_channels)
    if encoder_weights is not None:
        check_weights(name, encoder_weights, ("imagenet", *torchvision.models.get_model_weights(name).__members__))
        weights = "DEFAULT" if encoder_weights == "imagenet" else encoder_weights
        take_weights(model, torchvision.models.get_model(name, weights=weights))
    return model


dfm_resnet18 = functools.partial(_dfm_resnet, "resnet18", BasicBlock, (2, 2, 2, 2))
dfm_resnet34 = functools.partial(_dfm_resnet, "resnet34", BasicBlock, (3, 4, 6, 3))
dfm_resnet50 = functools.partial(_dfm_resnet, "resnet50", Bottleneck, (3, 4, 6, 3))


CUT = replace(FEATURES_CUT, readout=readout)
"""The trunk | mean over space and classifier."""
