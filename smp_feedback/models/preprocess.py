"""An image as a model wants it: torchvision's v2 transforms, in the order of a `DataConfig`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from smp_feedback.config.data import DataConfig
from smp_feedback.errors import InvalidInput, InvalidType
from smp_feedback.models.normalisation import given_config
from smp_feedback.surgery.extension import plain_class

BYTES = ("1", "L", "P", "RGB", "LA", "RGBA")
"""Pillow's modes of 8 bits a channel or less."""
SIXTEEN_BITS = 65535  # what becomes 1 of uint16


class Preprocess(v2.Transform):  # type: ignore[misc]
    """A picture, or a tensor (..., C, H, W), as float32, of the size that the model was trained on, normalised.

    Bytes and uint16 become [0, 1]; floating point is to lie there already. Resizing is bilinear and antialiased, as in
    training; without a size, images stay as large as they are. A grey picture of Pillow's has three equal channels,
    unless the model takes one; palettes count by their colours. Whole numbers of a model whose files are read by a
    `scale` of ranges become [0, 1] by that.

    Args:
        config: What the model expects.

    >>> ready = Preprocess(DataConfig(mean=(0.5,) * 3, std=(0.25,) * 3, size=(2, 4)))
    >>> image = ready(torch.full((3, 6, 8), 255, dtype=torch.uint8))
    >>> image.shape, image.unique()
    (torch.Size([3, 2, 4]), tensor([2.]))
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, image: Any) -> Tensor:
        """*image* made ready.

        Raises:
            InvalidType: If it is neither a picture nor a tensor.
            InvalidInput: If it has other channels than the model takes, or values outside [0, 1]; or where files are
                read by *bands* or by percentiles, and it does not look as if that had been done.
        """
        tensor = image if isinstance(image, Tensor) else self._read(image)
        if tensor.ndim < 3 or tensor.shape[-3] != self.config.channels:
            raise InvalidInput(
                f"image of shape {tuple(tensor.shape)}: expected (C, H, W) with the {self.config.channels} channels "
                "that the model takes."
            )
        if self.config.scale is not None and not tensor.is_floating_point():
            tensor = self._scaled(tensor)
        if tensor.dtype == torch.uint16:
            tensor = tensor.float() / SIXTEEN_BITS
        if self.config.size is not None and tensor.shape[-2:] != self.config.size:
            tensor = F.resize(tensor, list(self.config.size), InterpolationMode.BILINEAR, antialias=True)
        return self.config.normalise(_in_unit(tensor.as_subclass(Tensor)))

    def _scaled(self, tensor: Tensor) -> Tensor:
        """Whole numbers (..., C, H, W) in [0, 1], by the ranges of files, to the bit as these are read."""
        scale = self.config.scale
        if isinstance(scale, str) or scale is None or len(scale) not in (1, self.config.channels):
            raise InvalidInput(
                f"image of dtype {tensor.dtype}: the files of this model are read by scale={scale!r}; expected the "
                f"image in [0, 1], as {self._reader} gives it."
            )
        low, high = (tensor.new_tensor(ends, dtype=torch.float64)[:, None, None] for ends in zip(*scale, strict=True))
        return ((tensor.double() - low) / (high - low)).clamp(0, 1).float()

    @property
    def _reader(self) -> str:
        """What reads files as this model's were."""
        told = [f"{name}={_said(value)}" for name in ("bands", "scale") if (value := getattr(self.config, name))]
        return f"smp_feedback.data.ImageReader({', '.join(told)}).read(path)"

    def _read(self, picture: Any) -> Tensor:
        """A picture (C, H, W), bytes."""
        if not isinstance(picture, Image.Image):
            raise InvalidType(
                f"image is a {type(picture).__name__}: expected a PIL.Image, or a tensor (C, H, W); of a NumPy array "
                "(H, W, C), torch.from_numpy(image).permute(2, 0, 1)."
            )
        bands = self.config.bands
        if bands is not None and bands != tuple(range(1, len(picture.getbands()) + 1)):
            raise InvalidInput(
                f"a picture of Pillow's mode {picture.mode!r}: this model reads bands={list(bands)} of a file; "
                f"expected a tensor, as {self._reader} gives it."
            )
        decoded: Tensor = F.pil_to_tensor(self._decoded(picture))
        grey = self.config.channels == 1 and picture.mode == "P" and bool((decoded == decoded[:1]).all())
        return decoded[:1] if grey else decoded

    def _decoded(self, picture: Image.Image) -> Image.Image:
        """Upright, and in colour where the model takes three channels."""
        if picture.mode not in BYTES:
            raise InvalidInput(
                f"a picture of Pillow's mode {picture.mode!r}: expected one of {', '.join(BYTES)}, or a tensor "
                "(C, H, W) in [0, 1]."
            )
        upright = ImageOps.exif_transpose(picture)
        if upright.mode == "1":
            upright = upright.convert("L")
        if upright.mode == "RGB" or (self.config.channels != 3 and upright.mode != "P"):
            return upright
        if "transparency" in upright.info:
            upright = upright.convert("RGBA")
        if "A" in upright.getbands() and np.asarray(upright.getchannel("A")).min() < 255:
            raise InvalidInput('a picture with transparent pixels: expected an opaque one; picture.convert("RGB").')
        return upright.convert("RGB")

    def extra_repr(self) -> str:
        """What it does."""
        size = "as large as they are" if self.config.size is None else f"resized to {self.config.size}"
        return f"{size}, {self.config.normalisation}"


def _said(value: Any) -> str:
    """As it is written in a call: lists, not tuples of one.

    >>> _said(((0.0, 4000.0),)), _said("percentile")
    ('[[0.0, 4000.0]]', "'percentile'")
    """
    return repr([*map(list, value)] if isinstance(value[0], tuple) else value if isinstance(value, str) else [*value])


def _in_unit(image: Tensor) -> Tensor:
    """float32 in [0, 1]."""
    if image.dtype == torch.uint8:  # to the bit as datasets do
        return image / 255
    if not image.is_floating_point():
        raise InvalidInput(f"image of dtype {image.dtype}: expected floating point in [0, 1], bytes or uint16.")
    low, high = image.aminmax()
    if not (low >= -1e-3 and high <= 1.001):  # every comparison with NaN is false
        raise InvalidInput(
            f"image with values {float(low):.4g} to {float(high):.4g}: expected floating point in [0, 1], not yet "
            "normalised, or bytes."
        )
    return image.float()


def preprocess_of(model: nn.Module) -> Preprocess:
    """The transform for *model*, plain or looping: ``model.preprocess`` of one that looks again.

    >>> import smp_feedback as smpf
    >>> plain = smpf.create("Unet", "resnet18", None, feedback=False)
    >>> preprocess_of(plain)
    Preprocess(as large as they are, images as they are, in [0, 1])
    """
    return Preprocess(given_config(model).config)


def own_preprocess(model: nn.Module) -> Any:
    """What the class of *model*, before it looked again, calls ``preprocess``; None if nothing."""
    theirs = getattr(plain_class(model), "preprocess", None)
    return None if theirs is None else theirs.__get__(model)
