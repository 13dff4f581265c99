"""One update of the score loop, and which images still take it: the mathematics, without a model.

*Image Segmentation by Iterative Inference from Conditional Score Estimation* (arXiv 1705.07450, section 3): a
denoising autoencoder's ``r(y) - y`` estimates the score, the gradient of the log-density, up to a factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from smp_feedback.loops.unroll import Turned

Reconstruct = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""``(y, conditions) -> r(y, c)``, probabilities on y's grid."""


class Update(NamedTuple):
    """What an update says of itself.

    Attributes:
        before: y before it (B, K, H, W).
        score: r(y, c) - y, zero for an image that has stopped.
        norm: The score's norm over classes, mean over pixels (B,), without gradient; NaN for an image that has stopped.
        logits: The base's own logits, where nothing was updated.
    """

    before: Tensor
    score: Tensor
    norm: Tensor
    logits: Tensor | None = None


def update(y: Tensor, reconstruction: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """``y + step * (r - y)``, clipped to [0, 1], and the score ``r - y``.

    Args:
        y: Prediction (B, K, H, W).
        reconstruction: r(y, c), same shape.
        step: Step size.

    >>> y, score = update(torch.tensor([0.2, 0.8]), torch.tensor([1.0, 0.0]), step=0.5)
    >>> y, score
    (tensor([0.6000, 0.4000]), tensor([ 0.8000, -0.8000]))
    """
    score = reconstruction - y
    return torch.add(y, score, alpha=step).clamp(0, 1), score


def norm_of(score: Tensor) -> Tensor:
    """The mean over pixels of the norm over classes (B,), without gradient.

    >>> norm_of(torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]]))
    tensor([2.5000])
    """
    norm: Tensor = torch.linalg.vector_norm(score.detach(), dim=1).mean((1, 2))
    return norm


@dataclass
class Refinement:
    """One turn as a function of y alone, apart from which images have stopped: that is kept by step.

    Run again for the backward pass, a step finds the images that still moved when it ran first.

    Attributes:
        reconstruct: The autoencoder, and its softmax.
        conditions: What it is conditioned on, each (B, ...).
        step: Step size.
        tolerance: An image whose norm falls below takes that update, and no more; None never stops.
        leaves_out: Whether images that have stopped are left out of the work, which asks which they are; otherwise
            they are masked.
    """

    reconstruct: Reconstruct
    conditions: Sequence[Tensor]
    step: float
    tolerance: float | None = None
    leaves_out: bool = False
    settled: bool = False  # every step is given, so that a trajectory has one length on every device
    moving: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """y_t -> y_{t+1}."""
        assert state is not None
        if self.tolerance is None or t == 0:
            y, score = self._updated(state, self.conditions)
            norm = norm_of(score)
        elif self.leaves_out:
            y, score, norm = self._some(state, self.moving[t].nonzero().flatten())
        else:
            y, score, norm = self._masked(state, self.moving[t])
        if self.tolerance is not None:
            self.moving[t + 1] = norm >= self.tolerance  # which NaN is not: what has stopped stays so
        return Turned(y, None, Update(state, score, norm))

    def _updated(self, y: Tensor, conditions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return update(y, self.reconstruct(y, conditions), self.step)

    def _masked(self, state: Tensor, moves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, score = self._updated(state, self.conditions)
        there = moves[:, None, None, None]
        return (
            torch.where(there, y, state),
            torch.where(there, score, torch.zeros_like(score)),
            torch.where(moves, norm_of(score), torch.nan),
        )

    def _some(self, state: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        zero, nan = torch.zeros_like(state), state.new_full((len(state),), torch.nan)
        if not len(rows):
            return state, zero, nan
        y, score = self._updated(state[rows], [x[rows] for x in self.conditions])
        return (state.index_copy(0, rows, y), zero.index_copy(0, rows, score), nan.index_copy(0, rows, norm_of(score)))
