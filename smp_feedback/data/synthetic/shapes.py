"""Polygons and circles, drawn when they are asked for: a dataset without files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count as count_from

import numpy as np

from smp_feedback.data.augment import Augmentation
from smp_feedback.data.items import checked_int
from smp_feedback.data.synthetic.base import Scene, Synthetic
from smp_feedback.data.synthetic.rasterise import Floats, Pixels, around, fill_circle, fill_polygon

RADIUS = (1 / 8, 1 / 4)  # of the shorter side
JITTER = (0.75, 1.25)  # of the radius, per corner
CORNERS = (3, 8)


class Shapes(Synthetic):
    """Polygons (3 to 8 corners, slightly irregular) and discs on a plain ground, in colours that say nothing.

    Ours, ``coloured_shapes`` in the registry: harder than the synthetic tasks of arXiv 2507.10143 (see
    `smp_feedback.data.synthetic.polygons`), as several shapes overlap, none is cut off by the border, and only the
    outline tells a polygon from a circle. Later shapes are painted over earlier ones.

    Args:
        count, size, split, root, noise, seed, transform: See `Synthetic`.
        max_shapes: An image shows one to this many shapes, >= 1.

    >>> image, mask = Shapes(100, size=(48, 64))[7]
    >>> image.shape, mask.shape, mask.unique()
    (torch.Size([3, 48, 64]), torch.Size([48, 64]), tensor([0, 1, 2]))
    """

    kind = "coloured_shapes"
    classes = ("background", "polygon", "circle")

    def __init__(
        self,
        count: int | None = None,
        size: int | Sequence[int] | None = None,
        *,
        split: str = "train",
        root: object = None,
        noise: float = 0.0,
        seed: int = 0,
        max_shapes: int = 3,
        transform: Augmentation = None,
    ) -> None:
        super().__init__(split, root=root, size=size, seed=seed, count=count, noise=noise, transform=transform)
        self.max_shapes = checked_int("max_shapes", max_shapes, least=1)

    def scene(self, rng: np.random.Generator) -> Scene:
        """One to ``max_shapes`` shapes."""
        kinds = np.append(0, rng.integers(1, len(self.classes), rng.integers(1, self.max_shapes + 1)))
        owner = np.zeros(self.size, np.int64)  # the shape a pixel shows: its colour and its class follow
        for k, kind in enumerate(kinds[1:], start=1):
            owner[_random_shape(self.classes[kind], self.size, rng)] = k
        colours = random_colours(len(kinds), rng).astype(np.float32)
        return np.take(colours.T, owner, axis=1), kinds[owner]


def random_polygon(centre: Floats, radius: float, rng: np.random.Generator) -> Floats:
    """The corners (N, 2) of a regular polygon, turned at random, each moved in or out by up to a quarter."""
    corners = rng.integers(CORNERS[0], CORNERS[1] + 1)
    turn = 2 * np.pi * rng.random()
    return around(centre, radius * rng.uniform(*JITTER, corners), turn)


def random_colours(count: int, rng: np.random.Generator) -> Floats:
    """RGB colours (count, 3) in [0, 1], any two at least 0.6 / m apart in some channel.

    The cube is cut into m^3 cells, m >= 3 as small as *count* allows. Each colour has a cell to itself and
    keeps to its middle, so no draw has to be rejected.
    """
    m = next(m for m in count_from(3) if m**3 >= count)
    cells = np.stack(np.unravel_index(rng.choice(m**3, count, replace=False), (m, m, m)), axis=1)
    return np.asarray((cells + rng.uniform(0.3, 0.7, cells.shape)) / m)


def _random_shape(kind: str, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    radius = rng.uniform(*RADIUS) * min(size)
    centre = rng.uniform(radius, np.subtract(size, radius))
    if kind == "circle":
        return fill_circle(centre, radius, size)
    return fill_polygon(random_polygon(centre, radius, rng), size)
