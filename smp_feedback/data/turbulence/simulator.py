"""Images seen through turbulent air: displacement with the statistics of a Kolmogorov medium, and optional blur.

`Turbulence` (in `medium`) is air and camera, `displacement_field` and `sequence` (in `fields`) draw fields,
`distort` moves an image's pixels, and `Simulator` does all for batches on any device. The corruption ``turbulence``
takes the five of `PRESETS`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from smp_feedback.checks import check_number
from smp_feedback.data.items import Corruption, check_corruptible
from smp_feedback.data.turbulence.fields import displacement_field
from smp_feedback.data.turbulence.medium import Turbulence
from smp_feedback.errors import (
    InvalidInput,
    InvalidType,
    InvalidValue,
    UnknownKeyword,
    UnknownName,
    did_you_mean,
    suggestion,
)
from smp_feedback.ops.maps import as_precise_as
from smp_feedback.ops.warp import warp

CN2 = (5e-15, 2e-14, 7e-14, 1.6e-13, 4.5e-13)
"""Of severities 1 to 5, in m^(-2/3): they move pixels by 0.5, 1, 2, 3 and 5 where the shorter side has 360."""
NAMES = ("mild", "moderate", "strong", "harsh", "severe")
PRESETS = {name: Turbulence(cn2=cn2) for name, cn2 in zip(NAMES, CN2, strict=True)}
"""From mild to severe, for images whose shorter side has 224 pixels; what differs is C_n^2."""


class Simulator:
    """Batches of images through turbulent air, each through air of its own.

    What does not depend on the batch is kept; a call costs its noise, two Fourier transforms an image, and the warp,
    on the images' device.

    Args:
        turbulence: Air and camera, or the name of one of `PRESETS`.
        blur: Standard deviation of a Gaussian blur after the displacement, in pixels, >= 0; False is none, and True
            what belongs to the air, `Turbulence.blur`.

    Raises:
        UnknownName: If no preset is called *turbulence*.
        InvalidType, InvalidValue: For other arguments.

    >>> through = Simulator("strong", blur=True)
    >>> round(through.turbulence.rms, 2), round(through.sigma, 2)
    (1.21, 2.7)
    >>> through(torch.rand(2, 3, 32, 48), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 32, 48])
    """

    def __init__(self, turbulence: Turbulence | str, *, blur: bool | float = False) -> None:
        self.turbulence = preset(turbulence) if isinstance(turbulence, str) else turbulence
        if not isinstance(self.turbulence, Turbulence):
            raise InvalidType(f"turbulence={turbulence!r}: expected a Turbulence, or one of {', '.join(PRESETS)}.")
        self.sigma = self.turbulence.blur * blur if isinstance(blur, bool) else _checked_blur(blur)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The images as they are seen.

        Args:
            images: (B, C, H, W) or (C, H, W), floating point.
            generator: Where the air is drawn from; it may live on another device than the images.

        Returns:
            As *images*, and with gradient to them.

        Raises:
            InvalidType, InvalidValue: If *images* are none, or *generator* is none.
        """
        batch = _checked(images)
        single = torch.float64 if images.dtype == torch.float64 else torch.float32
        size = batch.shape[-2:]
        fields = displacement_field(
            self.turbulence, size, batch=len(batch), generator=generator, device=images.device, dtype=single
        )
        return distort(batch, fields, self.sigma).reshape(images.shape)

    def __repr__(self) -> str:
        return f"Simulator({self.turbulence!r}, blur={self.sigma!r})"


def preset(name: str) -> Turbulence:
    """The air of `PRESETS` that is called *name*.

    >>> preset("sever")
    Traceback (most recent call last):
    smp_feedback.errors.UnknownName: No preset of turbulence is called 'sever'. Did you mean 'severe'?
    """
    if name not in PRESETS:
        raise UnknownName("preset of turbulence", name, PRESETS)
    return PRESETS[name]


