"""Where on Earth a GeoTIFF lies, kept for the map that a model makes of it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GEO_TAGS = {33550, 34264, 33922, 34735}  # pixel scale, transform, tie points, keys
TIFF_SUFFIXES = (".tif", ".tiff")
ORIENTATION = 274


@dataclass(frozen=True, kw_only=True)
class Georeference:
    """A coordinate system, and how the pixels of a map lie in it.

    Attributes:
        crs: rasterio's, or None where the file names none.
        transform: An affine map from (column, row) to its coordinates.
    """

    crs: Any
    transform: Any

    @property
    def square_metres(self) -> float | None:
        """How many a pixel has; None where coordinates are no lengths, such as degrees, or nobody says."""
        if self.crs is None or not self.crs.is_projected:
            return None
        metres = float(self.crs.linear_units_factor[1])
        return abs(float(self.transform.determinant)) * metres**2

    @property
    def urn(self) -> str | None:
        """The coordinate system as GeoJSON of 2008 names it, which GIS read; None of one that has no number.

        >>> from types import SimpleNamespace
        >>> Georeference(crs=SimpleNamespace(to_authority=lambda: ("EPSG", "32633")), transform=None).urn
        'urn:ogc:def:crs:EPSG::32633'
        """
        found = None if self.crs is None else self.crs.to_authority()
        return None if found is None else f"urn:ogc:def:crs:{found[0]}::{found[1]}"


def georeference(source: str | Path, height: int, width: int) -> Georeference | None:
    """That of the GeoTIFF *source*, for a map of it with *height* x *width* pixels; None where there is none to keep.

    Warns where it cannot be kept: without rasterio, or for a file whose rows are to be turned.
    """
    path = Path(source)
    if path.suffix.lower() not in TIFF_SUFFIXES or not path.is_file() or not (tags := _geo_tags(path)):
        return None
    if find_spec("rasterio") is None:
        warnings.warn(
            'The images are GeoTIFFs; their maps keep the georeference with pip install "smp_feedback[geo]".',
            stacklevel=2,
        )
        return None
    if tags.get(ORIENTATION, 1) != 1:
        warnings.warn(f"{path} is turned by its tags; its map has no georeference.", stacklevel=2)
        return None
    import rasterio

    with rasterio.open(path) as file:
        right, down, old = file.width / width, file.height / height, file.transform
        scaled = type(old)(old.a * right, old.b * down, old.c, old.d * right, old.e * down, old.f)
        return Georeference(crs=file.crs, transform=scaled)


def _geo_tags(path: Path) -> dict[int, Any]:
    """The tags of a GeoTIFF; of any other file, none."""
    try:
        tags = _tags(path)
    except Exception:  # what cannot be read is said by who reads its pixels
        return {}
    return tags if GEO_TAGS & set(tags) else {}


def _tags(path: Path) -> dict[int, Any]:
    if find_spec("tifffile") is None:
        with Image.open(path, formats=("TIFF",)) as picture:
            return dict(picture.tag_v2)  # type: ignore[attr-defined]
    import tifffile

    with tifffile.TiffFile(path) as file:
        return {tag.code: tag.value for tag in file.pages[0].tags}


def write_map(path: Path, labels: NDArray[np.integer[Any]], place: Georeference, colours: Any = None) -> None:
    """A label map (H, W) as GeoTIFF, of 8 or 16 bits, compressed without loss.

    Args:
        path: Where to.
        labels: Whole numbers, 0 to 65535.
        place: Where it lies.
        colours: Of each label (red, green, blue), where there are at most 256; None writes no palette.
    """
    import rasterio

    kind = np.uint8 if labels.max(initial=0) < 256 else np.uint16
    told = {"height": labels.shape[0], "width": labels.shape[1], "count": 1, "dtype": kind, "compress": "deflate"}
    with rasterio.open(path, "w", driver="GTiff", crs=place.crs, transform=place.transform, **told) as file:
        file.write(labels.astype(kind), 1)
        if colours is not None and kind is np.uint8:
            file.write_colormap(1, dict(enumerate(colours)))
