"""What may happen to an image, by name and severity 1 to 5.

Each is pure: ``(image (C, H, W) in [0, 1], severity, generator) -> image``; the same generator state gives the same
result, and the global random numbers are neither used nor moved. Tables that say ImageNet-C are those of Hendrycks and
Dietterich, *Benchmarking Neural Network Robustness to Common Corruptions and Perturbations* (2019), made for 224 pixels
and values of 0 to 255; here values are floats in [0, 1], and what they measure in pixels follows the image's size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as F

from smp_feedback.data.items import Corruption, check_corruptible, checked_int, checked_sigma
from smp_feedback.data.turbulence.medium import Turbulence
from smp_feedback.data.turbulence.simulator import PRESETS, Simulator, blurred
from smp_feedback.errors import InvalidType, InvalidValue

SEVERITIES = (1, 2, 3, 4, 5)
GAUSSIAN_SIGMA = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation (ImageNet-C)
PHOTONS = (60.0, 25.0, 12.0, 5.0, 3.0)  # counted per channel where the image is 1 (ImageNet-C)
IMPULSES = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of values that become 0 or 1 (ImageNet-C)
BLUR_SIGMA = (1.0, 2.0, 3.0, 4.0, 6.0)  # pixels at 224 (ImageNet-C)
MOTION = (6.0, 10.0, 16.0, 24.0, 30.0)  # pixels at 224: twice ImageNet-C's sigmas of 3 to 15, as a line of even weight
JPEG_QUALITY = (25, 18, 15, 10, 7)  # libjpeg's (ImageNet-C)
BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)  # added (ImageNet-C, which adds it to the value of HSV)
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # what is left of the distance to the mean (ImageNet-C)
OCCLUDED = (0.10, 0.20, 0.30, 0.45, 0.60)  # share of pixels hidden: from a lost detail to the larger part of the image
RESCALED_SIGMA = (0.25, 0.5, 1.0, 2.0, 4.0)  # standard deviation before min-max scaling: doubling, to the papers' 4

PIXELS = 224  # the shorter side that ImageNet-C's blurs were made for
SMALLEST_SCALE = 0.4  # blurs shrink with the image down to 90 pixels: CIFAR-10-C, at 32, begins with a sigma of 0.4
GREY = 0.5  # what hides: neither dark nor light
PATCH = (0.05, 0.15)  # half the side of what hides, over the shorter side
EXACT = 0.01  # of all pixels: how close the hidden share comes


def checked(function: Callable[..., Tensor]) -> Corruption:
    """*function*, refusing bad images and severities, and never leaving [0, 1]."""

    @functools.wraps(function)
    def corruption(image: Tensor, severity: int, generator: torch.Generator, **film: int) -> Tensor:
        check_corruptible(image)
        if image.ndim != 3:
            raise InvalidValue(f"image of shape {tuple(image.shape)}: expected one image (C, H, W).")
        if not isinstance(generator, torch.Generator):
            raise InvalidType(f"generator={generator!r}: expected a torch.Generator.")
        return function(image, check_severity(severity), generator, **film).clamp(0, 1)

    return corruption


def check_severity(severity: int, least: int = 1) -> int:
    """*severity* if it is a whole number from *least* to 5."""
    number = checked_int("severity", severity, least=least)
    if number > len(SEVERITIES):
        raise InvalidValue(f"severity={severity!r}: expected {least} to {len(SEVERITIES)}.")
    return number


@checked
def gaussian_noise(image: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Noise of standard deviation `GAUSSIAN_SIGMA`, clipped to [0, 1]."""
    return image + GAUSSIAN_SIGMA[severity - 1] * _normal(image, generator)


