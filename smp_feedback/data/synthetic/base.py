"""What every synthetic dataset shares: items drawn when they are asked for, without files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from smp_feedback.checks import check_choice
from smp_feedback.data.augment import Augmentation, as_transform, augmented
from smp_feedback.data.corruption.corruptions import add_noise
from smp_feedback.data.items import Sample, checked_index, checked_int, checked_sigma, height_width, in_unit
from smp_feedback.data.seeding import SPLITS, noise_generator, scene_generator
from smp_feedback.errors import InvalidValue

Scene = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Image (3, H, W), in [0, 1], and mask (H, W)."""

SMALLEST = 16  # pixels; below, the outline of the smallest polygon says nothing about its corners
SIDE = 64  # pixels, where no size is given; the paper draws 512
COUNTS = {"train": 1000, "val": 200, "test": 500}  # items, where no count is given


class Synthetic(Dataset[Sample], ABC):
    """A dataset whose item i is a function of (split, seed, i): the same in every process and order.

    ``val`` and ``test`` show the same images for every seed, so that models of different seeds are scored alike;
    no split shares an item with another.

    Args:
        split: ``train``, ``val`` or ``test``.
        root: None: there are no files.
        size: Side, or (H, W), in pixels, each >= 16; None is 64 (512 in the paper, which few CPUs can afford).
        seed: Another seed, other training items; >= 0.
        count: Number of items; None is 1000, 200, 500 for train, val, test. A smaller count gives the first items.
        noise: Standard deviation of the noise, then min-max scaling, see `add_noise`. It is the same at every
            access; the paper draws it anew, for which see `Corrupted` with ``fresh=True``.
        transform: Augmentation before the noise: a name of ``list_augmentations()``, or a callable.

    Items are (image, mask): float32 (3, H, W) in [0, 1], and int64 (H, W) with the indices of ``classes``.

    Raises:
        InvalidType: If an argument is no number (or, for *size*, no pair).
        InvalidValue: If an argument is out of its range, or a *root* is given.
    """

    kind: ClassVar[str]
    least: ClassVar[int] = SMALLEST
    side: ClassVar[int] = SIDE
    unit: ClassVar[str] = "pixels"  # what a size counts
    classes: tuple[str, ...]
    ignore_index: int | None = None
    normalised = False  # whoever shows images to a model normalises them

    def __init__(
        self,
        split: str = "train",
        *,
        root: object = None,
        size: int | Sequence[int] | None = None,
        seed: int = 0,
        count: int | None = None,
        noise: float = 0.0,
        transform: Augmentation = None,
    ) -> None:
        check_choice("split", split, SPLITS)
        if root is not None:
            raise InvalidValue(f"root={root!r}: {self.kind} is drawn, not read; expected None.")
        self.split = split
        self.size = height_width(self.side if size is None else size, self.least, self.unit)
        self.seed = checked_int("seed", seed, least=0)
        self.count = COUNTS[split] if count is None else checked_int("count", count, least=1)
        self.noise = checked_sigma("noise", noise)
        self.transform = as_transform(transform)

    @abstractmethod
    def scene(self, rng: np.random.Generator) -> Scene:
        """One clean image and its mask."""

    def drawn(self, index: int) -> Scene:
        """Item *index* without augmentation and noise."""
        return self.scene(scene_generator(self.seed, index, self.split))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: SupportsIndex) -> Sample:
        i = checked_index(index, self.count)
        drawn, labels = self.drawn(i)
        image, mask = augmented(self.transform, torch.from_numpy(drawn), torch.from_numpy(labels))
        image = in_unit(image, self.name(i))
        if self.noise:
            image = add_noise(image, self.noise, noise_generator(self.seed, i, self.split))
        return image, mask

    def name(self, index: SupportsIndex) -> str:
        """Such as ``polygons[3] of seed 0`` or ``polygons[3] of test``."""
        stream = f"seed {self.seed}" if self.split == "train" else self.split
        return f"{self.kind}[{checked_index(index, self.count)}] of {stream}"
