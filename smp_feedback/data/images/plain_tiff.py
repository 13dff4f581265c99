"""TIFF where tifffile is not installed: grey and RGB of 8 bits through Pillow; all else names the extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import UnidentifiedImageError

from smp_feedback.data.images.limits import opened_picture
from smp_feedback.data.images.raster import Head, PixelLayout, Raster, check_parts, whole
from smp_feedback.errors import InvalidInput


def head(path: Path) -> Head:
    """What the tags of *path* say."""
    with _opened(path) as picture:
        return _head(picture)


def decode(path: Path) -> Raster:
    """All of *path*."""
    with _opened(path) as picture:
        said, size, _ = _head(picture)
        check_strips(path, picture)
        values = np.asarray(picture)
    return Raster(values=whole(path, values if values.ndim == 3 else values[..., None], size, said), layout=said)


def check_strips(path: Path, picture: Any) -> None:
    """All strips or tiles of *picture* are in its file *path*.

    Raises:
        InvalidInput: With how many are not.
    """
    for offsets, counts in ((273, 279), (324, 325)):
        parts = [np.atleast_1d(picture.tag_v2.get(tag, ())).tolist() for tag in (offsets, counts)]
        check_parts(path, *parts)


def _head(picture: Any) -> Head:
    return Head(PixelLayout(bands=len(picture.getbands())), (picture.height, picture.width))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with opened_picture(path, path, ("TIFF",)) as picture:
            if not _is_plain(picture):
                raise _refused(path)
            yield picture
    except UnidentifiedImageError:
        raise _refused(path) from None


def _refused(path: Path) -> InvalidInput:
    return InvalidInput(
        f"{path}: without tifffile, TIFFs are read that have one page of grey or RGB of 8 bits, upright; for this one, "
        'pip install "smp_feedback[tiff]".'
    )


def _is_plain(picture: Any) -> bool:
    """By its tags: one page, as many samples as its mode has, bytes, upright, no value for missing ones."""
    tag, samples = picture.tag_v2.get, len(picture.getbands())
    told = tag(277, 1), tuple(tag(258, (1,))), tag(262), set(np.atleast_1d(tag(339, 1)).tolist())
    plain = told == (samples, (8,) * samples, {1: 1, 3: 2}.get(samples), {1})
    return plain and picture.n_frames == 1 and tag(274, 1) == 1 and not {338, 330, 42113} & set(picture.tag_v2)
