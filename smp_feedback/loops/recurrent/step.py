"""One turn of the recurrent loop as a function of the state alone: the mathematics, without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from smp_feedback.dynamics import Rule
from smp_feedback.loops.unroll import Turned
from smp_feedback.ops.maps import as_precise_as, resize, size_of
from smp_feedback.ops.normalise import Normalise


@dataclass
class Recurrence:
    """One turn as a function of the state alone; knows no model, so the mathematics is testable without one.

    Attributes:
        body: ``(u, t) -> (y, features)``: the base model without its head, and the readout.
        project: ``h -> u``; called with None before there is a state.
        normalise: ``y -> e``.
        rule: ``(h, e, t) -> h'``.
        from_output: Whether the first state is y itself.
        start: h_0, the same everywhere.
        width: Channels of the state, where it is more maps than the one that y moves; 0 is those of y.
    """

    body: Callable[[Tensor, int], tuple[Tensor, Tensor | None]]
    project: Callable[[Tensor | None], Tensor]
    normalise: Normalise
    rule: Rule
    from_output: bool = False
    start: float = 0.0
    width: int = 0
    settled: bool = False

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """h_t -> h_{t+1}."""
        output, features = self.body(self.project(state), t)
        output = at_least_single(output)
        if t == 0 and self.from_output:
            return Turned(self._beside(output), features)
        with as_precise_as(output):
            error = self.normalise(output)
            del output  # its memory takes the new state
            shape = (error.shape[0], self.width or error.shape[1], *size_of(error))
            first = error.new_full((), self.start).expand(shape)  # without memory of its own
            before = first if state is None else resize(state, size_of(error))
            return Turned(self.rule(before, error, t), features)

    def _beside(self, output: Tensor) -> Tensor:
        """y as a first state, its other maps where a state starts."""
        more = self.width - output.shape[1]
        return F.pad(output, (0, 0, 0, 0, 0, more), value=self.start) if more > 0 else output


def at_least_single(x: Tensor) -> Tensor:
    """The state accumulates in float32 or better, whatever autocast made of the body's output."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
