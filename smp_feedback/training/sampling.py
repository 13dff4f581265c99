"""The order of images and all that is drawn for them: functions of seed, epoch and place, of nothing that went before.

So a run that was killed goes on as if it had not been, however many processes load its data.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler, get_worker_info

from smp_feedback.data.batch import image_of, target_of
from smp_feedback.data.items import item_name
from smp_feedback.errors import FeedbackError, InvalidInput, one_line

ORDER, ITEM, STEP, LOOKS, MASKS = range(5)  # what the random numbers are for: no two purposes share any


class ItemFailed(InvalidInput):
    """An item that its dataset could not give: which it is, and why."""

    of_stranger = True


class Draw(NamedTuple):
    """One item of one epoch; what the sampler hands to the dataset, and so to every worker."""

    epoch: int
    item: int


class Shuffled(DistributedSampler[Any]):
    """A permutation for each epoch, from (seed, epoch) alone; may begin in the middle of an epoch.

    A ``DistributedSampler``, so Lightning tells it the epoch and leaves it in its place: together the processes
    see in each step what one process would.

    Args:
        count: Items to permute.
        seed: Another seed, another order.
        replicas: Processes.
        rank: Which of them this is.
        epoch: Where to begin.
        skip: How many of this process's items of that first epoch are over.

    >>> [draw.item for draw in Shuffled(4, seed=0)] == [draw.item for draw in Shuffled(4, seed=0)]
    True
    >>> list(Shuffled(4, seed=0))[3:] == list(Shuffled(4, seed=0, skip=3))
    True
    """

    def __init__(
        self, count: int, seed: int, *, replicas: int = 1, rank: int = 0, epoch: int = 0, skip: int = 0
    ) -> None:
        super().__init__(cast("Dataset[Any]", range(count)), replicas, rank, seed=seed, drop_last=True)
        self.count, self.epoch, self.skip = count, epoch, skip

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of *epoch*, unless it has begun."""
        if epoch != self.epoch:
            self.epoch, self.skip = epoch, 0

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(derived(ORDER, self.seed, self.epoch))
        mine = torch.randperm(self.count, generator=generator)[self.rank :: self.num_replicas].tolist()
        return iter([Draw(self.epoch, index) for index in mine[self.skip : len(self)]])

    def __len__(self) -> int:
        return self.count // self.num_replicas


class Numbered(Dataset[tuple[Any, ...]]):
    """Items (image, target, index); what an item draws from torch, NumPy or Python is that of (seed, epoch, index).

    Args:
        dataset: Map-style, items (image, target), or dictionaries of ``image`` and ``mask``, ``label`` or ``target``.
        seed: Another seed, other draws.
        parts: What an item has: 2; 3 of (distorted, clean, target), say.

    Raises:
        ItemFailed: On access, naming the item, if the dataset raises what is not ours.
    """

    def __init__(self, dataset: Any, seed: int, parts: int = 2) -> None:
        self.dataset, self.seed, self.parts = dataset, seed, parts

    def __len__(self) -> int:
        return len(cast(Sized, self.dataset))

    def __getitem__(self, key: Draw | int) -> tuple[Any, ...]:
        epoch, index = key if isinstance(key, Draw) else (0, key)
        with drawing(derived(ITEM, self.seed, epoch, index)):
            item = self._item(index)[: self.parts]
        return *item, index

    def _item(self, index: int) -> tuple[Any, ...]:
        try:
            item = self.dataset[index]
            return (image_of(item), target_of(item)) if isinstance(item, Mapping) else cast("tuple[Any, ...]", item)
        except FeedbackError as error:
            if (name := item_name(self.dataset, index)) not in str(error):
                error.add_note(f"(Item: {name}.)")
            raise
        except Exception as error:
            if isinstance(error, MemoryError) or "out of memory" in str(error):
                raise
            raise ItemFailed(f"{item_name(self.dataset, index)}: {one_line(error)}") from error


def derived(purpose: int, *place: int) -> int:
    """A seed of 64 bits that belongs to *purpose* and *place*, such as (seed, epoch)."""
    return int(np.random.SeedSequence(place, spawn_key=(purpose,)).generate_state(1, np.uint64)[0])


def seed_all(seed: int) -> None:
    """Seed torch (every device), NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Inside, everybody draws from *seed*; outside, nobody notices."""
    if get_worker_info() is not None:  # a worker has nobody to disturb
        seed_all(seed)
        yield
        return
    before = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before[0])
            random.setstate(before[1])
