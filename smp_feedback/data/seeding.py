"""Streams of random numbers: one per item, and apart for train, val, test and for what is done to an item."""

from __future__ import annotations

import numpy as np
import torch

from smp_feedback.data.items import checked_int
from smp_feedback.errors import InvalidValue

SPLITS = ("train", "val", "test")
SCENE, NOISE = 0, 1  # what an item shows, and the noise upon it
CORRUPTION, CHOICE = 6, 7  # the first free keys after those of the splits


def scene_generator(seed: int, index: int, split: str = "train") -> np.random.Generator:
    """Where item *index* of *split* is drawn from.

    ``val`` and ``test`` have one stream each, whatever the seed: models of every seed are scored on the same images.
    No two splits share a stream, so none of their items is drawn twice.

    >>> draw = lambda *which: scene_generator(*which).random()
    >>> draw(0, 5, "test") == draw(3, 5, "test"), draw(0, 5, "train") == draw(3, 5, "train")
    (True, False)
    """
    return np.random.default_rng(_item(seed, index, split, SCENE))


def noise_generator(seed: int, index: int, split: str = "train") -> torch.Generator:
    """Where the noise of item *index* is drawn from; independent of what the item shows."""
    return _torch(_item(seed, index, split, NOISE))


def corruption_generator(seed: int, index: int) -> torch.Generator:
    """Where the corruption of item *index* is drawn from; independent of the item and of its noise."""
    return _torch(np.random.SeedSequence([seed, index], spawn_key=(CORRUPTION,)))


def choose(total: int, count: int | None, seed: int, split: str) -> list[int]:
    """Which *count* of *total* items are used: of ``train`` by seed, of every other split always the same.

    Nested: the items of a smaller *count* are among those of a larger one.

    Args:
        total: How many there are.
        count: How many are wanted; None is all, in order.
        seed: Another seed, other training items.
        split: ``train``, or any other name.

    Raises:
        InvalidType, InvalidValue: If *count* or *seed* is no whole number, or there are fewer than *count*.

    >>> set(choose(100, 3, 0, "train")) < set(choose(100, 5, 0, "train"))
    True
    >>> choose(100, 5, 0, "val") == choose(100, 5, 7, "val")
    True
    """
    check_choice_of_items(count, seed)
    if count is None:
        return list(range(total))
    if count > total:
        raise InvalidValue(f"count={count}: expected at most the {total} items that {split!r} has.")
    sequence = np.random.SeedSequence([seed if split == "train" else 0], spawn_key=(CHOICE,))
    return [int(i) for i in np.random.default_rng(sequence).permutation(total)[:count]]


def check_choice_of_items(count: int | None, seed: int) -> None:
    """What :func:`choose` is told can be, whatever the total: asked before anything is listed or downloaded.

    Raises:
        InvalidType, InvalidValue: If it cannot.
    """
    checked_int("seed", seed, least=0)
    if count is not None:
        checked_int("count", count, least=1)


def _item(seed: int, index: int, split: str, part: int) -> np.random.SeedSequence:
    key = 2 * SPLITS.index(split) + part
    own = seed if split == "train" else 0
    return np.random.SeedSequence([own, index], spawn_key=(key,) if key else ())


def _torch(sequence: np.random.SeedSequence) -> torch.Generator:
    return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
