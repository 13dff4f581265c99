"""An encoder that is a chain of modules and shows what some of them gave, as smp's encoders do."""

from __future__ import annotations

from collections.abc import Mapping

import torch  # noqa: F401  (doctests)
from torch import Tensor, nn


class Chain(nn.Sequential):
    """Modules that hand one map on; answers with the maps of those that are shown.

    The feedback can enter behind any of these (``insert="stage:k"``): what lies before then runs once per image.

    Args:
        parts: The modules by name, in order.
        shown: The names of those whose maps the decoder is given, in order, with their channels; ``image`` may come
            first. The k-th, counted from 0, has 2^k pixels of the image to one, as in smp.
        output_stride: Pixels of the image to one of the last map.

    Attributes:
        out_channels: Channels of each map that is shown.

    >>> parts = {"conv": nn.Conv2d(3, 4, 1), "pool": nn.MaxPool2d(2)}
    >>> chain = Chain(parts, {"image": 3, "pool": 4}, 2)
    >>> [tuple(x.shape) for x in chain(torch.zeros(1, 3, 8, 8))]
    [(1, 3, 8, 8), (1, 4, 4, 4)]
    """

    def __init__(self, parts: Mapping[str, nn.Module], shown: Mapping[str, int], output_stride: int) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.shown, self.out_channels = tuple(shown), tuple(shown.values())
        self.output_stride = output_stride

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> one (B, C', h, w) for each name that is shown."""
        x, features = image, [image] if "image" in self.shown else []
        for name, part in self.named_children():
            x = part(x)
            if name in self.shown:
                features.append(x)
        return features
