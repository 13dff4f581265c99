"""Every pass of a restoration loop, the first one too, and how close an image is to another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from smp_feedback.loops.restoration import RestorationModel


class Passed(NamedTuple):
    """One pass.

    Attributes:
        restored: z_t (B, C, H, W).
        displacement: Where its pixels were read, in pixels (B, 2, H, W): rows, columns; None of a restorer that paints.
        logits: p_t (B, classes, H, W).
    """

    restored: Tensor
    displacement: Tensor | None
    logits: Tensor


def passes(model: RestorationModel, image: Tensor) -> Iterator[Passed]:
    """The first restoration, without feedback, and its segmentation; then those of each of the config's steps.

    ``model.iterate`` begins with the second of them. Restoration alone (``weight=0``) is the first pass alone.

    Args:
        model: Its mode is left as it is.
        image: The distorted image (B, C, H, W).

    >>> import torch
    >>> import smp_feedback as smpf
    >>> loop = smpf.Restoration(steps=2, depth=2, filters=4)
    >>> model = smpf.create("Unet", "resnet18", None, feedback=loop).eval()
    >>> len(list(passes(model, torch.rand(1, 3, 32, 32))))
    3
    """
    config = model.feedback.config
    begun = model.restorer.begin(image)
    feedback: Tensor | None = None
    before: Tensor | None = None
    for _ in range(config.steps + 1 if config.weight else 1):
        restored = model.restorer.restore(image, begun, feedback)
        logits = model.segment(restored.image)
        yield Passed(*restored, logits)
        change = logits - (logits if before is None else before)
        feedback, before = model.feed_back(change, restored.image), logits


def psnr(image: Tensor, clean: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of each image, ``-10 log10(mean (image - clean)^2)`` dB (B,).

    Args:
        image: (B, C, H, W), of values in [0, 1].
        clean: What it is held to, of the same shape.

    >>> import torch
    >>> psnr(torch.full((1, 3, 2, 2), 0.6), torch.full((1, 3, 2, 2), 0.5))
    tensor([20.0000])
    """
    return -10 * (image.double() - clean.double()).square().flatten(1).mean(1).log10().to(image.dtype)


def l1(image: Tensor, clean: Tensor) -> Tensor:
    """The mean distance of each image's values to those of the clean one (B,)."""
    return (image - clean).abs().flatten(1).mean(1)
