"""Outlines and what they fill: which pixels belong to a polygon, a circle, an ellipse."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Pixels = NDArray[np.bool_]


def fill_polygon(corners: Floats, size: tuple[int, int]) -> Pixels:
    """The pixels whose centre lies inside a polygon, by the even-odd crossing rule.

    Half-open: of two polygons that share an edge, each pixel on it belongs to exactly one.

    Args:
        corners: (N, 2), as (y, x) in pixels, in order; pixel (r, c) has its centre at (r + 0.5, c + 0.5).
        size: (H, W); corners may lie outside.

    Returns:
        (H, W), bool.

    >>> fill_polygon(np.array([[1.0, 1.0], [1.0, 3.0], [3.0, 3.0], [3.0, 1.0]]), (3, 4)).astype(int)
    array([[0, 0, 0, 0],
           [0, 1, 1, 0],
           [0, 1, 1, 0]])
    """
    y, x = (np.arange(side) + 0.5 for side in size)
    y0, x0 = corners.T[..., None]
    y1, x1 = np.roll(corners, -1, axis=0).T[..., None]
    straddles = (y0 <= y) != (y1 <= y)  # (N, H): does the edge meet the line through the centres of a row?
    height = np.where(straddles, y1 - y0, 1.0)  # a level edge meets none, and must not divide by 0
    meets = x0 + (y - y0) / height * (x1 - x0)
    row = np.broadcast_to(np.arange(size[0]), meets.shape)[straddles]
    ends = np.zeros((size[0], size[1] + 1), np.int32)  # how many edges have so many centres of a row to their left
    np.add.at(ends, (row, np.searchsorted(x, meets[straddles])), 1)
    to_the_right = ends[:, :0:-1].cumsum(axis=1)[:, ::-1]
    return np.asarray(to_the_right % 2 == 1)


def fill_circle(centre: Floats, radius: float, size: tuple[int, int]) -> Pixels:
    """The pixels whose centre lies within *radius* of *centre*; coordinates as in `fill_polygon`.

    >>> int(fill_circle(np.array([32.0, 32.0]), 20.0, (64, 64)).sum()), round(np.pi * 20**2)
    (1264, 1257)
    """
    return fill_ellipse(centre, (radius, radius), size)


def fill_ellipse(centre: Floats, radii: tuple[float, float], size: tuple[int, int]) -> Pixels:
    """The pixels whose centre lies in the upright ellipse of *radii* (y, x) around *centre*.

    >>> fill_ellipse(np.array([1.5, 2.5]), (1.0, 2.0), (3, 5)).astype(int)
    array([[0, 0, 1, 0, 0],
           [1, 1, 1, 1, 1],
           [0, 0, 1, 0, 0]])
    """
    offsets = (np.arange(side) + 0.5 - c for side, c in zip(size, centre, strict=True))
    y, x = (np.square(offset / radius) for offset, radius in zip(offsets, radii, strict=True))
    return np.asarray(y[:, None] + x <= 1)


def around(centre: Floats, reach: Floats, turn: float) -> Floats:
    """Corners (N, 2), as (y, x), at equal angles around *centre*, the first *turn* radians from the right.

    >>> around(np.array([0.0, 10.0]), np.array([2.0, 1.0]), 0.0).round(6).tolist()
    [[0.0, 12.0], [0.0, 9.0]]
    """
    angle = turn + 2 * np.pi * np.arange(len(reach)) / len(reach)
    return np.asarray(centre + reach[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1))
