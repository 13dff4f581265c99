"""Images whose masks are drawn from what somebody has outlined, when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.data.augment import Augmentation, as_item, as_transform
from smp_feedback.data.images.reader import ImageReader
from smp_feedback.data.items import Sample, checked_index, height_width
from smp_feedback.data.masks.labels import Labels
from smp_feedback.data.seeding import check_choice_of_items, choose
from smp_feedback.errors import InvalidType, InvalidValue

BACKGROUND = "background"
NO_CLASS = ("background", "_background_", "__background__")  # names that tools give to what nobody has outlined


class Drawing(NamedTuple):
    """An image, the file that has its outlines, and the outlines themselves, where they are read already."""

    image: Path
    file: Path
    outlines: Any = None


class DrawnMasks(Dataset[Sample]):
    """What datasets of outlines share: choice, reading, resizing and augmentation; they bring `draw`.

    Args:
        drawings: All images of the split, in order.
        split: Which split it is, by which *count* of them are chosen.
        classes: Names of labels 0, 1, ...; what nobody has outlined is 0.
        ignore_index: A label that counts for nothing; None if there is none.
        size, transform, count, seed, bands, channels, scale: See `MaskFolder`.

    Attributes:
        normalised: False: images are in [0, 1], and whoever shows them to a model normalises them.
        samples: (path of the image, path of its annotation), in order.
    """

    normalised = False
    task = "segmentation"

    def __init__(
        self,
        drawings: Sequence[Drawing],
        split: str,
        *,
        classes: Sequence[str],
        ignore_index: int | None,
        size: int | Sequence[int] | None = None,
        transform: Augmentation = None,
        count: int | None = None,
        seed: int = 0,
        **reading: Any,
    ) -> None:
        check_choice_of_items(count, seed)
        self.size = None if size is None else height_width(size, least=1)
        self.images = ImageReader(**{name: value for name, value in reading.items() if value is not None})
        self.classes, self.ignore_index = tuple(classes), ignore_index
        self.transform = as_transform(transform)
        self.drawings = [drawings[i] for i in choose(len(drawings), count, seed, split)]
        self.samples = [(one.image, one.file) for one in self.drawings]

    def draw(self, drawing: Drawing, size: tuple[int, int]) -> Labels:
        """The label of each pixel, int64 (H, W) = *size*, which is the image's."""
        raise NotImplementedError

    def name(self, index: SupportsIndex) -> str:
        """The path of image *index*."""
        return str(self.samples[checked_index(index, len(self))][0])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        drawing = self.drawings[checked_index(index, len(self))]
        image = self.images.read(drawing.image)
        mask: Tensor = torch.from_numpy(self.draw(drawing, (image.shape[-2], image.shape[-1])))
        return as_item(image, mask, size=self.size, transform=self.transform, name=str(drawing.image))


def with_background(classes: Sequence[str], ignore_index: int | None) -> tuple[str, ...]:
    """*classes* after the background, which has label 0 and may be among them as the first.

    Raises:
        InvalidType: If they are no names.
        InvalidValue: If one is there twice, or *ignore_index* is one of them.

    >>> with_background(["cat", "dog"], 255), with_background(["_background_", "cat"], None)
    (('background', 'cat', 'dog'), ('_background_', 'cat'))
    """
    names = tuple(classes) if isinstance(classes, Sequence) and not isinstance(classes, str) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidType(f"classes={classes!r}: expected the names of what is outlined, at least one.")
    names = names if names[0].lower() in NO_CLASS else (BACKGROUND, *names)
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidValue(f"classes={list(names)}: {sorted(twice)[0]!r} is there twice.")
    if ignore_index is not None and 0 <= ignore_index < len(names):
        raise InvalidValue(f"ignore_index={ignore_index} is class {names[ignore_index]!r}; expected a label beyond.")
    return names