@checked
def shot_noise(image: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A Poisson count of `PHOTONS` times the image, over `PHOTONS`: variance image / photons; then clipped."""
    photons = PHOTONS[severity - 1]
    expected = (image * photons).to(generator.device)
    return torch.poisson(expected, generator=generator).to(image) / photons


@checked
def impulse_noise(image: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Salt and pepper: a share `IMPULSES` of all values, channel by channel, becomes 0 or 1, each equally often."""
    half = IMPULSES[severity - 1] / 2
    drawn = torch.rand(image.shape, generator=generator, dtype=torch.float32, device=generator.device).to(image.device)
    return image.masked_fill(drawn < half, 0).masked_fill(drawn >= 1 - half, 1)


@checked
def gaussian_blur(image: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A Gaussian of `BLUR_SIGMA` pixels at 224, cut at 3 sigma; the image is mirrored at its border."""
    return blurred(image, BLUR_SIGMA[severity - 1] * scale(image.shape[-2:]), cut=3)


@checked
def motion_blur(image: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """The mean along a straight line of `MOTION` pixels at 224, in a random direction; the border goes on."""
    angle = math.pi * torch.rand((), generator=generator, device=generator.device).item()
    kernel = line(MOTION[severity - 1] * scale(image.shape[-2:]), angle).to(image)
    pad = kernel.shape[-1] // 2
    padded = functional.pad(image[:, None], (pad,) * 4, mode="replicate")
    return functional.conv2d(padded, kernel[None, None])[:, 0]


@checked
def jpeg(image: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Written as JPEG of `JPEG_QUALITY` (8 bits), and read again; images of one or three channels."""
    if image.shape[0] not in (1, 3):
        raise InvalidValue(f"jpeg: image of {image.shape[0]} channels, expected 1 or 3.")
    picture = F.to_pil_image((image.clamp(0, 1) * 255).round().to(torch.uint8).cpu())
    coded: Tensor = F.pil_to_tensor(F.jpeg(picture, JPEG_QUALITY[severity - 1]))  # of tensors it is deprecated
    return coded.to(image) / 255


@checked
def brightness(image: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """`BRIGHTER` is added, then clipped; torchvision's factor would leave black black."""
    return image + BRIGHTER[severity - 1]


@checked
def contrast(image: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Each channel's distance to its own mean, times `CONTRAST`."""
    mean = image.mean((-2, -1), keepdim=True)
    return torch.lerp(mean, image, CONTRAST[severity - 1])


@checked
def occlusion(image: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Grey rectangles and discs over `OCCLUDED` of all pixels, to 0.01; the mask keeps what they hide."""
    hidden = patches((image.shape[1], image.shape[2]), OCCLUDED[severity - 1], generator)
    return image.masked_fill(hidden.to(image.device), GREY)


@checked
def rescaled_noise(image: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Noise of `RESCALED_SIGMA`, then min-max scaling: the papers' corruption (arXiv 2507.10143), see `add_noise`."""
    return add_noise(image, RESCALED_SIGMA[severity - 1], generator)


@checked
def turbulence(image: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Pixels moved as by the air of `PRESETS`, mild to severe, without blur; the camera sees the same at any size."""
    air = list(PRESETS.values())[severity - 1]
    return Simulator(seen_through(air, image.shape[-2:]))(image, generator)


def line(length: float, angle: float) -> Tensor:
    """A kernel (k, k), k odd, of sum 1: a line through its centre, *length* pixels long, at *angle* radians.

    Each of many points on the line is shared among its four neighbours, so that all directions are alike.

    >>> line(2.0, 0.0)[1]
    tensor([0.2500, 0.5000, 0.2500])
    """
    half = math.ceil(length / 2)
    points = 16 * (2 * half + 1)
    along = length * ((torch.arange(points, dtype=torch.float64) + 0.5) / points - 0.5)
    y, x = along * math.sin(angle), along * math.cos(angle)
    grid = torch.arange(-half, half + 1, dtype=torch.float64)
    near = [(1 - (grid[:, None] - place).abs()).clamp(min=0) for place in (y, x)]  # (k, points)
    kernel = near[0] @ near[1].T
    return (kernel / kernel.sum()).float()


def patches(size: tuple[int, int], share: float, generator: torch.Generator) -> Tensor:
    """Random rectangles and discs that together cover *share* of (H, W) = *size*, to 0.01; bool (H, W)."""
    total, side = size[0] * size[1], min(size)
    hidden = torch.zeros(size, dtype=torch.bool)
    while (left := share * total - int(hidden.sum())) > max(1.0, EXACT * total):
        most = math.sqrt(left) / 2  # so large that the last patch does not overshoot
        disc, cy, cx, ry, rx = torch.rand(5, generator=generator, device=generator.device).tolist()
        radii = [min(side * (PATCH[0] + r * (PATCH[1] - PATCH[0])), most) for r in (ry, rx)]
        y = (torch.arange(size[0]) + 0.5 - cy * size[0]) / radii[0]
        x = (torch.arange(size[1]) + 0.5 - cx * size[1]) / radii[1 if disc < 0.5 else 0]
        hidden |= (y.abs()[:, None] < 1) & (x.abs() < 1) if disc < 0.5 else (y.square()[:, None] + x.square() < 1)
    return hidden


def seen_through(air: Turbulence, size: Sequence[int]) -> Turbulence:
    """*air* of a camera of 224 pixels, seen by one of *size* (H, W) with the same view."""
    return replace(air, pixel_pitch=air.pixel_pitch / scale(size))


def scale(size: Sequence[int]) -> float:
    """How large a pixel of a camera of 224 is in an image of *size* (H, W), in pixels."""
    return max(min(size) / PIXELS, SMALLEST_SCALE)


def _normal(image: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(image.shape, generator=generator, dtype=image.dtype, device=generator.device)
    return drawn.to(image.device)


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
    check_corruptible(image)
    if checked_sigma("sigma", sigma) == 0:
        return image
    noisy = image + sigma * _normal(image, generator)
    low, high = noisy.amin((-3, -2, -1), keepdim=True), noisy.amax((-3, -2, -1), keepdim=True)
    spread = high - low
    return (noisy - low) / torch.where(spread > 0, spread, 1)  # a constant image: 0 / 1 rather than 0 / 0
