"""Images that cannot be read: noted and left out of their batch, for whoever shows a model many files of others."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any, NamedTuple, cast

import torch
from torch.utils.data import Dataset

from smp_feedback.data.items import item_name
from smp_feedback.errors import InvalidInput
from smp_feedback.training.datamodule import PairsModule


class Unread(NamedTuple):
    """An image's name, and why it could not be read."""

    name: str
    why: str


class Readable(Dataset[Any]):
    """Items of *dataset*; one that cannot be read is an :class:`Unread` in its place.

    Args:
        dataset: Raises InvalidInput for what cannot be read; says by its name, and by how it is normalised, what items
            are.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(cast(Sized, self.dataset))

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except InvalidInput as error:
            return Unread(item_name(self.dataset, index), " ".join(str(error).split()))


class ReadTogether:
    """Collates what could be read by *together*, into (images, targets, unread, indices).

    Args:
        together: Collates items (image, target, index).
        channels: Of an image, for a batch of none.
    """

    def __init__(self, together: Any, channels: int) -> None:
        self.together, self.channels = together, channels

    def __call__(self, items: Sequence[Any]) -> Any:
        """The batch; without the third part where all could be read."""
        unread = [tuple(item) for item in items if isinstance(item, Unread)]
        read = [item for item in items if not isinstance(item, Unread)]
        if not unread:
            return self.together(read)
        none = torch.empty(0, self.channels, 1, 1), torch.empty(0, 0), torch.empty(0, dtype=torch.long)
        images, targets, indices = self.together(read) if read else none
        return [images, targets, unread, indices]


class PicturesModule(PairsModule):
    """Shows images that nobody has labelled; those that cannot be read are left out, and told with their batch."""

    def _items(self, dataset: Any) -> Any:
        return Readable(super()._items(dataset))

    def _together(self, dataset: Any, *, training: bool) -> Any:
        return ReadTogether(super()._together(dataset, training=training), dataset.config.channels)


def unread_of(batch: Any) -> dict[str, str]:
    """Of a *batch* of :class:`PicturesModule` the images that could not be read, and why.

    >>> unread_of([None, None, [("a.png", "it is empty")], None]), unread_of([None, None, None])
    ({'a.png': 'it is empty'}, {})
    """
    several = isinstance(batch, (list, tuple)) and len(batch) == 4
    return dict(batch[2]) if several and isinstance(batch[2], list) else {}
