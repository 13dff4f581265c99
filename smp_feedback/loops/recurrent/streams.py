"""Streams of one batch that began at different looks: each turns as it would alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from smp_feedback.loops.beginnings import Beginnings
from smp_feedback.loops.recurrent.step import Recurrence
from smp_feedback.loops.unroll import Turn, Turned
from smp_feedback.ops.maps import resize, size_of
from smp_feedback.surgery.step_context import Once


class Abreast:
    """A turn for all streams at once, where a first look differs from a later one in what it begins with alone.

    Args:
        turn: That of streams which go on.
        began: When each began.
        first: Their first states (B, S + K, h, w), where those are drawn; None is the loop's own start.
    """

    settled = False

    def __init__(self, turn: Recurrence, began: Beginnings, first: Tensor | None) -> None:
        self.turn, self.began, self.first = turn, began, first

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """Let what begins anew find a first state, and what is fed back of it."""
        assert state is not None
        fresh = self.began.at(t)
        if self.first is not None:
            first = resize(self.first.to(state.dtype), size_of(state))  # its own size is known to rounding alone
            return self.turn(torch.where(fresh, first, state), t)
        project = self.turn.project

        def fed_back(h: Tensor | None) -> Tensor:
            return torch.where(fresh, project(None), project(h))

        return replace(self.turn, project=fed_back)(state.masked_fill(fresh, self.turn.start), t)


class Apart:
    """A turn that takes streams of different ages apart, each age with the statistics of its own look.

    Args:
        make: The turn of the streams at these places that are of this age, and their state if it is their first.
        began: When each began; asks the device, once.
        rows: From which age on all are alike.
    """

    settled = False

    def __init__(
        self, make: Callable[[Tensor | None, int], tuple[Turn, Tensor | None]], began: Beginnings, rows: int
    ) -> None:
        self.make, self.began, self.rows = make, began, rows

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """Turn the streams of each age, and put them back in their places."""
        assert state is not None
        ages = self.began.by_row(t, self.rows)
        if len(ages) == 1:
            (age,) = ages
            return self._turned(None, state, age)
        groups = [torch.tensor(places, device=state.device) for places in ages.values()]
        parts = [self._turned(places, state[places], age) for places, age in zip(groups, ages, strict=True)]
        order = torch.cat(groups).argsort()
        return joined(parts, order)

    def _turned(self, places: Tensor | None, state: Tensor, age: int) -> Turned:
        turn, first = self.make(places, age)
        return turn(state if age else first, age)


def joined(parts: list[Turned], order: Tensor) -> Turned:
    """Turns of parts of a batch as one of all, in *order*."""
    return cast(Turned, _joined(parts, order))


def _joined(parts: Sequence[Any], order: Tensor) -> Any:
    """The same tensors of each part as one; what is None of one is None of all."""
    if isinstance(parts[0], Tensor):
        return torch.cat([*parts])[order]
    if parts[0] is None:
        return None
    return type(parts[0])(*(_joined(column, order) for column in zip(*parts, strict=True)))


def rows_of(image: Tensor, once: Once, places: Tensor | None) -> tuple[Tensor, Once]:
    """The images at *places*, and what was computed once of them; None is all."""
    if places is None:
        return image, once
    heard, stages = (tuple(x[places] for x in group) for group in (once.heard, once.stages))
    return image[places], Once(heard, stages, kept=tuple(None if x is None else x[places] for x in once.kept))
