"""Strokes of a brush that grows thinner: which pixels they cover, and what they do to the Euler number of a mask."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smp_feedback.data.synthetic.rasterise import Floats, Pixels

Window = tuple[slice, slice]
WEIGHTS = np.zeros(16, np.int64)  # of a square of four pixels, by those that are set: four times what it adds
WEIGHTS[[1, 2, 4, 8]] = 1
WEIGHTS[[7, 11, 13, 14]] = -1
WEIGHTS[[6, 9]] = -2


class Stroke(NamedTuple):
    """What a brush covers.

    Attributes:
        window: Of the image, rows and columns.
        depth: (h, w) in that window, how far inside the edge a pixel's centre lies, in pixels; negative outside.
        nearest: (h, w), which point of the path is nearest there.
    """

    window: Window
    depth: Floats
    nearest: NDArray[np.intp]


def stroke(path: Floats, radii: Floats, size: tuple[int, int], reach: float) -> Stroke:
    """What a brush of *radii* (N,) covers that is moved along *path* (N, 2), as (y, x), and *reach* pixels around.

    Points are a pixel apart at most, so that they need not be joined by lines.

    >>> drawn = stroke(np.array([[2.5, 1.5], [2.5, 2.5]]), np.array([1.0, 1.0]), (5, 9), reach=0)
    >>> (drawn.depth >= 0).astype(int)
    array([[0, 1, 1, 0],
           [1, 1, 1, 1],
           [0, 1, 1, 0]])
    """
    margin = radii.max() + reach
    ends = np.floor(path.min(axis=0) - margin), np.ceil(path.max(axis=0) + margin)
    low, high = (np.minimum(np.maximum(end, 0), size).astype(int).tolist() for end in ends)
    ys, xs = (np.arange(a, b, dtype=np.float32) + np.float32(0.5) for a, b in zip(low, high, strict=True))
    rows, columns = np.square(ys - path[:, :1]), np.square(xs - path[:, 1:])
    away = rows[:, :, None] + columns[:, None]
    nearest = away.argmin(axis=0)  # radii change so slowly that the deepest point is the nearest
    depth = radii[nearest] - np.sqrt(away.min(axis=0))
    return Stroke((slice(low[0], high[0]), slice(low[1], high[1])), depth, nearest)


def euler_number(masks: Pixels) -> NDArray[np.int64]:
    """Components less holes of *masks* (..., H, W), around which nothing is set; pixels touch their eight neighbours.

    Counted in squares of four pixels (Gray 1971).

    >>> ring = np.pad(np.ones((3, 3), bool), 1)
    >>> ring[2, 2] = False
    >>> int(euler_number(ring)), int(euler_number(np.eye(4, dtype=bool)))
    (0, 1)
    """
    padded = np.zeros((*masks.shape[:-2], masks.shape[-2] + 2, masks.shape[-1] + 2), np.bool_)
    padded[..., 1:-1, 1:-1] = masks
    return corners(padded) // 4


def corners(masks: Pixels) -> NDArray[np.int64]:
    """Four times what the squares of four pixels that lie in *masks* (..., H, W) add to its Euler number."""
    bits = masks.view(np.uint8)
    rows = bits[..., :-1] | bits[..., 1:] << 1
    return np.asarray(WEIGHTS[rows[..., :-1, :] | rows[..., 1:, :] << 2].sum(axis=(-2, -1)))
