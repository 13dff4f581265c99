"""How probable each class is at each pixel, as an array of NumPy's or as a TIFF with a band a class."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from smp_feedback.data.images.georeference import Georeference
from smp_feedback.errors import require
from smp_feedback.ops.maps import Size
from smp_feedback.ops.reading import SEGMENTATION, chances_of
from smp_feedback.ops.row_bands import row_bands

KINDS = {"npy": ".probabilities.npy", "tiff": ".probabilities.tif"}
Pixels = np.ndarray  # (classes, rows, W), float32


def check_kind(kind: str) -> None:
    """What writes *kind* is there; a GeoTIFF's needs rasterio, which is there where it is known to be one."""
    if kind == "tiff":
        require("tifffile", extra="tiff")


def write_probabilities(
    path: Path,
    logits: Tensor,
    size: Size,
    kind: str,
    *,
    task: str = SEGMENTATION,
    place: Georeference | None = None,
    names: Sequence[str] = (),
) -> None:
    """Write the chances that *logits* (C, h, w) give at *size*, float32 (classes, H, W), a band of rows at a time.

    Args:
        path: Where to.
        logits: Of one channel, the chances of both classes are written.
        size: Height and width of the image.
        kind: ``npy`` or ``tiff``.
        task: ``segmentation``, whose chances sum to 1, or ``multilabel``, whose do not.
        place: Where a TIFF lies.
        names: What its bands are, kept as their descriptions where it lies somewhere.
    """
    classes = len(chances_of(logits[None, :, :1, :1], task)[0])
    shape = classes, *size
    writers = {"npy": _npy, "tiff": _tiff if place is None else _geotiff(place, names)}
    put = writers[kind](path, shape)
    for rows, band in row_bands(logits, size):
        put(rows, chances_of(band[None], task)[0].cpu().numpy())


Put = Callable[[slice, Pixels], None]


def _npy(path: Path, shape: tuple[int, ...]) -> Put:
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        begin = file.tell()
        file.truncate(begin + 4 * int(np.prod(shape)))

    def put(rows: slice, values: Pixels) -> None:
        whole = np.memmap(path, "<f4", "r+", begin, shape)  # anew for each band: what is mapped counts as used
        whole[:, rows] = values

    return put


def _tiff(path: Path, shape: tuple[int, ...]) -> Put:
    import tifffile

    told = {"photometric": "minisblack", "planarconfig": "separate", "metadata": None}
    one = tifffile.memmap(path, shape=shape, dtype="<f4", byteorder="<", **told)
    begin = one.offset
    del one

    def put(rows: slice, values: Pixels) -> None:
        whole = np.memmap(path, "<f4", "r+", begin, shape)
        whole[:, rows] = values

    return put


def _geotiff(place: Georeference, names: Sequence[str]) -> Callable[[Path, tuple[int, ...]], Put]:
    import rasterio

    def begin(path: Path, shape: tuple[int, ...]) -> Put:
        count, height, width = shape
        told = {"count": count, "height": height, "width": width, "dtype": "float32", "interleave": "band"}
        where = {"crs": place.crs, "transform": place.transform, "BIGTIFF": "IF_SAFER"}
        with rasterio.open(path, "w", driver="GTiff", **told, **where) as file:
            for k, name in enumerate(names[:count], start=1):
                file.set_band_description(k, name)

        def put(rows: slice, values: Pixels) -> None:
            window = rasterio.windows.Window(0, rows.start, width, rows.stop - rows.start)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                with rasterio.open(path, "r+") as file:
                    file.write(values, window=window)

        return put

    return begin
