"""Labels in a TIFF of any whole or floating-point kind, by tifffile."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from smp_feedback.data.stored import BLUR, INVERTED, Array, Stored, alpha_of
from smp_feedback.errors import InvalidInput

JPEGS = (6, 7)  # TIFF's numbers of compressions that blur
BLACK, RGB, PALETTE = 1, 2, 3  # what a sample means, of those that labels may be
ALPHA = (1, 2)  # kinds of a sample beyond the colours: premultiplied, and plain


def read_tiff(path: Path) -> Stored:
    """The one picture of *path*, upright; overviews (smaller copies of it) do not count.

    Raises:
        InvalidInput: If there are several, or it is not labels, naming the file.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = _only_page(path, file)
        if page.compression in JPEGS:
            raise InvalidInput(f"{path} is a JPEG inside a TIFF: {BLUR}")
        if page.photometric == 0:
            raise InvalidInput(f"{path}: {INVERTED}")
        if page.photometric not in (BLACK, RGB, PALETTE):
            raise InvalidInput(f"{path}: expected labels or colours, found {page.photometric.name}; save it as RGB.")
        orientation = page.tags.valueof(274)
        return _stored(path, page, page.asarray()).turned(orientation)


def _only_page(path: Path, file: Any) -> Any:
    pages = [page for page in file.pages if not page.is_reduced]
    count = len(pages)
    if count == 1:  # ImageJ keeps a whole stack behind one page
        count = math.prod(file.series[0].shape) // math.prod(pages[0].shape)
    if count != 1:
        raise InvalidInput(f"{path} has {count} pages; expected one: save each as a file of its own.")
    return pages[0]


def _stored(path: Path, page: Any, array: Array) -> Stored:
    if page.axes not in ("YX", "YXS", "SYX"):
        raise InvalidInput(f"{path}: expected one picture of labels, found axes {page.axes} of {page.shape}.")
    array = array.astype(np.uint8) if array.dtype == np.bool_ else array
    if "S" not in page.axes:
        return Stored(array, _colours(page) if page.photometric == PALETTE else None)
    array = np.moveaxis(array, page.axes.index("S"), -1)
    extra = tuple(int(kind) for kind in page.extrasamples)
    colours = array.shape[-1] - len(extra)
    if len(extra) > 1 or (extra and (extra[0] not in ALPHA or not np.issubdtype(array.dtype, np.unsignedinteger))):
        raise InvalidInput(f"{path} has {array.shape[-1]} bands; expected one of labels, or three of colours.")
    values = array[..., 0] if colours == 1 else array[..., :colours]
    return Stored(values, alpha=alpha_of(array[..., -1]) if extra else None)


def _colours(page: Any) -> Array:
    """The palette as bytes; TIFF keeps 16 bits of each."""
    colours = np.asarray(page.colormap).T
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
