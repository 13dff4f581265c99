"""The dense conditional random field, against which refinement is compared (extra ``crf``)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from smp_feedback.checks import check_number, check_whole
from smp_feedback.errors import InvalidInput, require

SMALLEST = 1e-7


class Smoothing(NamedTuple):
    """What the field believes of neighbours; the defaults are those in common use with DeepLab (arXiv 1412.7062).

    Attributes:
        near: Standard deviation of the smoothness kernel, in pixels.
        weight: Of that kernel; 0 leaves it out.
        far: Standard deviation of the appearance kernel, in pixels.
        alike: The same in colour, in parts of 255.
        strength: Weight of the appearance kernel; 0 leaves it out.
    """

    near: float = 3.0
    weight: float = 3.0
    far: float = 80.0
    alike: float = 13.0
    strength: float = 10.0


USUAL = Smoothing()


def dense_crf(y: Tensor, image: Tensor, *, smoothing: Smoothing = USUAL, updates: int = 5) -> Tensor:
    """Mean-field inference in a fully connected CRF (Kraehenbuehl and Koltun 2011, arXiv 1210.5644).

    Neighbours of similar colour are to have one label. It is not learnt, knows nothing of classes, and runs on the CPU,
    image by image, in ``pydensecrf2``, whose filter is an approximation. Needs a C++ compiler to install.

    Args:
        y: Predictions (B, K, H, W), probabilities.
        image: (B, 3, H, W) in [0, 1], as it looks: not normalised.
        smoothing: The kernels.
        updates: Of the mean field.

    Returns:
        Probabilities (B, K, H, W).

    Raises:
        MissingExtra: If ``pydensecrf2`` is not installed.
        InvalidInput: If the shapes do not fit, or the image is not in [0, 1].
    """
    require("pydensecrf", extra="crf")
    check_whole("updates", updates)
    for name in ("near", "far", "alike"):
        check_number(name, getattr(smoothing, name), above=0)
    for name in ("weight", "strength"):
        check_number(name, getattr(smoothing, name), least=0)
    _check(y, image)
    pixels = (image.detach().clamp(0, 1) * 255).round().byte().movedim(1, -1).contiguous().cpu().numpy()
    chances = y.detach().float().clamp_min(SMALLEST).cpu().numpy()
    found = [_field(*one, smoothing, updates) for one in zip(chances, pixels, strict=True)]
    return torch.from_numpy(np.stack(found)).to(y)


def _field(chances: Any, pixels: Any, smoothing: Smoothing, updates: int) -> Any:
    from pydensecrf.densecrf import DenseCRF2D

    classes, height, width = chances.shape
    field = DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(np.ascontiguousarray(-np.log(chances).reshape(classes, -1)))
    if smoothing.weight:
        field.addPairwiseGaussian(sxy=smoothing.near, compat=smoothing.weight)
    if smoothing.strength:
        field.addPairwiseBilateral(
            sxy=smoothing.far, srgb=smoothing.alike, rgbim=np.ascontiguousarray(pixels), compat=smoothing.strength
        )
    return np.asarray(field.inference(updates), dtype=np.float32).reshape(classes, height, width)


def _check(y: Tensor, image: Tensor) -> None:
    if y.ndim != 4 or image.shape != (len(y), 3, *y.shape[-2:]):
        raise InvalidInput(
            f"y of shape {tuple(y.shape)} and image of shape {tuple(image.shape)}: expected (B, K, H, W) and "
            "(B, 3, H, W), in colour and of one size."
        )
    low, high = image.aminmax()
    if not (low >= -1e-3 and high <= 1.001):
        raise InvalidInput(f"image from {float(low):.2g} to {float(high):.2g}: expected [0, 1], not normalised.")
