"""Objects of several parts, of which one is meant: only a click tells which, and more clicks how far it goes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smp_feedback.data.augment import Augmentation
from smp_feedback.data.items import checked_int
from smp_feedback.data.synthetic.base import Scene, Synthetic
from smp_feedback.data.synthetic.rasterise import Pixels, fill_circle, fill_polygon
from smp_feedback.data.synthetic.shapes import random_colours, random_polygon
from smp_feedback.errors import InvalidValue

RADIUS = (1 / 10, 1 / 5)  # of a part, of the shorter side
APART = (0.7, 1.3)  # how far a part lies from the one before, in the sum of half their radii


class Assemblies(Synthetic):
    """Three objects in disorder, each of one to *parts* shapes that overlap, each shape in a colour of its own.

    The mask is one of the objects. As nothing in the image says which, nor what belongs together, it is a task for
    clicks (`smp_feedback.data.clicks`): each further one can add a part, or take one away that belongs to another.

    Args:
        split, root, size, seed, count, transform: See `Synthetic`.
        noise: See `Synthetic`; 0.2 unless something else is said, so that borders are to be guessed at.
        objects: In an image, >= 1.
        parts: Of an object at most, >= 1.

    >>> image, mask = Assemblies("test", size=48)[0]
    >>> image.shape, mask.unique()
    (torch.Size([3, 48, 48]), tensor([0, 1]))
    """

    kind = "assemblies"
    classes = ("background", "object")

    def __init__(
        self,
        split: str = "train",
        *,
        objects: int = 3,
        parts: int = 3,
        root: object = None,
        size: int | Sequence[int] | None = None,
        seed: int = 0,
        count: int | None = None,
        noise: float = 0.2,
        transform: Augmentation = None,
    ) -> None:
        super().__init__(split, root=root, size=size, seed=seed, count=count, noise=noise, transform=transform)
        self.objects = checked_int("objects", objects, least=1)
        self.parts = checked_int("parts", parts, least=1)
        if objects * parts > 26:
            raise InvalidValue(f"objects={objects} of parts={parts}: expected 26 shapes at most, colours run out.")

    def scene(self, rng: np.random.Generator) -> Scene:
        """All objects, later ones over earlier; the last is the one that is meant, and so is whole."""
        shapes = [(k, shape) for k in range(self.objects) for shape in self._object(rng)]
        colours = random_colours(len(shapes) + 1, rng).astype(np.float32)
        owner, mask = np.zeros(self.size, np.int64), np.zeros(self.size, np.int64)
        for n, (k, shape) in enumerate(shapes, start=1):
            owner[shape], mask[shape] = n, int(k == self.objects - 1)
        return np.take(colours.T, owner, axis=1), mask

    def _object(self, rng: np.random.Generator) -> list[Pixels]:
        """The shapes of one object, each beside or over the one before."""
        side, found = min(self.size), []
        radius = rng.uniform(*RADIUS) * side
        centre = rng.uniform(radius, np.subtract(self.size, radius))
        for _ in range(rng.integers(1, self.parts + 1)):
            found.append(_shape(centre, radius, self.size, rng))
            after, angle = rng.uniform(*RADIUS) * side, rng.uniform(0, 2 * np.pi)
            step = rng.uniform(*APART) * (radius + after) / 2
            centre = np.clip(centre + step * np.array([np.sin(angle), np.cos(angle)]), 0, self.size)
            radius = after
        return found


def _shape(centre: np.ndarray, radius: float, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    if rng.random() < 0.5:
        return fill_circle(centre, radius, size)
    return fill_polygon(random_polygon(centre, radius, rng), size)
