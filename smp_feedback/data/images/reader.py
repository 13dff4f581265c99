"""Images as tensors; a file that cannot be read whole is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smp_feedback.checks import check_whole
from smp_feedback.data.images import pictures, tiff
from smp_feedback.data.images.raster import Head, PixelLayout, Raster
from smp_feedback.data.images.scaling import Range, checked_scale, to_unit
from smp_feedback.data.images.unreadable import naming_file
from smp_feedback.errors import InvalidInput, InvalidType


@dataclass(frozen=True, kw_only=True)
class ImageReader:
    """How images are read: whole, upright, in [0, 1].

    Grey becomes three equal channels, a picture its red, green and blue, and a TIFF of more bands as many channels as
    it has. Alpha is left out where it is opaque everywhere, and else has to be chosen or left out by *bands*.

    Args:
        bands: Those to read, counted from 1 as GDAL counts, in this order; alpha is one of them. None is all.
        channels: How many an image is to have: 1 keeps grey single. None is what its file has.
        scale: What becomes [0, 1]: ``[low, high]``, one such pair a band read, ``"percentile"`` (each image's and
            band's own 2nd and 98th) or ``"percentile:LOW,HIGH"``. None is by dtype: all of 8 and 16 unsigned bits, and
            floating point that lies in [0, 1].

    Raises:
        InvalidType, InvalidValue: If one of these is nothing of the kind.

    >>> reader = ImageReader(bands=[4, 3, 2], scale=[0, 10_000])
    >>> reader.bands, reader.scale
    ((4, 3, 2), ((0.0, 10000.0),))
    """

    bands: Sequence[int] | None = None
    channels: int | None = None
    scale: tuple[Range, ...] | Sequence[float] | Sequence[Sequence[float]] | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", _checked_bands(self.bands))
        object.__setattr__(self, "scale", checked_scale(self.scale))
        if self.channels is not None:
            check_whole("channels", self.channels)

    def read(self, path: Path) -> Tensor:
        """An image, uint8 (C, H, W), or float32 in [0, 1] where its file says more than 8 bits do, or a scale is told.

        Raises:
            InvalidInput: If it cannot be read, or not whole, naming the file.
        """
        with naming_file(path):
            raster = _decoder(path).decode(path)
            chosen = self._chosen(path, raster.layout)
            self._check_alpha(path, raster, chosen)
            own = chosen[:1] if len(set(chosen)) == 1 else chosen
            values, missing = (part if part is None else _take(part, own) for part in (raster.values, raster.missing))
            unit = to_unit(path, values, raster.layout, checked_scale(self.scale), missing)  # type: ignore[arg-type]
        image = torch.from_numpy(np.array(unit.transpose(2, 0, 1), order="C"))
        return image.repeat(len(chosen), 1, 1) if len(own) < len(chosen) else image

    def channels_of(self, path: Path) -> int:
        """How many channels the image at *path* is read as, by its file's tags alone.

        Raises:
            InvalidInput: If it cannot be read so, naming the file.
        """
        with naming_file(path):
            return len(self._chosen(path, _decoder(path).head(path).layout))

    def _chosen(self, path: Path, layout: PixelLayout) -> tuple[int, ...]:
        """Which bands are the channels, counted from 0; grey may be several of them."""
        if self.bands is None:
            found = tuple(range(layout.bands)) if self.channels == layout.bands else layout.colours
        else:
            if max(self.bands) > layout.bands:
                raise InvalidInput(f"{path}: bands={list(self.bands)}: expected those there are, 1 to {layout.bands}.")
            found = tuple(band - 1 for band in self.bands)
        wanted = self.channels or (3 if len(found) == 1 and self.bands is None else len(found))
        if len(found) == 1 and wanted == 3:
            return found * 3
        if len(found) != wanted:
            raise InvalidInput(
                f"{path}: channels={wanted}: found {len(found)} of {layout.kind}; bands=[...] chooses among 1 to "
                f"{layout.bands}."
            )
        return found

    def _check_alpha(self, path: Path, raster: Raster, chosen: tuple[int, ...]) -> None:
        """A band that says how opaque a pixel is may be left out where it says nothing."""
        alpha, white = raster.layout.alpha, raster.layout.white
        if self.bands is not None or alpha is None or alpha in chosen:
            return
        opaque = raster.values[..., alpha] == (1 if white is None else white)
        if not opaque.all():
            colours, every = [band + 1 for band in raster.layout.colours], list(range(1, raster.layout.bands + 1))
            raise InvalidInput(
                f"{path}: {(~opaque).sum()} of {opaque.size} pixels are not opaque (band {alpha + 1} is alpha, by its "
                f"tags); bands={colours} reads the others alone, bands={every} all of them."
            )


def as_unit(image: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1]; what is floating point already, as it is.

    >>> as_unit(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([0., 1.])
    """
    return image if image.is_floating_point() else image / 255


def head_of(path: Path) -> Head:
    """What the tags of *path* say: its size as it is seen, and of a pixel the bands, their dtype and which is alpha.

    Raises:
        InvalidInput: If it cannot be read, naming the file.
    """
    with naming_file(path):
        head: Head = _decoder(path).head(path)
        return head


def _decoder(path: Path) -> ModuleType:
    """Who reads *path*, by its first bytes, whatever it is called."""
    with path.open("rb") as file:
        return tiff if file.read(4) in tiff.HEADS else pictures


def _take(values: NDArray[Any], chosen: tuple[int, ...]) -> NDArray[Any]:
    return values if chosen == tuple(range(values.shape[2])) else values[..., list(chosen)]


def _checked_bands(bands: object) -> tuple[int, ...] | None:
    if bands is None:
        return None
    if not isinstance(bands, Sequence) or isinstance(bands, str) or not bands:
        raise InvalidType(
            f"bands={bands!r}: expected the numbers of bands, counted from 1, such as [1, 2, 3], or None."
        )
    for band in bands:
        check_whole("bands", band, hint=", as bands are counted")
    return tuple(bands)
