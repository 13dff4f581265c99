"""Labels in a TIFF of any whole or floating-point kind: its samples as they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smp_feedback.data.images.tiff import hidden, opened, orientation, stored
from smp_feedback.data.images.tiff_colours import ALPHA, BLACK_IS_0, JPEG, PALETTE, RGB, WHITE_IS_0, palette_of
from smp_feedback.data.masks.stored import BLUR, INVERTED, Array, Stored, alpha_of
from smp_feedback.errors import InvalidInput


def read_tiff(path: Path) -> Stored:
    """The one picture of *path*, upright; overviews (smaller copies of it) do not count.

    Raises:
        InvalidInput: If there are several, if one is not whole, or if it is not labels, naming the file.
    """
    with opened(path) as (file, page):
        if page.compression in JPEG:
            raise InvalidInput(f"{path} is a JPEG inside a TIFF: {BLUR}")
        if page.photometric == WHITE_IS_0:
            raise InvalidInput(f"{path}: {INVERTED}")
        if page.photometric not in (BLACK_IS_0, RGB, PALETTE):
            raise InvalidInput(f"{path}: expected labels or colours, found {page.photometric.name}; save it as RGB.")
        if (gone := hidden(file, page)) is not None and gone.any():
            raise InvalidInput(
                f"{path}: {gone.sum()} pixels are masked out by a page of the file; which label are they? Write the "
                "ignored label there, and save it without that page."
            )
        return _taken_apart(path, page, stored(path, page)).turned(orientation(page))


def _taken_apart(path: Path, page: Any, samples: Array) -> Stored:
    """Labels or colours, and alpha where there is some."""
    samples = samples.astype(np.uint8) if samples.dtype == np.bool_ else samples
    if samples.shape[2] == 1:
        return Stored(samples[..., 0], _palette(page) if page.photometric == PALETTE else None)
    extra = tuple(int(kind) for kind in page.extrasamples)
    colours = samples.shape[2] - len(extra)
    if len(extra) > 1 or (extra and (extra[0] not in ALPHA or samples.dtype.kind != "u")):
        raise InvalidInput(f"{path} has {samples.shape[2]} bands; expected one of labels, or three of colours.")
    values = samples[..., 0] if colours == 1 else samples[..., :colours]
    return Stored(values, alpha=alpha_of(samples[..., -1]) if extra else None)


def _palette(page: Any) -> Array:
    """Its colours as bytes; TIFF keeps 16 bits of each."""
    colours = palette_of(page)
    return colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)
