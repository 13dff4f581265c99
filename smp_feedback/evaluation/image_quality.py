"""How close a restored image is to the clean one, and how well it is segmented."""

from __future__ import annotations

import torch
from torch import Tensor

from smp_feedback.evaluation.by_image import EachImageTally
from smp_feedback.evaluation.confusion import Tally
from smp_feedback.evaluation.scores import LookScore, score_of
from smp_feedback.ops.reading import SEGMENTATION


class ImageTally:
    """What is counted, batch by batch, of one image that a base is shown: the clean, the distorted or a restored one.

    Args:
        classes: Number of classes.
        ignore_index: Label that is not scored.
        device: Where to count; it is asked once, at the end.
        images: Whether to keep what each image of a batch is worth, too.
    """

    def __init__(self, classes: int, ignore_index: int | None, device: torch.device, *, images: bool = False) -> None:
        self.each = EachImageTally(classes, ignore_index, SEGMENTATION) if images else None
        self.tally = Tally(classes, ignore_index, device, each=None if self.each is None else self.each.add)
        self.near: list[Tensor] = []

    def add(self, image: Tensor, logits: Tensor, clean: Tensor, target: Tensor) -> None:
        """One batch: what the base was shown, and what it said."""
        self.tally.add(logits, target)
        self.near.append(torch.stack([psnr(image, clean), l1(image, clean)]))

    def score(self) -> LookScore:
        """Of the segmentation."""
        return score_of(self.tally, 1, SEGMENTATION, images=None if self.each is None else self.each.images())

    def closeness(self) -> dict[str, float]:
        """``psnr`` and ``l1``, means over the images; the first is infinite where one is equal to the clean one."""
        means = torch.cat(self.near, 1).double().mean(1).tolist()
        return dict(zip(("psnr", "l1"), means, strict=True))


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
