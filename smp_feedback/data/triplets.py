"""Triplets to learn restoration from: a distorted image, the clean one, and its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.data.batch import is_clips, read_target
from smp_feedback.data.corruption.corrupted import Corrupted
from smp_feedback.data.items import Corruption, Sample, checked_index
from smp_feedback.data.wrapped import WrappedDataset
from smp_feedback.errors import InvalidInput

Triplet = tuple[Tensor, Tensor, Tensor]  # distorted and clean image (C, H, W), mask (H, W)


class TripletDataset(WrappedDataset[Triplet]):
    """What datasets of triplets share; the dataset they wrap has items (clean image, mask)."""

    def __getitem__(self, index: SupportsIndex) -> Triplet:
        return self.triplet(checked_index(index, len(self)))

    def triplet(self, index: int) -> Triplet:
        """Item *index*, from 0."""
        raise NotImplementedError(f"{type(self).__name__} defines no triplet(index).")


class Triplets(TripletDataset):
    """Any labelled images under a corruption, such as the simulated ``turbulence`` of hot air.

    The corruption comes after whatever *dataset* does to its images: wrap the augmented one. What happens to item i is
    what :class:`Corrupted` of the same arguments does to it.

    Args:
        dataset: Map-style, with items (image, mask).
        corruption: A registered corruption, or a function called like one, such as `of_air` gives.
        severity: 1 to 5; 0 leaves images alone.
        seed: Another seed, another corruption of each item; >= 0. It has no meaning if *fresh*.
        fresh: Draw the corruption anew at each access, for training.

    Raises:
        UnknownName, InvalidType, InvalidValue: As :class:`Corrupted`.

    >>> from smp_feedback.data import Shapes
    >>> distorted, clean, mask = Triplets(Shapes(4, 32), "motion_blur")[0]
    >>> distorted.shape == clean.shape, mask.shape, torch.equal(distorted, clean)
    (True, torch.Size([32, 32]), False)
    """

    def __init__(
        self,
        dataset: Dataset[Sample],
        corruption: str | Corruption = "turbulence",
        severity: int = 3,
        seed: int = 0,
        *,
        fresh: bool = False,
    ) -> None:
        super().__init__(dataset)
        self.corrupted = Corrupted(dataset, corruption, severity, seed, fresh=fresh)

    def triplet(self, index: int) -> Triplet:
        """Item *index*; the clean image is read once, and then distorted."""
        clean, target = self.dataset[index][:2]
        return self.corrupted.corrupt(clean, index), clean, target


def labelled(triplets: Any) -> Any:
    """The pairs (image, mask) of *triplets*; nothing is distorted for ours."""
    return triplets.dataset if isinstance(triplets, TripletDataset) else _Labelled(triplets)


def distorted(triplets: Any) -> Dataset[Sample]:
    """The pairs (distorted image, mask) of *triplets*, with their films: what a model is scored on.

    >>> from smp_feedback.data import MovingShapes
    >>> frames = distorted(Triplets(MovingShapes(frames=2, count=4, size=32), "shimmer"))
    >>> frames.films, len(frames[3])
    ((range(0, 2), range(2, 4)), 2)
    """
    return _Distorted(triplets)


class _Distorted(WrappedDataset[Sample]):
    """Distorted image and mask of each of any triplets."""

    def __getitem__(self, index: SupportsIndex) -> Sample:
        image, _, target = self.dataset[checked_index(index, len(self))][:3]
        return image, target


class _Labelled(Dataset[Sample]):
    """Clean image and mask of each of any triplets."""

    def __init__(self, triplets: Any) -> None:
        self.dataset = triplets

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        _, clean, target = self.dataset[index][:3]
        return clean, target


def check_triplets(batch: Sequence[Tensor]) -> Triplet:
    """The three parts of a batch (distorted, clean, target), of images or of clips, and whatever follows.

    Raises:
        InvalidInput: If the images are not of one shape, or the target is no mask of their size, with the shapes.

    >>> images = torch.zeros(2, 3, 4, 4)
    >>> check_triplets((images, torch.zeros(2, 3, 4, 8), torch.zeros(2, 4, 4)))
    Traceback (most recent call last):
    smp_feedback.errors.InvalidInput: a batch of shapes (2, 3, 4, 4), (2, 3, 4, 8), (2, 4, 4): expected distorted ...
    """
    if len(batch) > 2 and is_clips(batch[0]):
        return _of_clips(batch)
    batch = [*batch[:2], *(read_target(part) for part in batch[2:3])]
    shapes = [tuple(part.shape) for part in batch]
    image = shapes[0]
    if len(image) != 4 or shapes[1:] != [image, (image[0], *image[2:])]:
        raise InvalidInput(
            f"a batch of shapes {', '.join(map(str, shapes))}: expected distorted images and clean ones, both "
            "(B, C, H, W), and masks (B, H, W), all of one size, as TripletsModule makes them."
        )
    distorted, clean, target = batch
    return distorted, clean, target


def _of_clips(batch: Sequence[Tensor]) -> Triplet:
    """Those of clips (B, T, C, H, W), masks (B, T, H, W), seen as that many images."""
    parts = [torch.as_tensor(part) for part in batch[:3]]
    shapes = [tuple(part.shape) for part in parts]
    if any(shape[:2] != shapes[0][:2] for shape in shapes):
        raise InvalidInput(
            f"a batch of shapes {', '.join(map(str, shapes))}: expected clips of distorted images and of clean ones, "
            "both (B, T, C, H, W), and masks (B, T, H, W)."
        )
    distorted, clean, target = (
        part.reshape(*shapes[0][:2], *part.shape[1:]) for part in check_triplets([part.flatten(0, 1) for part in parts])
    )
    return distorted, clean, target
