"""The only ``for`` over time, and how gradients flow through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from smp_feedback.config.base import GradientFlow
from smp_feedback.surgery.step_context import recomputing

Share = Callable[[Sequence[Tensor]], list[Tensor]]
"""What detached steps are handed in place of the tensors that all of them share."""


class Turned(NamedTuple):
    """What one turn gives.

    Attributes:
        state: The new state.
        features: The encoder's deepest features, where a classifier reads them.
        more: What else this loop's turns say, a named tuple of tensors and None.
        looks: How many looks each image has had (B,), where they stop by themselves.
    """

    state: Tensor
    features: Tensor | None = None
    more: Any = None
    looks: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Turned:
        """The same of other tensors: what *change* makes of each."""
        return cast(Turned, _mapped(self, change))


def _mapped(x: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(x, tuple):
        return type(x)(*(_mapped(part, change) for part in x))
    return None if x is None else change(x)


class Turn(Protocol):
    """One turn of a loop: the state, None before there is one, and the step. A function will do.

    One with an attribute ``settled`` ends the loop when that is true: nothing will change any more.
    """

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """h_t -> h_{t+1}."""
        ...


def unroll(
    turn: Turn, state: Tensor | None, *, steps: int, flow: GradientFlow, start: int = 0
) -> Iterator[tuple[int, Turned]]:
    """Turn *steps* times, lazily.

    Args:
        turn: The loop's body, a function of the state and the step alone.
        state: The first state; None lets the first turn begin at its own.
        steps: Turns to take, T >= 1; fewer if the turn says that it has settled.
        flow: How gradients flow through time (the last k steps: truncated back-propagation through time).
        start: The first step's number: how many were taken before.

    Yields:
        The step t from *start*, and what it gave.

    >>> flow = GradientFlow(detach=True)
    >>> weight = torch.ones(1, requires_grad=True)
    >>> def turn(state, t):
    ...     return Turned(weight if state is None else state + weight)
    >>> [(t, turned.state.item()) for t, turned in unroll(turn, None, steps=3, flow=flow)]
    [(0, 1.0), (1, 2.0), (2, 3.0)]
    """
    for t in range(start, start + steps):
        turned = _run(turn, state, t, start + steps, flow)
        state = turned.state
        yield t, turned
        if getattr(turn, "settled", False):
            return


def _run(turn: Turn, state: Tensor | None, t: int, end: int, flow: GradientFlow) -> Turned:
    if not torch.is_grad_enabled():
        return turn(state, t)
    if flow.steps is not None and t < end - flow.steps:
        with torch.no_grad():
            return turn(state, t)
    if flow.detach and state is not None:
        state = state.detach()
    if flow.recompute and not torch.compiler.is_compiling():  # compiled, the partitioner decides what is kept
        turned: Turned = checkpoint(turn, state, t, use_reentrant=False, context_fn=_once_and_again)
        return turned
    return turn(state, t)


def _once_and_again() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), recomputing()


def reusable(tensors: Sequence[Tensor]) -> list[Tensor]:
    """*tensors*, through which several backward passes may go: each is carried on to what they were made from.

    A loss on every detached step frees what lies behind it; what all steps share must outlive the first. Each pass
    is carried on for all of them together, so it reaches a parameter behind several once, as
    ``DistributedDataParallel`` needs.
    """
    made = [x for x in tensors if x.grad_fn is not None]
    if not made or torch.compiler.is_compiling():
        return list(tensors)
    shared = iter(cast("tuple[Tensor, ...]", _Shared.apply(made, made[0].new_empty(()).requires_grad_())))
    return [x if x.grad_fn is None else next(shared) for x in tensors]


class _Shared(torch.autograd.Function):
    """The same values, without what they were made from; a number that needs gradient calls for the backward pass."""

    @staticmethod
    def forward(ctx: Any, made: list[Tensor], anchor: Tensor) -> tuple[Tensor, ...]:
        ctx.made = made
        ctx.set_materialize_grads(False)
        return tuple(x.detach() for x in made)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, None]:
        reached = [(x, g) for x, g in zip(ctx.made, gradients, strict=True) if g is not None]
        torch.autograd.backward([x for x, _ in reached], [g for _, g in reached], retain_graph=True)
        return None, None
