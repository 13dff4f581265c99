"""Branching vessels on uneven ground: faint in places, yet in one piece."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smp_feedback.checks import check_number
from smp_feedback.data.augment import Augmentation
from smp_feedback.data.items import checked_index, checked_int
from smp_feedback.data.seeding import scene_generator
from smp_feedback.data.synthetic.base import Scene, Synthetic
from smp_feedback.data.synthetic.grounds import distract, light
from smp_feedback.data.synthetic.growth import Growth, Vessel, grow
from smp_feedback.data.synthetic.rasterise import Floats
from smp_feedback.errors import InvalidValue
from smp_feedback.ops.betti import Betti

CONTRAST = (0.2, 0.4)  # of a vessel with its ground, where it is thick
THICK = 2.0  # pixels, radius: from there on a vessel has its whole contrast; a thinner one less, by its radius
EDGE = 1.0  # pixels over which a vessel ends at its side
GAP_EVERY = 22  # pixels along a vessel, from one gap to the next
GAP_LENGTHS = (2.0, 5.0)  # pixels: a gap's standard deviation


class Vessels(Synthetic):
    """Dark vessels that branch, grow thinner and here and there close a loop, on uneven ground; class 1 is the vessels.

    What one pixel sees does not decide. A vessel fades along its way and is nowhere to be seen in gaps, through which
    the mask goes on; spots, steps of brightness and short strokes are as dark, and belong to none. What continues is a
    vessel. The ground's light changes slowly across the image, so that no threshold holds.

    The topology of a mask is known, see `betti`: trees never meet, no loop closes by chance, and no gap or hole is
    narrower than three pixels. Vessels, gaps and distractors are as many in each part of an image of any size: train
    on small images, test on large ones.

    Args:
        split, root, size, seed, count, noise, transform: See `Synthetic`.
        trees: An image has one to so many, if there is room: components.
        loops: The share of branches, in [0, 1], that close a loop where they would have ended before a vessel of their
            tree. By 0.5 half the images of 64 pixels have none, and those of 128 have five in the mean.
        fade: What gaps take of the contrast, in [0, 1]. 0.95 leaves 0.02 grey levels at most, less than the grain.
        distractors: In each 64 x 64 pixels, in the mean; a third each of spots, steps and strokes.
        grain: Standard deviation of each pixel's own noise, in grey levels of [0, 1]; by 0.05 the thinnest vessel has
            two to four times as much contrast.

    >>> data = Vessels("test", size=32)
    >>> image, mask = data[0]
    >>> image.shape, mask.unique(), data.betti(0)
    (torch.Size([3, 32, 32]), tensor([0, 1]), Betti(components=1, loops=0))
    """

    kind = "vessels"
    classes = ("background", "vessel")

    def __init__(
        self,
        split: str = "train",
        *,
        trees: int = 3,
        loops: float = 0.5,
        fade: float = 0.95,
        distractors: float = 4.0,
        grain: float = 0.05,
        root: object = None,
        size: int | Sequence[int] | None = None,
        seed: int = 0,
        count: int | None = None,
        noise: float = 0.0,
        transform: Augmentation = None,
    ) -> None:
        super().__init__(split, root=root, size=size, seed=seed, count=count, noise=noise, transform=transform)
        self.trees = checked_int("trees", trees, least=1)
        self.loops, self.fade = _checked_share("loops", loops), _checked_share("fade", fade)
        check_number("distractors", distractors, least=0)
        check_number("grain", grain, least=0)
        self.distractors, self.grain = distractors, grain

    def scene(self, rng: np.random.Generator) -> Scene:
        """Vessels, what is like them, and the ground."""
        grown = self._grown(rng)
        dark = distract(light(self.size, rng), self.distractors, rng) - self._vessels(grown, rng)
        grey = dark + self.grain * rng.standard_normal(self.size, np.float32)
        image = np.repeat(grey.clip(0, 1)[None].astype(np.float32), 3, axis=0)
        return image, grown.mask.astype(np.int64)

    def betti(self, index: int) -> Betti:
        """Of the mask of item *index*, before its augmentation, by how it was drawn."""
        grown = self._grown(scene_generator(self.seed, checked_index(index, self.count), self.split))
        return Betti(grown.trees, grown.loops)

    def _grown(self, rng: np.random.Generator) -> Growth:
        return grow(self.size, self.trees, self.loops, rng)

    def _vessels(self, grown: Growth, rng: np.random.Generator) -> Floats:
        """How much darker each pixel is, (H, W)."""
        dark = np.zeros(self.size, np.float32)
        for vessel, contrast in zip(grown.vessels, rng.uniform(*CONTRAST, len(grown.vessels)), strict=True):
            window, depth, nearest = vessel.drawn
            covered = (depth / EDGE + 0.5).clip(0, 1)
            np.maximum(dark[window], covered * (contrast * seen(vessel, self.fade, rng))[nearest], out=dark[window])
        return dark


def seen(vessel: Vessel, fade: float, rng: np.random.Generator) -> Floats:
    """What is left of the contrast at each point of a vessel's path, (N,), in [0, 1]."""
    along = np.arange(len(vessel.radii))
    gaps = rng.random((rng.poisson(len(along) / GAP_EVERY), 2)) * (len(along), GAP_LENGTHS[1] - GAP_LENGTHS[0])
    lost = np.exp(-np.square((along - gaps[:, :1]) / (GAP_LENGTHS[0] + gaps[:, 1:])))
    left = 1 - fade * lost.max(axis=0, initial=0)
    return np.asarray(left * np.minimum(vessel.radii / THICK, 1))


def _checked_share(name: str, value: float) -> float:
    check_number(name, value, least=0)
    if value > 1:
        raise InvalidValue(f"{name}={value!r}: expected a share, 0 to 1.")
    return value
