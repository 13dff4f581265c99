"""The standard autoencoder: it contracts y, meets the features where their resolutions agree, and expands again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.config.score import Score
from smp_feedback.errors import InvalidInput
from smp_feedback.loops.score.autoencoders.base import Autoencoder, glorot
from smp_feedback.loops.score.autoencoders.conditioned import ConditionedConv2d
from smp_feedback.loops.score.autoencoders.features import Feature, lay_onto, resized
from smp_feedback.loops.score.autoencoders.unpooling import UNPOOLINGS
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.surgery.step_batchnorm import count_once


class Block(nn.Module):
    """What lies before a pooling: ``conv 3 x 3, ReLU`` as often as the config says, then its dropout and BatchNorm.

    Args:
        config: The loop's config.
        conditions: Channels of the features that the first convolution reads.
        channels: Channels that it reads beside.
        width: Of all its convolutions.
        padding: Of the first.
    """

    def __init__(self, config: Score, conditions: int, channels: int, width: int, padding: int = 1) -> None:
        super().__init__()
        self.conv = ConditionedConv2d(conditions, channels, width, padding=padding)
        rest: list[nn.Module] = [nn.ReLU()]
        for _ in range(config.convolutions - 1):
            rest += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        rest += [nn.Dropout(config.dropout)] if config.dropout else []
        rest += [nn.BatchNorm2d(width)] if config.batch_norm else []
        self.rest = nn.Sequential(*rest)
        count_once(self.rest)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """What the pooling reads, of *x* (B, C, H, W) and what the features gave."""
        out: Tensor = self.rest(self.conv(x, condition))
        return out


class Standard(Autoencoder):
    """The autoencoder of arXiv 1705.07450, with the options of its code: poolings down, features beside, unpoolings up.

    With P poolings, p = 1 ... P: block p has ``filters * 2^(p - 1)`` channels and is pooled; block p + 1 reads
    ``[features of level p, pool p]`` (block 1 ``[features of level 0, y]``). Up again, p = P ... 1: unpooling p,
    a linear convolution to the channels of pool p - 1, and what pool p - 1 gave is added; the last gives K classes.
    P is the level of the deepest feature and ``additional_pools`` more.

    Any size is read: y is padded to a multiple of 2^P at the bottom and right, its edge repeated, and the answer
    cropped. With ``padding`` above 1 the first convolution enlarges the grid by ``2 * padding - 2`` instead, as that
    of FCN-8 does, poolings round down, and the answer is cropped in the middle.

    Args:
        config: The loop's config.
        classes: Channels K of y.
        features: What conditions it.

    >>> pool4 = Feature("pool4", 512, 16.0)
    >>> with torch.device("meta"):
    ...     module = Standard(Score(), 11, [pool4])
    >>> [block.conv.out_channels for block in module.down], [conv.out_channels for conv in module.up]
    ([64, 128, 256, 512, 1024, 2048], [1024, 512, 256, 128, 64, 11])
    """

    def __init__(self, config: Score, classes: int, features: Sequence[Feature]) -> None:
        super().__init__(config, classes, features)
        pools = max(feature.level for feature in features) + config.additional_pools
        read = [sum(f.channels for f in features if f.level == level) for level in range(pools)]
        widths = [classes, *(config.filters * 2**level for level in range(pools))]
        unpooling = UNPOOLINGS[config.unpooling]
        self.margin, self.skip = config.padding - 1, config.skip
        self.levels = tuple(level for level in range(pools) if read[level])
        self.down = nn.ModuleList(
            Block(config, read[p], widths[p], widths[p + 1], config.padding if p == 0 else 1) for p in range(pools)
        )
        self.up = nn.ModuleList(unpooling(widths[p + 1], widths[p]) for p in reversed(range(pools)))
        self.apply(glorot)

    def prepare(self, features: Sequence[Tensor], size: Size) -> tuple[Tensor, ...]:
        """The convolutions of the features, each on the grid of its level."""
        self._check(size)
        conditions = []
        for level in self.levels:
            met = zip(self.features, features, strict=True)
            aligned = [self._aligned(h, feature, size) for feature, h in met if feature.level == level]
            conditions.append(cast(Block, self.down[level]).conv.condition(torch.cat(aligned, 1)))
        return tuple(conditions)

    def denoise(self, y: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """See the class."""
        size = size_of(y)
        given = dict(zip(self.levels, conditions, strict=True))
        read: list[Tensor] = []
        pooled = [lay_onto(y, self._grid(size, 0))]
        for level, block in enumerate(self.down):
            read.append(block(pooled[-1], given.get(level)))
            pooled.append(F.max_pool2d(read[-1], 2))
        x = pooled[-1]
        for p, unpool in zip(reversed(range(len(read))), self.up, strict=True):
            x = unpool(x, read[p], pooled[p + 1])
            x = x + pooled[p] if self.skip and p else x
        return crop(x, size, self.margin)

    def _grid(self, size: Size, level: int) -> Size:
        """The grid of what block ``level + 1`` reads, where y is of *size*."""
        if not self.margin:
            most = 2 ** len(self.down)
            return _each(size, lambda n: -(-n // most) * most // 2**level)
        return _each(size, lambda n: (n + 2 * self.margin) // 2**level) if level else size

    def _aligned(self, h: Tensor, feature: Feature, size: Size) -> Tensor:
        grid = self._grid(size, feature.level)
        if not (self.margin and feature.level):
            return lay_onto(resized(h, size, feature.level), grid)
        if any(abs(got - wanted) > 1 for got, wanted in zip(h.shape[-2:], grid, strict=True)):
            raise InvalidInput(
                f"features: {feature.name!r} has a grid of {tuple(h.shape[-2:])}; with padding={self.margin + 1} "
                f"expected {grid}, from a base that pads its image by as much. For any other base: padding=1."
            )
        return lay_onto(h, grid)

    def _check(self, size: Size) -> None:
        pools = len(self.down)
        if self.margin and min(self._grid(size, pools)) < 1:
            least = max(1, 2**pools - 2 * self.margin)
            raise InvalidInput(
                f"y of {size[0]} x {size[1]}: with padding={self.margin + 1}, nothing is left after {pools} poolings; "
                f"expected at least {least} x {least}."
            )


def crop(x: Tensor, size: Size, begin: int) -> Tensor:
    """*x* (B, C, H, W) from row and column *begin* on, as large as *size*: a padding of less than nothing.

    A slice would do the same, and tie an exported model to its size.

    >>> crop(torch.arange(4.0).reshape(1, 1, 2, 2), (1, 1), 1)
    tensor([[[[3.]]]])
    """
    after = [most - begin - wanted for most, wanted in zip(x.shape[-2:], size, strict=True)]
    return F.pad(x, (-begin, -after[1], -begin, -after[0]))


def _each(size: Size, function: Callable[[int], int]) -> Size:
    return function(size[0]), function(size[1])
