"""One object an item, of any images whose masks tell one object from another."""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from smp_feedback.checks import check_whole
from smp_feedback.data.items import Sample, check_map_style, checked_index, item_name
from smp_feedback.data.wrapped import Films, WrappedDataset
from smp_feedback.errors import InvalidInput

VOID = 255
"""What an item's mask holds where nobody knows."""


class Objects(WrappedDataset[Sample]):
    """The objects of *dataset*, an item each: its image, and a mask of 0 and 1; 255 where *dataset* ignores labels.

    All masks are read once, to find which objects there are.

    Args:
        dataset: Map-style; items are (image (C, H, W), labels (H, W)), each label above 0 an object.
        window: Side of the window around the object that is shown, in pixels; None is the whole image. It lies around
            the object's middle as far as the image allows, which must not be smaller; to train, *moved* by up to a
            quarter of it, drawn anew each time.
        least: Pixels that an object has in its window at least, >= 1; smaller ones are left out.
        moved: Whether the window is drawn.

    Attributes:
        places: Which item of *dataset*, and which label, each item is.

    Raises:
        InvalidType: If *dataset* is no dataset.
        InvalidInput: If it has no object, or an image that is smaller than the window.

    >>> labels = torch.zeros(8, 9, dtype=torch.long)
    >>> labels[1:4, 1:4], labels[5:8, 3:9] = 1, 7
    >>> found = Objects([(torch.rand(3, 8, 9), labels)], least=9)
    >>> found.places, found[1][1].sum()
    (((0, 1), (0, 7)), tensor(18))
    """

    normalised = False

    def __init__(self, dataset: Any, *, window: int | None = None, least: int = 20, moved: bool = False) -> None:
        check_map_style(dataset, "dataset")
        super().__init__(dataset)
        if window is not None:
            check_whole("window", window)
        check_whole("least", least)
        self.window, self.least, self.moved = window, least, moved
        void = self.ignore_index  # 0 is what is around objects, whatever else it is called
        self.void = void if void else None
        self.classes, self.ignore_index = ("background", "object"), None if self.void is None else VOID
        self.places = tuple((i, label) for i in range(len(dataset)) for label in self._labels(i))
        if not self.places:
            raise InvalidInput(f"dataset has no object of {least} pixels: expected masks with a label for each object.")

    def _labels(self, i: int) -> list[int]:
        """The objects of image *i* that are large enough in their window."""
        labels = self.dataset[i][1]
        if self.window is not None and min(labels.shape) < self.window:
            raise InvalidInput(
                f"{item_name(self.dataset, i)} has {labels.shape[0]} x {labels.shape[1]} pixels: expected images of "
                f"at least window={self.window}."
            )
        found, counts = labels.unique(return_counts=True)
        large = found[(found > 0) & (counts >= self.least)].tolist()
        masks = ((one, labels == one) for one in large if one != self.void)
        return [one for one, mask in masks if mask[self._window(mask)].sum() >= self.least]

    def _window(self, mask: Tensor, *, moved: bool = False) -> tuple[slice, slice]:
        """The rows and columns of the window around the middle of what *mask* shows."""
        if self.window is None:
            return slice(None), slice(None)
        spans = []
        for axis, side in enumerate(mask.shape):
            filled = mask.any(1 - axis).nonzero()
            middle = (int(filled[0]) + int(filled[-1]) + 1) // 2
            by = int(torch.randint(-(self.window // 4), self.window // 4 + 1, ())) if moved else 0
            first = int(np.clip(middle - self.window // 2 + by, 0, side - self.window))
            spans.append(slice(first, first + self.window))
        return spans[0], spans[1]

    @property
    def films(self) -> Films:
        """Objects are no frames.

        Raises:
            AttributeError: Always.
        """
        raise AttributeError("Objects has no films")

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        i, label = self.places[checked_index(index, len(self))]
        image, labels = self.dataset[i][:2]
        mask = labels == label
        if not mask.any():
            raise InvalidInput(
                f"{self.name(index)} is not in its image any more: what augments images may not take objects away; "
                "window= cuts around them."
            )
        target = mask.long() if self.void is None else mask.long().masked_fill(labels == self.void, VOID)
        rows, columns = self._window(mask, moved=self.moved)
        return image[:, rows, columns], target[rows, columns]

    def name(self, index: SupportsIndex) -> str:
        """Such as ``train/a.png, object 3``."""
        i, label = self.places[checked_index(index, len(self))]
        return f"{item_name(self.dataset, i)}, object {label}"
