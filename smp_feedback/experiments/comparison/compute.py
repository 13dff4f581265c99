"""Training compute by arithmetic: how many looks a step has, how often what they share runs, how deep a twin is."""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import mean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smp_feedback.experiments.look_cost import LookCost
    from smp_feedback.training.unrolling import Unrolling

FREE = Fraction(1, 3)
"""A forward pass without a backward pass, which takes twice as long, beside one with it."""


def passes_a_step(unrolling: Unrolling) -> Fraction:
    """Looks in training for one optimiser step, each with its backward pass, on average over all that is drawn.

    A look without gradient counts a third of one with it: before those with it (``free_steps``), in front of the last
    ``grad_steps`` of the loop's config, or in the second part of a progressive loss, all of which is counted. A look
    behind the last that carries the loss is not taken.

    >>> from smp_feedback.training.unrolling import Unrolling
    >>> passes_a_step(Unrolling(usual=5)), passes_a_step(Unrolling(usual=5, steps=[8, 16], free_steps=[0, 6]))
    (Fraction(5, 1), Fraction(13, 1))
    """
    from smp_feedback.training.unrolling import span

    (low, high), free = unrolling.span, span("free_steps", unrolling.free_steps, least=0)
    return Fraction(mean(_of(unrolling, steps) for steps in range(low, high + 1))) + mean(map(Fraction, free)) * FREE


def calls_a_step(unrolling: Unrolling) -> Fraction:
    """Calls of the loop in one optimiser step, on average: how often what its looks share runs, with a backward pass.

    One; of a progressive loss a second one, where it does not begin at the first look.

    >>> from smp_feedback.training.unrolling import Unrolling
    >>> calls_a_step(Unrolling(usual=5, free_steps=9)), calls_a_step(Unrolling(usual=4, progressive=0.5))
    (Fraction(1, 1), Fraction(7, 4))
    """
    if not unrolling.progressive or unrolling.progressive == 1:
        return Fraction(1)
    low, high = unrolling.span
    return 1 + Fraction(mean(Fraction(steps - 1, steps) for steps in range(low, high + 1)))


def answers_a_step(unrolling: Unrolling) -> Fraction:
    """Looks in one optimiser step that carry a loss, one in each call left out; as drawn on average.

    >>> from smp_feedback.training.unrolling import Unrolling
    >>> answers_a_step(Unrolling(usual=5)), answers_a_step(Unrolling(usual=5, supervise="mean"))
    (Fraction(0, 1), Fraction(4, 1))
    """
    from smp_feedback.training.loss_weights import step_weights

    if unrolling.progressive == 1:
        return Fraction(0)
    low, high = unrolling.span
    judged = [sum(weight > 0 for weight in step_weights(unrolling.supervise, n)) for n in range(low, high + 1)]
    return Fraction(mean(Fraction(count - 1) for count in judged))


def macs_a_step(cost: LookCost, unrolling: Unrolling) -> Fraction:
    """Multiply-adds of the forward passes in one optimiser step of the loop, for each image of its batch.

    Those without a backward pass count a third, as everywhere here: a ratio of two such numbers is one of compute.

    >>> from smp_feedback.experiments.look_cost import LookCost
    >>> from smp_feedback.training.unrolling import Unrolling
    >>> macs_a_step(LookCost(plain=100, once=60, look=40), Unrolling(usual=5))
    Fraction(260, 1)
    """
    shared, answers = calls_a_step(unrolling) * cost.once, answers_a_step(unrolling) * cost.answer
    return shared + passes_a_step(unrolling) * cost.look + answers


def _of(unrolling: Unrolling, steps: int) -> Fraction:
    """The looks for so many *steps*, without those before."""
    looks = range(1, steps + 1) if unrolling.supervise == "drawn" else [steps]
    every = mean(_carried(unrolling, count) for count in looks)
    alpha = unrolling.progressive
    if not alpha:
        return every
    pairs = [(n, [k + n * FREE for k in range(1, steps - n + 1)]) for n in range(steps)]
    later = mean(Fraction(0) if n == 0 and alpha < 1 else mean(counts) for n, counts in pairs)
    return later + (every if alpha < 1 else 0)


def _carried(unrolling: Unrolling, steps: int) -> Fraction:
    """So many looks, of which the last carry gradient."""
    carried = min(steps, unrolling.carrying or steps)
    return carried + (steps - carried) * FREE


def depth_for(target: int, one: int, two: int) -> int:
    """How many layers cost *target* or more, where one costs *one*, two cost *two*, and each further one the same.

    >>> depth_for(100, 30, 40), depth_for(101, 30, 40), depth_for(20, 30, 40)
    (8, 9, 1)
    """
    return 1 + max(0, math.ceil(Fraction(target - one, two - one)))
