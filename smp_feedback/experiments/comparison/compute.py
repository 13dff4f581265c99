"""What a comparison's models cost, counted before they are trained: passes in training, and how deep a twin is."""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import mean
from typing import TYPE_CHECKING

from smp_feedback.experiments.comparison.results import FEEDBACK

if TYPE_CHECKING:
    from smp_feedback.experiments.comparison.settings import ComparisonSettings
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


def _of(unrolling: Unrolling, steps: int) -> Fraction:
    """The same for so many *steps*, without those before."""
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


def steps_of(settings: ComparisonSettings, model: str) -> int:
    """Optimiser steps of *model*.

    ``equal-compute`` has as many passes as the loop, and ``equal-inference`` as many looks' worth of them, a pass of it
    being worth ``inference_looks``; ``equal-inference-3x`` has three times as many.
    """
    if model == "equal-compute":
        return passes_of(settings, FEEDBACK)
    if model.startswith("equal-inference"):
        steps = math.ceil(passes_of(settings, FEEDBACK) / settings.twin_looks)
        return steps * (3 if model == "equal-inference-3x" else 1)
    return settings.train_steps


def passes_of(settings: ComparisonSettings, model: str) -> int:
    """Forward passes of the base in training *model*, each with its backward pass; of a deeper model, their worth."""
    if model == FEEDBACK:
        return math.ceil(settings.train_steps * passes_a_step(settings.unrolling))
    deeper = model.startswith("equal-inference")
    return steps_of(settings, model) * (settings.twin_looks if deeper else 1)
