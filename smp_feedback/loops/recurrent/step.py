"""One turn of the recurrent loop as a function of the state alone: the mathematics, without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

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
    """

    body: Callable[[Tensor, int], tuple[Tensor, Tensor | None]]
    project: Callable[[Tensor | None], Tensor]
    normalise: Normalise
    rule: Rule
    from_output: bool = False
    start: float = 0.0
    settled: bool = False

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """h_t -> h_{t+1}."""
        output, features = self.body(self.project(state), t)
        output = at_least_single(output)
        if t == 0 and self.from_output:
            return Turned(output, features)
        with as_precise_as(output):
            error = self.normalise(output)
            del output  # its memory takes the new state
            first = error.new_full((), self.start).expand_as(error)  # without memory of its own
            before = first if state is None else resize(state, size_of(error))
            return Turned(self.rule(before, error, t), features)


def at_least_single(x: Tensor) -> Tensor:
    """The state accumulates in float32 or better, whatever autocast made of the body's output."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
