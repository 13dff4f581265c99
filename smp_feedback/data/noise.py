"""Gaussian noise followed by min-max scaling."""

from __future__ import annotations

import torch
from torch import Tensor

from smp_feedback.data.items import check_image, checked_sigma


def add_noise(image: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Each image plus Gaussian noise, then stretched to [0, 1] by its own minimum and maximum.

    The more noise, the less of [0, 1] is left to the scene: contrast falls as noise rises. As in *Deep
    Recurrence for Dynamical Segmentation Models* (arXiv 2507.10143). Pure: the same generator state gives the
    same noise.

    Args:
        image: (..., C, H, W), floating point, in [0, 1].
        sigma: Standard deviation before scaling, in units of the image, >= 0; 0 returns *image* unchanged,
            unscaled.
        generator: Where the noise is drawn from; it may live on another device than the image.

    Returns:
        (..., C, H, W), as *image*. Scaling runs over C, H and W; where nothing varies, the image becomes 0.

    Raises:
        InvalidType: If *image* is no floating-point tensor, or *sigma* is no number.
        InvalidValue: If *sigma* is negative or not finite, or *image* has no C, H or W.

    >>> noisy = add_noise(torch.full((2, 3, 8, 8), 0.5), 0.1, torch.Generator().manual_seed(0))
    >>> noisy.amin((1, 2, 3)), noisy.amax((1, 2, 3))
    (tensor([0., 0.]), tensor([1., 1.]))
    """
    check_image(image)
    if checked_sigma("sigma", sigma) == 0:
        return image
    drawn = torch.randn(image.shape, generator=generator, dtype=image.dtype, device=generator.device)
    return _min_max(image + sigma * drawn.to(image.device))


def _min_max(image: Tensor) -> Tensor:
    low, high = image.amin((-3, -2, -1), keepdim=True), image.amax((-3, -2, -1), keepdim=True)
    spread = high - low
    return (image - low) / torch.where(spread > 0, spread, 1)  # a constant image: 0 / 1 rather than 0 / 0
