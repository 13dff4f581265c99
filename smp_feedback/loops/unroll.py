"""The only ``for`` over time, and how gradients flow through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from smp_feedback.config import GradientFlow
from smp_feedback.look import Once, replaying


class Turned(NamedTuple):
    """What one turn gives: the new state, and the encoder's deepest features where a classifier reads them."""

    state: Tensor
    features: Tensor | None = None


class Turn(Protocol):
    """One turn of a loop: the state, None before there is one, and the step."""

    settled: bool
    """Whether nothing will change any more."""

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """h_t -> h_{t+1}."""
        ...


def unroll(turn: Turn, state: Tensor | None, *, steps: int, flow: GradientFlow) -> Iterator[tuple[int, Turned]]:
    """Turn *steps* times, lazily.

    Args:
        turn: The loop's body.
        state: The first state; None lets the first turn begin at zero.
        steps: Turns to take, T >= 1; fewer if the turn says that it has settled.
        flow: How gradients flow through time (DESIGN 2.4; last-k as truncated back-propagation through time).

    Yields:
        The step t from 0, and what it gave.
    """
    for t in range(steps):
        turned = _run(turn, state, t, steps, flow)
        state = turned.state
        yield t, turned
        if turn.settled:
            return


def _run(turn: Turn, state: Tensor | None, t: int, steps: int, flow: GradientFlow) -> Turned:
    if not torch.is_grad_enabled():
        return turn(state, t)
    if flow.steps is not None and t < steps - flow.steps:
        with torch.no_grad():
            return turn(state, t)
    if flow.detach and state is not None:
        state = state.detach()
    if flow.recompute and not torch.compiler.is_compiling():  # compiled, the partitioner decides what is kept
        turned: Turned = checkpoint(turn, state, t, use_reentrant=False, context_fn=_once_and_again)
        return turned
    return turn(state, t)


def _once_and_again() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), replaying()


def reusable(once: Once) -> Once:
    """*once*, through which several backward passes may go: each is carried on to what it was made from.

    A loss on every detached step frees what lies behind it; what all steps share must outlive the first.
    """
    return Once(*(tuple(_reusable(tensor) for tensor in group) for group in once))


def _reusable(tensor: Tensor) -> Tensor:
    if not tensor.requires_grad or torch.compiler.is_compiling():
        return tensor
    leaf = tensor.detach().requires_grad_()

    def carry_on(leaf: Tensor) -> None:
        gradient, leaf.grad = leaf.grad, None
        tensor.backward(gradient, retain_graph=True)  # type: ignore[no-untyped-call]

    leaf.register_post_accumulate_grad_hook(carry_on)  # type: ignore[no-untyped-call]
    return leaf
