"""TIFF of any bands, bits and compressions, through tifffile; what is no plain stack of bands is refused by name."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smp_feedback.data.images import plain_tiff
from smp_feedback.data.images.limits import check_size
from smp_feedback.data.images.raster import Head, Pixels, Raster, check_parts, upright, upright_size, whole
from smp_feedback.data.images.tiff_colours import layout, shown
from smp_feedback.errors import InvalidInput

HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # little and big endian, and BigTIFF
OVERVIEW, MASK = 1, 4  # bits of NewSubfileType: pages that are no image of their own
ORIENTATION, GDAL_NODATA = 274, 42113  # tags
UNHEARD = logging.NullHandler()  # tifffile logs what it makes up for; here that is refused


def head(path: Path) -> Head:
    """What the tags of *path* say."""
    if find_spec("tifffile") is None:
        return plain_tiff.head(path)
    with opened(path) as (_, page):
        turn = orientation(page)
        return Head(layout(path, page), upright_size((page.imagelength, page.imagewidth), turn), turn)


def decode(path: Path) -> Raster:
    """All of *path*.

    Raises:
        InvalidInput: If it has several pages, is cut off, or holds what has no bands.
        Exception: Whatever the decoder stumbles over.
    """
    if find_spec("tifffile") is None:
        return plain_tiff.decode(path)
    with opened(path) as (file, page):
        said, size, turn = layout(path, page), (page.imagelength, page.imagewidth), orientation(page)
        samples = stored(path, page)
        values = whole(path, shown(page, samples), size, said)
        missing = _missing(page, samples, values, hidden(file, page))
    gone = None if missing is None else upright(missing, turn)
    return Raster(values=upright(values, turn), layout=said, missing=gone)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The file, and its only page of data, as tifffile has them.

    Raises:
        InvalidInput: If there are several, or none.
    """
    import tifffile

    logging.getLogger("tifffile").addHandler(UNHEARD)
    with tifffile.TiffFile(path) as file:
        page = _only_page(path, file)
        check_size(path, (page.imagelength, page.imagewidth), page.nbytes)
        yield file, page


def _only_page(path: Path, file: Any) -> Any:
    pages = [page for page in file.pages if not page.subfiletype & (OVERVIEW | MASK)]
    below = [sub for page in file.pages for sub in (page.pages or ()) if not sub.subfiletype & (OVERVIEW | MASK)]
    if not pages:
        raise InvalidInput(f"{path}: expected a TIFF with an image, found previews alone; save it as plain TIFF.")
    planes = len(pages) + len(below)
    if planes == 1:  # a page may yet stand for a stack, as ImageJ writes one
        planes = pages[0].imagedepth * max(1, math.prod(file.series[0].shape) // max(1, math.prod(pages[0].shape)))
    if planes > 1:
        raise InvalidInput(
            f"{path}: expected one image, found a stack of {planes} pages; pages are no bands. Save each as a file of "
            "its own, or all as the bands of one page."
        )
    return pages[0]


def orientation(page: Any) -> int:
    """Of the rows as they are stored, by the tag that TIFF and EXIF share."""
    found = page.tags.valueof(ORIENTATION, default=1)
    return found if isinstance(found, int) else 1


def _check_segments(path: Path, page: Any) -> None:
    """All strips or tiles are there, and hold what they should."""
    check_parts(path, page.dataoffsets, page.databytecounts, math.prod(page.chunked))
    if page.is_contiguous and sum(page.databytecounts) < page.nbytes:
        raise InvalidInput(
            f"{path}: its strips hold {sum(page.databytecounts)} bytes, its tags announce {page.nbytes}; it is cut off."
        )


def stored(path: Path, page: Any) -> Pixels:
    """The values of *page* as the file has them, (H, W, samples): neither turned nor shown as colours.

    Raises:
        InvalidInput: If some of them are not there.
    """
    _check_segments(path, page)
    values = page.asarray(squeeze=False, maxworkers=1)  # (separate bands, depth, H, W, interleaved bands)
    samples: Pixels = values[:, 0].transpose(1, 2, 0, 3).reshape(*values.shape[2:4], -1)
    return samples


def hidden(file: Any, page: Any) -> NDArray[np.bool_] | None:
    """Where the page that says which pixels count says that they do not, (H, W)."""
    size = page.imagelength, page.imagewidth
    for other in file.pages:
        if other.subfiletype & (MASK | OVERVIEW) == MASK and (other.imagelength, other.imagewidth) == size:
            gone: NDArray[np.bool_] = other.asarray(maxworkers=1).reshape(size) == 0
            return gone
    return None


def _missing(page: Any, samples: Pixels, values: Pixels, masked: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Where *values* are no data, by the value that stands for it or by the mask; None is nowhere."""
    gone = np.zeros(values.shape, bool) if masked is None else np.repeat(masked[..., None], values.shape[2], axis=2)
    text = page.tags.valueof(GDAL_NODATA)
    if text is not None:
        gone |= np.broadcast_to(_equal(samples, str(text)), values.shape)
    return gone if gone.any() else None


def _equal(samples: Pixels, text: str) -> NDArray[np.bool_]:
    """Where *samples* are the number that *text* writes, in their own precision."""
    try:
        number = float(text.strip("\0 ").replace(",", "."))
    except ValueError:
        raise InvalidInput(f"its tag GDAL_NODATA is {text!r}; expected a number.") from None
    real = samples.dtype.kind == "f"
    if math.isnan(number):
        return np.isnan(samples) if real else np.zeros(samples.shape, bool)
    with np.errstate(over="ignore"):
        equal: NDArray[np.bool_] = samples == (samples.dtype.type(number) if real else number)
    return equal