def of_air(values: Mapping[str, float]) -> Corruption:
    """Air and camera as a corruption ``(image, severity, generator) -> image``, whatever the severity.

    Args:
        values: What `Turbulence` takes, by name.

    Raises:
        UnknownKeyword: For what it does not take.
        InvalidType, InvalidValue: As `Turbulence`.

    >>> through = of_air({"cn2": 1e-12, "path": 500.0})
    >>> through(torch.rand(3, 32, 32), 1, torch.Generator().manual_seed(0)).shape
    torch.Size([3, 32, 32])
    >>> of_air({"c2n": 1e-12})
    Traceback (most recent call last):
    smp_feedback.errors.UnknownKeyword: Turbulence has no field 'c2n'. Did you mean 'cn2'?
    """
    return functools.partial(_seen, Simulator(air_of(values)))


def air_of(values: Mapping[str, float]) -> Turbulence:
    """Air and camera of what `Turbulence` takes, by name.

    Raises:
        UnknownKeyword: For what it does not take.
        InvalidType, InvalidValue: As `Turbulence`.
    """
    if not isinstance(values, Mapping):
        raise InvalidType(f"turbulence={values!r}: expected the parameters of Turbulence by name, such as cn2: 1e-13.")
    known = [field.name for field in fields(Turbulence)]
    for key in values:
        if key not in known:
            raise UnknownKeyword(f"Turbulence has no field {key!r}. {suggestion(did_you_mean(key, known), known)}")
    return Turbulence(**values)


def in_words(values: Mapping[str, float]) -> str:
    """What `of_air` is given, for a table or a figure.

    >>> in_words({"cn2": 1e-12, "path": 500.0})
    'turbulence of cn2 1e-12, path 500'
    """
    return f"turbulence of {', '.join(f'{name} {value:g}' for name, value in values.items())}"


def _seen(simulator: Simulator, image: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    return simulator(image, generator)


def distort(images: Tensor, field: Tensor, blur: float = 0.0) -> Tensor:
    """Each pixel takes the value from where *field* points; then a Gaussian blur.

    ``out(i, j) = image(i + d_row, j + d_column)``, bilinear, places beyond the border clamped to it. The Gaussian is
    cut at 4 sigma, and the image mirrored at its border.

    Args:
        images: (B, C, H, W) or (C, H, W), floating point.
        field: (B, 2, H, W), or (2, H, W) for all, in pixels: channel 0 rows, channel 1 columns.
        blur: Standard deviation in pixels, >= 0.

    Returns:
        As *images*.

    Raises:
        InvalidType, InvalidValue, InvalidInput: For other arguments, and where the two do not fit.

    >>> edge, down = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]), torch.tensor([0.5, 0.0])
    >>> distort(edge, down[:, None, None].expand(2, 2, 2))
    tensor([[[0.5000, 0.5000],
             [1.0000, 1.0000]]])
    """
    batch, sigma = _checked(images), _checked_blur(blur)
    if not isinstance(field, Tensor) or not field.is_floating_point():
        raise InvalidType(
            f"field: expected a floating-point tensor, not {getattr(field, 'dtype', type(field).__name__)}."
        )
    if field.ndim == 3:
        field = field.expand(len(batch), *field.shape)
    if field.device != images.device:
        raise InvalidInput(f"field on {field.device} for images on {images.device}: expected one device.")
    moved = warp(batch, field)
    return (blurred(moved, sigma, cut=4) if sigma else moved).reshape(images.shape)


def blurred(images: Tensor, sigma: float, cut: float) -> Tensor:
    """*images* (..., H, W) behind a Gaussian that ends at *cut* sigma; they are mirrored at their border."""
    sides = [min(math.ceil(cut * sigma), side - 1) for side in (images.shape[-1], images.shape[-2])]  # (x, y)
    with as_precise_as(images):  # "as images", under autocast, too
        soft: Tensor = F.gaussian_blur(images, [2 * side + 1 for side in sides], [sigma, sigma])
    return soft


def _checked(images: Tensor) -> Tensor:
    check_corruptible(images)
    if images.ndim > 4 or 0 in images.shape:
        raise InvalidValue(
            f"images of shape {tuple(images.shape)}: expected (B, C, H, W) or (C, H, W), none of them 0."
        )
    return images.reshape(-1, *images.shape[-3:])


def _checked_blur(blur: float) -> float:
    check_number("blur", blur, least=0, unit=" pixels")
    return float(blur)
