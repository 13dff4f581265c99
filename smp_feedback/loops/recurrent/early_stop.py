"""Stopping early, image by image: what is done, by any rule, is left out of the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from smp_feedback.loops.steps import relative_change
from smp_feedback.loops.unroll import Turn, Turned


class StoppingRule(Protocol):
    """When an image of a batch is done."""

    def __call__(self, old: Tensor | None, new: Tensor) -> Tensor:
        """Which of the images still at work go on (b,): their states before, None for none yet, and after a look."""
        ...

    def keep(self, going: Tensor) -> None:
        """From now on there are these images alone, by their places among those before."""
        ...


class ComesToRest:
    """An image is done when its state moves by less than *tolerance*, a part of its norm."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance

    def __call__(self, old: Tensor | None, new: Tensor) -> Tensor:
        """See :func:`relative_change`."""
        return relative_change(old, new) >= self.tolerance

    def keep(self, going: Tensor) -> None:
        """It remembers nothing."""


class AnswersAlike:
    """An image is done when its labels (b, ...) have been the same for *looks* looks in succession."""

    def __init__(self, labels: Callable[[Tensor], Tensor], looks: int) -> None:
        self.labels, self.looks = labels, looks
        self.last: Tensor | None = None

    @torch.no_grad()
    def __call__(self, old: Tensor | None, new: Tensor) -> Tensor:
        """Count the looks that said the same."""
        labels = self.labels(new)[:, None].flatten(1)  # of a classifier (b, 1); a batch may be empty
        if self.last is None:
            self.alike = torch.ones(len(labels), dtype=torch.long, device=labels.device)
        else:
            self.alike = torch.where((labels == self.last).all(1), self.alike + 1, 1)
        self.last = labels
        return self.alike < self.looks

    def keep(self, going: Tensor) -> None:
        """Remember those alone."""
        self.last, self.alike = cast(Tensor, self.last)[going], self.alike[going]


class Settling:
    """A turn that leaves out the images that are done by any of *rules*, one by one.

    Asks the device which images go on, once a step: used only where there is a rule.

    Args:
        make: The turn of the images at these places of the batch.
        places: All places, 0 ... B - 1 (B,), on the images' device.
        rules: When an image is done.
    """

    def __init__(self, make: Callable[[Tensor], Turn], places: Tensor, rules: Sequence[StoppingRule]) -> None:
        self.make, self.rules, self.total = make, rules, len(places)
        self.turn, self.active = make(places), places
        self.features: Tensor | None = None
        self.looks, self.settled = torch.zeros_like(places), False

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """Turn the images that are not done; the others keep their state."""
        old = state if state is None or self._all_at_work() else state[self.active]
        new = self.turn(old, t)
        going = torch.stack([rule(old, new.state) for rule in self.rules]).all(0)
        self.features = self._put(self.features, new.features)
        self.looks = self.looks.index_add(0, self.active, torch.ones_like(self.active))
        turned = Turned(cast(Tensor, self._put(state, new.state)), self.features, looks=self.looks)
        self._keep(going.nonzero().flatten())
        return turned

    def _all_at_work(self) -> bool:
        return len(self.active) == self.total

    def _put(self, whole: Tensor | None, rows: Tensor | None) -> Tensor | None:
        """*rows* in their places among all images."""
        if whole is None or rows is None or self._all_at_work():
            return rows
        return whole.index_copy(0, self.active, rows)

    def _keep(self, going: Tensor) -> None:
        self.settled = not len(going)
        if len(going) == len(self.active):
            return
        self.active = self.active[going]
        if not self.settled:
            self.turn = self.make(self.active)
            for rule in self.rules:
                rule.keep(going)
