"""Polygons and circles, drawn when they are asked for: a dataset without files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count as count_from
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from smp_feedback.data.noise import (
    Sample,
    add_noise,
    checked_index,
    checked_int,
    checked_sigma,
    noise_generator,
)
from smp_feedback.errors import InvalidType

Floats = NDArray[np.floating[Any]]
Pixels = NDArray[np.bool_]

SMALLEST = 16  # pixels; below, a radius of 1/8 no longer tells a polygon from a circle
RADIUS = (1 / 8, 1 / 4)  # of the shorter side
JITTER = (0.75, 1.25)  # of the radius, per corner
CORNERS = (3, 8)


class Shapes(Dataset[Sample]):
    """Polygons (3 to 8 corners, slightly irregular) and discs on a plain ground, in colours that say nothing.

    The synthetic task of *Deep Recurrence for Dynamical Segmentation Models* (arXiv 2507.10143), with random
    colours, so that only the outline tells a polygon from a circle. Item i is a function of (seed, i): the
    same in every process and order. Later shapes are painted over earlier ones.

    Args:
        count: Number of items, >= 1.
        size: Side, or (H, W), in pixels, each >= 16.
        noise: Standard deviation of the noise, see `add_noise`; 0 leaves the colours plain.
        seed: Another seed, other shapes; >= 0.
        max_shapes: An image shows one to this many shapes, >= 1.

    Items are (image, mask): float32 (3, H, W) in [0, 1], and int64 (H, W) with the indices of ``classes``.

    Raises:
        InvalidType: If an argument is no number (or, for *size*, no pair).
        InvalidValue: If an argument is out of its range.

    >>> image, mask = Shapes(100, size=(48, 64))[7]
    >>> image.shape, mask.shape, mask.unique()
    (torch.Size([3, 48, 64]), torch.Size([48, 64]), tensor([0, 1, 2]))
    """

    classes = ("background", "polygon", "circle")
    ignore_index: int | None = None

    def __init__(
        self,
        count: int,
        size: int | Sequence[int] = 64,
        *,
        noise: float = 0.0,
        seed: int = 0,
        max_shapes: int = 3,
    ) -> None:
        self.count = checked_int("count", count, least=1)
        self.size = height_width(size, least=SMALLEST)
        self.noise = checked_sigma("noise", noise)
        self.seed = checked_int("seed", seed, least=0)
        self.max_shapes = checked_int("max_shapes", max_shapes, least=1)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: SupportsIndex) -> Sample:
        i = checked_index(index, self.count)
        image, mask = self._scene(np.random.default_rng([self.seed, i]))
        noisy = add_noise(torch.from_numpy(image), self.noise, noise_generator(self.seed, i))
        return noisy, torch.from_numpy(mask)

    def _scene(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        kinds = np.append(0, rng.integers(1, len(self.classes), rng.integers(1, self.max_shapes + 1)))
        owner = np.zeros(self.size, np.int64)  # the shape a pixel shows: its colour and its class follow
        for k, kind in enumerate(kinds[1:], start=1):
            owner[_random_shape(self.classes[kind], self.size, rng)] = k
        colours = random_colours(len(kinds), rng).astype(np.float32)
        return np.take(colours.T, owner, axis=1), kinds[owner]


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
    meets = np.where(straddles, x0 + (y - y0) / height * (x1 - x0), -np.inf)
    return np.asarray(np.logical_xor.reduce(x < meets[..., None], axis=0))


def fill_circle(centre: Floats, radius: float, size: tuple[int, int]) -> Pixels:
    """The pixels whose centre lies within *radius* of *centre*; coordinates as in `fill_polygon`.

    >>> int(fill_circle(np.array([32.0, 32.0]), 20.0, (64, 64)).sum()), round(np.pi * 20**2)
    (1264, 1257)
    """
    y, x = (np.arange(side) + 0.5 - c for side, c in zip(size, centre, strict=True))
    return np.asarray(np.square(y)[:, None] + np.square(x) <= radius**2)


def random_polygon(centre: Floats, radius: float, rng: np.random.Generator) -> Floats:
    """The corners (N, 2) of a regular polygon, turned at random, each moved in or out by up to a quarter."""
    corners = rng.integers(CORNERS[0], CORNERS[1] + 1)
    angle = 2 * np.pi * (np.arange(corners) / corners + rng.random())
    reach = radius * rng.uniform(*JITTER, corners)
    return np.asarray(centre + reach[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1))


def random_colours(count: int, rng: np.random.Generator) -> Floats:
    """RGB colours (count, 3) in [0, 1], any two at least 0.6 / m apart in some channel.

    The cube is cut into m^3 cells, m >= 3 as small as *count* allows. Each colour has a cell to itself and
    keeps to its middle, so no draw has to be rejected.
    """
    m = next(m for m in count_from(3) if m**3 >= count)
    cells = np.stack(np.unravel_index(rng.choice(m**3, count, replace=False), (m, m, m)), axis=1)
    return np.asarray((cells + rng.uniform(0.3, 0.7, cells.shape)) / m)


def height_width(size: int | Sequence[int], least: int) -> tuple[int, int]:
    """A side, or a pair (H, W), as a pair; each at least *least* pixels."""
    sides = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else [size, size]
    if len(sides) != 2:
        raise InvalidType(f"size={size!r}: expected an int or a pair (H, W), each >= {least} pixels.")
    height, width = (checked_int("size", side, least) for side in sides)
    return height, width


def _random_shape(kind: str, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    radius = rng.uniform(*RADIUS) * min(size)
    centre = rng.uniform(radius, np.subtract(size, radius))
    if kind == "circle":
        return fill_circle(centre, radius, size)
    return fill_polygon(random_polygon(centre, radius, rng), size)
