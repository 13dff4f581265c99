"""The context module: an autoencoder that keeps the resolution and widens its view by dilation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.config.score import Score
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.score.autoencoders.base import Autoencoder, glorot
from smp_feedback.loops.score.autoencoders.conditioned import ConditionedConv2d
from smp_feedback.loops.score.autoencoders.features import Feature, lay_onto, resized
from smp_feedback.ops.maps import Size

DILATIONS = (1, 2, 4, 8, 16, 1)
"""Together they take 32 pixels on each side, which are padded before."""


class Context(Autoencoder):
    """``[image, y] -> conv 3 x 3, ReLU -> zeros, 32 a side -> dilated conv 3 x 3, ReLU, six times -> conv 1 x 1``.

    All convolutions are as wide as there are classes. The dilated ones and the last begin as the identity, so that
    at first the answer is that of the first convolution; each pixel sees 67 x 67.

    Args:
        config: Its noise is read; the fields that shape the standard autoencoder are not.
        classes: Channels K of y.
        features: The image, or other maps of its resolution.

    Raises:
        InvalidValue: For a feature of lower resolution.

    >>> module = Context(Score(autoencoder="context"), 4, [Feature("input", 3, 1.0)]).eval()
    >>> module(torch.rand(1, 4, 20, 30), module.condition([torch.rand(1, 3, 20, 30)], (20, 30))).shape
    torch.Size([1, 4, 20, 30])
    """

    def __init__(self, config: Score, classes: int, features: Sequence[Feature]) -> None:
        for feature in features:
            if feature.level:
                raise InvalidValue(
                    f"autoencoder='context' keeps the image's resolution, and the feature {feature.name!r} has one "
                    f"pixel for {feature.stride:g}: choose features=('input',), or autoencoder='standard'."
                )
        super().__init__(config, classes, features)
        self.first = ConditionedConv2d(sum(feature.channels for feature in features), classes, classes)
        self.dilated = nn.ModuleList(nn.Conv2d(classes, classes, 3, dilation=d) for d in DILATIONS)
        self.last = nn.Conv2d(classes, classes, 1)
        self.apply(glorot)
        for conv in (*self.dilated, self.last):
            nn.init.dirac_(conv.weight)

    def prepare(self, features: Sequence[Tensor], size: Size) -> tuple[Tensor, ...]:
        """The first convolution of the features, on y's grid."""
        return (self.first.condition(torch.cat([lay_onto(resized(h, size, 0), size) for h in features], 1)),)

    def denoise(self, y: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """See the class."""
        (condition,) = conditions
        x = F.pad(self.first(y, condition).relu(), (sum(DILATIONS),) * 4)
        for conv in self.dilated:
            x = conv(x).relu()
        out: Tensor = self.last(x)
        return out
