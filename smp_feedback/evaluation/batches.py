"""Any pairs or triplets batch by batch, in order; items that make no batch are named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, default_collate

from smp_feedback.data.files import by
from smp_feedback.data.items import item_name
from smp_feedback.errors import InvalidInput


def batches(data: Any, batch_size: int, workers: int = 0) -> Iterator[Any]:
    """*data* batch by batch, in order; without a generator of its own, a loader would move everybody's.

    Raises:
        InvalidInput: If two items of a batch are of several sizes, naming both, or are nothing that makes a batch.

    >>> [len(images) for images, _ in batches([(torch.zeros(3, 4, 4), 0)] * 3, 2)]
    [2, 1]
    """
    yield from batches_of(data, BatchSampler(range(len(data)), batch_size, drop_last=False), workers)


def batches_of(data: Any, places: Iterable[list[int]], workers: int = 0) -> Iterator[Any]:
    """The items of *data* at *places*, a batch for each of those; see `batches`.

    >>> [images.tolist() for images, _ in batches_of([(torch.tensor(i), 0) for i in range(4)], [[3, 0], [2]])]
    [[3, 0], [2]]
    """
    how: dict[str, Any] = {"num_workers": workers, "generator": torch.Generator(), "collate_fn": Alike(data)}
    for batch in DataLoader(Placed(data), batch_sampler=places, **how):
        if isinstance(batch, InvalidInput):  # raised here: what a worker raises comes with its traceback
            raise batch
        yield batch


class Placed(Dataset[tuple[int, Any]]):
    """The items of *data*, each with its place."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.data[index]


class Alike:
    """Collates placed items of *data*, or gives the error that says why they make no batch."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __call__(self, placed: Sequence[tuple[int, Any]]) -> Any:
        """The batch."""
        first, shapes = placed[0][0], _shapes(placed[0][1])
        for place, item in placed[1:]:
            for one, other in zip(shapes, _shapes(item), strict=False):
                if one != other:
                    names = item_name(self.data, first), item_name(self.data, place)
                    return InvalidInput(
                        f"{names[0]} is {by(one)} and {names[1]} is {by(other)}, and a batch takes one size: give the "
                        "dataset a size, or batch_size=1."
                    )
        try:
            return default_collate([item for _, item in placed])
        except TypeError as error:  # of pictures, say
            return InvalidInput(f"{item_name(self.data, first)}: expected tensors, arrays or numbers. {error}")


def _shapes(item: Any) -> list[tuple[int, ...]]:
    parts = item.values() if isinstance(item, Mapping) else item if isinstance(item, (tuple, list)) else [item]
    return [tuple(part.shape) for part in parts if hasattr(part, "shape")]
