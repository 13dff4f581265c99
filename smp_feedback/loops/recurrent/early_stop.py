"""Stopping early, image by image: what has come to rest is left out of the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from smp_feedback.loops.base import relative_change
from smp_feedback.loops.unroll import Turn, Turned
from smp_feedback.surgery.step_context import Once


class Settling:
    """A turn that leaves out the images whose state has come to rest, one by one.

    Asks the device which images moved, once a step: used only where a tolerance was set.
    """

    def __init__(self, make: Callable[[Tensor, Once], Turn], image: Tensor, once: Once, tolerance: float) -> None:
        self.make, self.image, self.once, self.tolerance = make, image, once, tolerance
        self.turn, self.active = make(image, once), torch.arange(image.shape[0], device=image.device)
        self.features: Tensor | None = None
        self.settled = False

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """Turn the images that still move; the others keep their state."""
        old = state if state is None or self._all_move() else state[self.active]
        new = self.turn(old, t)
        moving = relative_change(old, new.state) >= self.tolerance
        self.features = self._put(self.features, new.features)
        turned = Turned(cast(Tensor, self._put(state, new.state)), self.features)
        self._keep(moving)
        return turned

    def _all_move(self) -> bool:
        return len(self.active) == len(self.image)

    def _put(self, whole: Tensor | None, rows: Tensor | None) -> Tensor | None:
        """*rows* in their places among all images."""
        if whole is None or rows is None or self._all_move():
            return rows
        return whole.index_copy(0, self.active, rows)

    def _keep(self, moving: Tensor) -> None:
        kept = int(moving.sum())
        if kept < len(self.active):
            self.active = self.active[moving]
            self.settled = kept == 0
            if kept:
                heard, stages = (tuple(x[self.active] for x in group) for group in (self.once.heard, self.once.stages))
                self.turn = self.make(self.image[self.active], Once(heard, stages))
