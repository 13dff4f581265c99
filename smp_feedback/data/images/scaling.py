"""From stored numbers to [0, 1]: by their dtype, by a range that is told, or by percentiles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smp_feedback.data.images.raster import PixelLayout, Pixels
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue

Range = tuple[float, float]
Scale = tuple[Range, ...] | str | None
PERCENTILES = (2.0, 98.0)  # of all values of a band, where ``percentile`` does not say which
EXPECTED = "expected [low, high], one such pair a band, 'percentile', 'percentile:LOW,HIGH' or None"
NAMED = re.compile(r"percentile(?::\s*([\d.]+)\s*,\s*([\d.]+))?")


def checked_scale(scale: object) -> Scale:
    """*scale* as it is kept: pairs of numbers, a name, or None.

    Raises:
        InvalidType, InvalidValue: If it is no scale.

    >>> checked_scale([0, 4000]), checked_scale([[0, 1], [-5, 5]]), checked_scale("percentile:1,99")
    (((0.0, 4000.0),), ((0.0, 1.0), (-5.0, 5.0)), 'percentile:1,99')
    """
    if scale is None:
        return None
    if isinstance(scale, str):
        percentiles(scale)
        return scale
    if not isinstance(scale, Sequence) or not scale:
        raise InvalidType(f"scale={scale!r}: {EXPECTED}.")
    pairs = scale if isinstance(scale[0], Sequence) else (scale,)
    return tuple(_pair(scale, pair) for pair in pairs)


def _pair(scale: object, pair: object) -> Range:
    good = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
    if not good or any(isinstance(end, bool) or not isinstance(end, int | float) for end in pair):  # type: ignore[attr-defined]
        raise InvalidType(f"scale={scale!r}: {EXPECTED}.")
    low, high = map(float, pair)  # type: ignore[call-overload]
    if not (np.isfinite([low, high]).all() and low < high):
        raise InvalidValue(f"scale={scale!r}: expected low < high, both finite.")
    return low, high


def percentiles(scale: str) -> Range:
    """The percentiles that *scale* names.

    >>> percentiles("percentile"), percentiles("percentile:0.5,99.5")
    ((2.0, 98.0), (0.5, 99.5))
    """
    found = NAMED.fullmatch(scale.strip())
    if not found:
        raise InvalidValue(f"scale={scale!r}: {EXPECTED}.")
    low, high = PERCENTILES if found[1] is None else (float(found[1]), float(found[2]))
    if not 0 <= low < high <= 100:
        raise InvalidValue(f"scale={scale!r}: expected two percentiles, 0 <= low < high <= 100.")
    return low, high


def to_unit(
    path: Path, values: Pixels, layout: PixelLayout, scale: Scale, missing: NDArray[np.bool_] | None = None
) -> Pixels:
    """Values (H, W, C) as float32 in [0, 1]; bytes that nobody scales stay bytes.

    What lies outside a range becomes 0 or 1, as a window of densities is shown; a band that is constant between its
    percentiles becomes 0. Values that the file declares missing are 0; without a *scale* they have to be stored so.

    Raises:
        InvalidInput: For values that are no numbers, or that have no natural range and no *scale*.
    """
    _check_numbers(path, values, missing, scaled=scale is not None)
    if scale is None:
        return _natural(path, values, layout)
    with np.errstate(over="ignore"):
        wide = values.astype(np.float64)  # 32-bit whole numbers do not fit float32
        pairs = _measured(wide, scale, missing) if isinstance(scale, str) else _as_many(path, scale, values.shape[2])
        low, high = np.array(pairs, np.float64).T
        spread = np.where(high > low, high - low, np.inf)
        unit = np.clip((wide - low) / spread, 0, 1).astype(np.float32)
    return unit if missing is None else np.where(missing, np.float32(0), unit)


def _natural(path: Path, values: Pixels, layout: PixelLayout) -> Pixels:
    if layout.white == 255 and values.dtype == np.uint8:
        return values
    if layout.white is not None:
        return values.astype(np.float32) / np.float32(layout.white)
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return values.astype(np.float32)
    raise InvalidInput(
        f"{path}: its values are {layout.kind} from {low:.6g} to {high:.6g}, which have no natural range; expected a "
        "scale: the [low, high] of all files, one such pair a band, or 'percentile' (each image by its own)."
    )


def _check_numbers(path: Path, values: Pixels, missing: NDArray[np.bool_] | None, *, scaled: bool) -> None:
    total = values.shape[0] * values.shape[1]
    if values.dtype.kind == "f":
        strange = ~np.isfinite(values) if missing is None else ~np.isfinite(values) & ~missing
        if strange.any():
            raise InvalidInput(
                f"{path}: {strange.any(2).sum()} of {total} pixels are NaN or infinite; expected numbers. If they are "
                "missing, say so in the file (GDAL_NODATA, as gdal_edit.py -a_nodata nan does) and give a scale."
            )
    if missing is not None and not scaled and (values[missing] != 0).any():  # NaN is not 0 either
        raise InvalidInput(
            f"{path}: {missing.any(2).sum()} of {total} pixels have no data, and are not stored as 0; with a scale, "
            "such as scale=[low, high], they become 0."
        )


def _as_many(path: Path, scale: tuple[Range, ...], bands: int) -> Sequence[Range]:
    if len(scale) not in (1, bands):
        raise InvalidInput(
            f"{path}: scale has {len(scale)} pairs, {bands} bands are read; expected one pair, or one a band."
        )
    return scale * bands if len(scale) == 1 else scale


def _measured(values: NDArray[np.float64], scale: str, missing: NDArray[np.bool_] | None) -> list[Range]:
    """Of each band its percentiles, of what is not missing."""
    there = np.ones(values.shape, bool) if missing is None else ~missing
    ends = percentiles(scale)
    pairs = []
    for band in range(values.shape[2]):
        known = values[..., band][there[..., band]]
        low, high = np.percentile(known, ends) if known.size else (0.0, 0.0)
        pairs.append((float(low), float(high)))
    return pairs
