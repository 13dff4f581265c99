"""The restoration U-Net: it says for each pixel where to read the distorted image, and hears the classes change.

*Spatial Feedback Learning to Improve Semantic Segmentation in Hot Weather* (BMVC 2020), section 3.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.ops.warp import warp
from smp_feedback.restorers.base import Restored, Restorer


class RestorationUnet(Restorer):
    """A U-Net whose output, ``reach * tanh``, displaces the pixels of the image it was given.

    The last convolution starts at zero: before it is trained, the network gives back what it is given. The way down
    hears no feedback and is gone once per image; any size is taken, padded by its border and cropped again.

    Args:
        in_channels: Channels C of the image.
        feedback_channels: Channels of the feedback: C times the classes.
        depth: Resolutions, >= 2; each halves the one before.
        filters: Channels at the first, doubled at each further one.
        reach: Largest displacement, in pixels.
        weight: Of the feedback at the lowest resolution; ``learnt`` is a parameter that begins at 0.
        shown_mean: Whether it is shown the mean of the images restored before, through a convolution that begins at 0.
        keeps: Whether it says how much of that mean shall stay; 0 everywhere, before it is trained.
    """

    def __init__(
        self,
        in_channels: int,
        feedback_channels: int,
        *,
        depth: int,
        filters: int,
        reach: float,
        weight: float | str,
        shown_mean: bool = False,
        keeps: bool = False,
    ) -> None:
        super().__init__()
        self.reach, self.shown_mean = reach, shown_mean
        self.weight = nn.Parameter(torch.zeros(())) if isinstance(weight, str) else weight
        widths = [filters * 2**k for k in range(depth)]
        self.down = nn.ModuleList(block(i, o) for i, o in zip([in_channels, *widths], widths, strict=False))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in pairs)
        self.merge = nn.ModuleList(block(i, o) for i, o in pairs)
        self.last = nn.Conv2d(filters, 2, 1)
        self.transfer = Transfer(feedback_channels, widths[-1], stride=2 ** (depth - 1))
        self.transfer.requires_grad_(bool(weight))  # what is never heard is not waited for, as DDP would
        self.compare = compared(in_channels, filters) if shown_mean else None
        self.keep = nn.Conv2d(filters, 1, 1) if keeps else None
        for last in (self.last, self.keep, None if self.compare is None else self.compare[-1]):
            if last is not None:
                nn.init.zeros_(cast(Tensor, last.weight))
                nn.init.zeros_(cast(Tensor, last.bias))

    def begin(self, image: Tensor, mean: Tensor | None = None) -> tuple[Tensor, ...]:
        """The way down: features of every resolution, the finest first; of the image, and of the *mean* beside it."""
        multiple = 2 ** (len(self.down) - 1)
        x = pad_to(image, multiple)
        features = [self.down[0](x)]
        if mean is not None and self.compare is not None:
            features[0] = features[0] + self.compare(torch.cat([x, pad_to(mean, multiple)], 1))
        for down in self.down[1:]:
            features.append(down(F.max_pool2d(features[-1], 2)))
        return tuple(features)

    def restore(self, image: Tensor, begun: tuple[Tensor, ...], feedback: Tensor | None) -> Restored:
        """The way up, and the displacement it ends in."""
        *fine, x = begun
        if feedback is not None:
            x = x + self.weight * self.transfer(feedback)
        for up, merge, skip in zip(self.up, self.merge, reversed(fine), strict=True):
            x = merge(torch.cat([up(x), skip], 1))
        height, width = image.shape[-2:]
        displacement = self.reach * self.last(x)[..., :height, :width].tanh()
        keep = None if self.keep is None else self.keep(x)[..., :height, :width].tanh()
        return Restored(warp(image, displacement), displacement, keep)


class Transfer(nn.Module):
    """The block that takes the feedback to the lowest resolution of a network.

    Pool, convolve, normalise, rectify, convolve, normalise, pool: half of the stride before, half after.

    Args:
        channels: Of the feedback.
        out_channels: Of what it is added to.
        stride: Image pixels from one place of that to the next, a power of two.
    """

    def __init__(self, channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        halvings = stride.bit_length() - 1
        self.before, self.after = 2 ** (halvings - halvings // 2), 2 ** (halvings // 2)
        self.main = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, feedback: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        padded = pad_to(feedback, self.before * self.after, mode="constant")
        return F.avg_pool2d(self.main(F.avg_pool2d(padded, self.before)), self.after)


def block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two convolutions, each rectified and then normalised."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(out_channels),
    )


def compared(in_channels: int, out_channels: int) -> nn.Sequential:
    """What is read of an image and, beside it, the mean of those before: two convolutions, rectified in between."""
    return nn.Sequential(
        nn.Conv2d(2 * in_channels, out_channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
    )


def pad_to(x: Tensor, multiple: int, mode: str = "replicate") -> Tensor:
    """*x* (B, C, H, W), made larger at its right and lower edge until *multiple* divides both sides.

    >>> pad_to(torch.ones(1, 1, 5, 8), 4).shape
    torch.Size([1, 1, 8, 8])
    """
    down, right = (-side % multiple for side in x.shape[-2:])
    return F.pad(x, (0, right, 0, down), mode=mode) if down or right else x
