"""A run that goes on in another number of processes: what of its epoch is over, and what differs, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Grouping(NamedTuple):
    """How the images of one step are made up.

    >>> Grouping(2, 4).together, str(Grouping(2, 4)), str(Grouping(1, 8))
    (8, '2 processes x 4 images', '1 process x 8 images')
    """

    processes: int
    batch_size: int

    @property
    def together(self) -> int:
        """Images in a step of all processes."""
        return self.processes * self.batch_size

    def __str__(self) -> str:
        return f"{self.processes} process{'es' * (self.processes > 1)} x {self.batch_size} images"


def grouping_in(state: Mapping[str, int], now: Grouping) -> Grouping:
    """That of the run that *state* of a data module was taken from; *now*, where it does not say."""
    return Grouping(state.get("processes", now.processes), state.get("batch_size", now.batch_size))


def batches_over(batches: int, before: Grouping, now: Grouping, accumulated: int = 1) -> int:
    """How many batches of an epoch are over *now*, when *batches* were over *before*; whole optimiser steps.

    Images of a step that is not whole are seen again.

    >>> batches_over(5, Grouping(2, 4), Grouping(1, 4)), batches_over(5, Grouping(1, 4), Grouping(2, 4))
    (10, 2)
    """
    over = batches * before.together // now.together
    return over - over % accumulated


def difference(before: Grouping, now: Grouping) -> str:
    """What is another from here on, and what would keep it.

    >>> difference(Grouping(2, 4), Grouping(1, 8))
    'The run goes on with 1 process x 8 images, and had 2 processes x 4 images: each step sees the images that it would
    have seen, but BatchNorm sees those of one process alone, and dropout draws for each, so weights are not the same
    to the bit.'
    """
    said = f"The run goes on with {now}, and had {before}: "
    if before.together == now.together:
        return (
            f"{said}each step sees the images that it would have seen, but BatchNorm sees those of one process alone, "
            "and dropout draws for each, so weights are not the same to the bit."
        )
    more = "fewer" if now.together > before.together else "more"
    keeps, rest = divmod(before.together, now.processes)
    kept = "" if rest else f" batch_size={keeps} would keep them."
    return (
        f"{said}{now.together} images a step in all, not {before.together}, so an epoch has {more} steps, and other "
        f"images, in another order, make a step from here on; learning rates are as they were told.{kept}"
    )


def regroup(loops: dict[str, Any], batches: int) -> None:
    """Let Lightning's counters, *loops* of a checkpoint, say that so many *batches* of the epoch are over.

    Where a checkpoint is taken at the end of a batch, that one is not yet counted as completed, and stays so.

    >>> progress = {"current": {"ready": 2, "completed": 1}, "is_last_batch": False}
    >>> regroup({"fit_loop": {"epoch_loop.batch_progress": progress}}, 4)
    >>> progress["current"]
    {'ready': 4, 'completed': 3}
    """
    progress = loops["fit_loop"]["epoch_loop.batch_progress"]
    ready = progress["current"]["ready"]
    if ready:  # else it stands between two epochs
        progress["current"] = {name: max(0, count - ready + batches) for name, count in progress["current"].items()}
        progress["is_last_batch"] = False
