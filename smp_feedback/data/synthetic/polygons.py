"""The synthetic tasks of *Deep Recurrence for Dynamical Segmentation Models* (arXiv 2507.10143)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from smp_feedback.checks import check_number
from smp_feedback.data.augment import Augmentation
from smp_feedback.data.items import checked_int
from smp_feedback.data.synthetic.base import Scene, Synthetic
from smp_feedback.data.synthetic.rasterise import Floats, Pixels, around, fill_circle, fill_ellipse, fill_polygon
from smp_feedback.errors import InvalidValue

IRREGULAR = 5 / 512  # of the shorter side: the paper's standard deviation of 5 pixels at 512
GON = ("triangle", "quadrilateral", "pentagon", "hexagon", "heptagon", "octagon")
COLOURS = {  # as the web names them, in [0, 1]
    "red": (1.0, 0.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "pink": (1.0, 192 / 255, 203 / 255),
    "green": (0.0, 128 / 255, 0.0),
    "yellow": (1.0, 1.0, 0.0),
    "purple": (128 / 255, 0.0, 128 / 255),
}


class Polygons(Synthetic):
    """One white polygon on black per image; its class is its number of corners (arXiv 2507.10143).

    The radius is uniform in side/10 to side/4, that of each corner normal around it (standard deviation 5 pixels
    at 512), the centre uniform in the image, so that some polygons are cut off. Corners stand at equal angles, the
    first to the right of the centre: as in the paper, polygons are not turned. Side is the shorter one.

    Args:
        split: See `Synthetic`.
        kinds: Kinds of polygon: 3 to kinds + 2 corners, each equally often. Five in the published code.
        irregular: Standard deviation of a corner's radius over the side, >= 0.
        root, size, seed, count, noise, transform: See `Synthetic`.

    >>> data = Polygons(kinds=2, count=4)
    >>> data.classes, data.name(3), data[3][1].unique()
    (('background', 'triangle', 'quadrilateral'), 'polygons[3] of seed 0', tensor([0, 2]))
    """

    kind = "polygons"

    def __init__(
        self,
        split: str = "train",
        *,
        kinds: int = 5,
        irregular: float = IRREGULAR,
        root: object = None,
        size: int | Sequence[int] | None = None,
        seed: int = 0,
        count: int | None = None,
        noise: float = 0.0,
        transform: Augmentation = None,
    ) -> None:
        super().__init__(split, root=root, size=size, seed=seed, count=count, noise=noise, transform=transform)
        check_number("irregular", irregular, least=0)
        self.kinds, self.irregular = checked_int("kinds", kinds, least=1), irregular
        self.classes = ("background", *polygon_names(kinds))

    def scene(self, rng: np.random.Generator) -> Scene:
        """A polygon of a random kind."""
        label = int(rng.integers(1, self.kinds + 1))
        return white(random_irregular(label + 2, self.irregular, self.size, rng), label)


class Circles(Synthetic):
    """One white disc on black per image (arXiv 2507.10143): radius uniform in side/50 to side/4, centre anywhere.

    The smallest are smaller than a pixel below 50 px; such an image may show none.

    >>> Circles("val", count=2).classes
    ('background', 'circle')
    """

    kind = "circles"
    classes = ("background", "circle")

    def scene(self, rng: np.random.Generator) -> Scene:
        """A disc."""
        return white(random_disc(self.size, rng), 1)


class PolygonsAndCircles(Polygons):
    """A disc or a polygon per image, as in `Circles` and `Polygons`: the paper's ``shapes`` (arXiv 2507.10143).

    Classes: background, circle, then the polygons. The published code shows circles in (C - 1)/C of the images,
    where C counts the classes with the background (4 of 5): kept as it is, though the shares may have been meant
    the other way round. ``circle_share=1 / (kinds + 1)`` shows every class equally often.

    Args:
        split: See `Synthetic`.
        kinds: Kinds of polygon, 3 to kinds + 2 corners.
        circle_share: Probability of a disc, in [0, 1]; None is (kinds + 1)/(kinds + 2), as published.
        irregular: Standard deviation of a corner's radius over the side, >= 0.
        root, size, seed, count, noise, transform: See `Synthetic`.

    >>> PolygonsAndCircles(kinds=2).classes
    ('background', 'circle', 'triangle', 'quadrilateral')
    """

    kind = "shapes"

    def __init__(
        self,
        split: str = "train",
        *,
        kinds: int = 3,
        circle_share: float | None = None,
        irregular: float = IRREGULAR,
        root: object = None,
        size: int | Sequence[int] | None = None,
        seed: int = 0,
        count: int | None = None,
        noise: float = 0.0,
        transform: Augmentation = None,
    ) -> None:
        about: Any = {"root": root, "size": size, "seed": seed, "count": count, "noise": noise, "transform": transform}
        super().__init__(split, kinds=kinds, irregular=irregular, **about)
        self.circle_share = (kinds + 1) / (kinds + 2) if circle_share is None else circle_share
        check_number("circle_share", self.circle_share, least=0)
        if self.circle_share > 1:
            raise InvalidValue(f"circle_share={circle_share!r}: expected a probability, 0 to 1.")
        self.classes = ("background", "circle", *polygon_names(kinds))

    def scene(self, rng: np.random.Generator) -> Scene:
        """A disc, or a polygon of a random kind."""
        if rng.random() < self.circle_share:
            return white(random_disc(self.size, rng), 1)
        kind = int(rng.integers(self.kinds))
        return white(random_irregular(kind + 3, self.irregular, self.size, rng), kind + 2)


class OnePolygon(Synthetic):
    """Triangles among squares and ellipses, each in a colour of its own, on black: only triangles count.

    The paper's one class among many polygons (arXiv 2507.10143). The published code cannot run (it allots masks for
    four classes and fills two), outlines the ellipses in their mask instead of filling them, so that a triangle
    under an ellipse stays labelled, and says circles where it labels triangles. This is what it evidently means:
    up to two squares (circumradius up to side/2), over them one or two triangles (side/10 to side/4), over them one
    or two ellipses (diameters 10/512 to 1/2 of the side), regular polygons turned at random, colours without
    repetition; a label of 1 where a triangle is visible. Unlike there, noise is followed by min-max scaling.

    >>> image, mask = OnePolygon("test", size=48)[0]
    >>> image.shape, mask.unique()
    (torch.Size([3, 48, 48]), tensor([0, 1]))
    """

    kind = "one_polygon"
    classes = ("background", "triangle")

    def scene(self, rng: np.random.Generator) -> Scene:
        """Squares, triangles over them, ellipses over both."""
        kinds = [4] * int(rng.integers(3)) + [3] * int(rng.integers(1, 3)) + [0] * int(rng.integers(1, 3))
        colours = rng.permutation(np.array(list(COLOURS.values()), np.float32))
        image, mask = np.zeros((3, *self.size), np.float32), np.zeros(self.size, np.int64)
        for kind, colour in zip(kinds, colours, strict=False):
            pixels = _regular(kind, self.size, rng) if kind else _ellipse(self.size, rng)
            image[:, pixels], mask[pixels] = colour[:, None], int(kind == 3)
        return image, mask


def polygon_names(kinds: int) -> list[str]:
    """What polygons of 3 to kinds + 2 corners are called.

    >>> polygon_names(7)[-2:]
    ['octagon', '9-gon']
    """
    return [GON[k] if k < len(GON) else f"{k + 3}-gon" for k in range(kinds)]


def white(pixels: Pixels, label: int) -> Scene:
    """A white figure on black, and its mask."""
    image = np.broadcast_to(pixels.astype(np.float32), (3, *pixels.shape)).copy()
    return image, pixels * np.int64(label)


def random_irregular(corners: int, irregular: float, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """The pixels of a polygon as `Polygons` describes it."""
    side = min(size)
    radius = rng.uniform(side / 10, side / 4)
    reach = np.abs(rng.normal(radius, irregular * side, corners))
    return fill_polygon(around(rng.uniform(0, size), reach, 0.0), size)


def random_disc(size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """The pixels of a disc as `Circles` describes it."""
    radius = rng.uniform(min(size) / 50, min(size) / 4)
    return fill_circle(rng.uniform(0, size), radius, size)


def _regular(corners: int, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    side = min(size)
    radius = rng.uniform(1 / 512 * side, side / 2) if corners == 4 else rng.uniform(side / 10, side / 4)
    turn = rng.uniform(0, 2 * np.pi)
    return fill_polygon(around(_corner(size, rng), np.full(corners, radius), turn), size)


def _ellipse(size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    radii = rng.uniform(5 / 512, 1 / 4, 2) * min(size)  # half the diameters
    return fill_ellipse(_corner(size, rng) + radii, (float(radii[0]), float(radii[1])), size)


def _corner(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Where the published code puts a figure: 5 pixels from the upper left to 50 from the lower right, at 512."""
    return np.asarray(rng.uniform(5 / 512, 462 / 512, 2) * size)
