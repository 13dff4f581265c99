"""Joint augmentation of images and masks by name, through torchvision's transforms v2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from smp_feedback.checks import check_choice

AUGMENTATIONS = ("none", "flip", "affine", "colour")


def augmentation(name: str, ignore_index: int | None = None) -> Callable[..., Any] | None:
    """The transform called *name*, for (image, mask) as ``tv_tensors``, or (image, label); None for ``none``.

    ``flip`` mirrors left and right; ``affine`` also turns by up to 15 degrees and scales by 0.8 to 1.25, the gaps
    black and marked with *ignore_index* (label 0 if there is none); ``colour`` flips and moves brightness, contrast
    and saturation by up to a quarter.

    Args:
        name: One of ``AUGMENTATIONS``.
        ignore_index: The label that counts for nothing.

    Raises:
        InvalidValue: For another name.
    """
    check_choice("augment", name, AUGMENTATIONS)
    fill = {tv_tensors.Image: 0.0, torch.Tensor: 0.0, tv_tensors.Mask: 0 if ignore_index is None else ignore_index}
    more = {
        "affine": [v2.RandomAffine(15, scale=(0.8, 1.25), interpolation=v2.InterpolationMode.BILINEAR, fill=fill)],
        "colour": [v2.ColorJitter(0.25, 0.25, 0.25)],
    }
    return None if name == "none" else v2.Compose([v2.RandomHorizontalFlip(), *more.get(name, [])])
