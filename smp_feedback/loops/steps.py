"""One look, as who iterates sees it; what costs is computed when it is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from smp_feedback.loops.unroll import Turned
from smp_feedback.ops.maps import Size

Answer = Callable[[Turned, Size], tuple[Tensor, Tensor | None]]
"""Computes the logits for an image of this size, and the labels of a model that has some."""


@dataclass(frozen=True)
class Step:
    """One look, as :meth:`FeedbackModel.iterate` yields it; what costs is computed when it is asked for.

    Attributes:
        index: The step, from 0; of a call that goes on from another, from where that one ended.
        size: Height and width of the image.
    """

    index: int
    size: Size
    _turned: Turned
    _before: Tensor | None
    _answer: Answer

    @property
    def state(self) -> Tensor:
        """What the model knows now (B, S + K, h, w)."""
        return self._turned.state

    @functools.cached_property
    def _answers(self) -> tuple[Tensor, Tensor | None]:
        return self._answer(self._turned, self.size)

    @property
    def logits(self) -> Tensor:
        """The prediction (B, classes, H, W)."""
        return self._answers[0]

    @property
    def labels(self) -> Tensor | None:
        """The image labels (B, classes) of a model with ``aux_params``, else None."""
        return self._answers[1]

    @functools.cached_property
    def looks(self) -> Tensor:
        """How many looks each image has had (B,), int64: ``index + 1`` of one that has not stopped by itself."""
        looks = self._turned.looks
        if looks is not None:
            return looks
        return torch.full((len(self.state),), self.index + 1, device=self.state.device)

    @functools.cached_property
    def change(self) -> Tensor:
        """How far this step moved each image's state, see :func:`relative_change` (B,)."""
        return relative_change(self._before, self.state)

    def detach(self) -> Self:
        """The same look without what led to it: no gradient goes through it, and no graph is kept for one."""
        return replace(
            self, _turned=self._turned.detach(), _before=None if self._before is None else self._before.detach()
        )


def relative_change(old: Tensor | None, new: Tensor) -> Tensor:
    """``||new - old|| / ||new||`` per image (B,), dimensionless, without gradient; 0 at a fixed point.

    Args:
        old: State before (B, S, h, w); None is zero.
        new: State after, same shape.

    >>> relative_change(torch.ones(2, 1, 4, 4), torch.full((2, 1, 4, 4), 2.0))
    tensor([0.5000, 0.5000])
    """
    new = new.detach().flatten(1)
    moved = new if old is None else new - old.detach().flatten(1)
    floor = torch.finfo(new.dtype).tiny
    change: Tensor = moved.norm(dim=1) / new.norm(dim=1).clamp_min(floor)
    return change
