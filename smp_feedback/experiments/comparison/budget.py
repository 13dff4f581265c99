"""What each model of a comparison is given: optimiser steps, and what they are worth in passes and multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch

from smp_feedback.experiments.comparison.bases import cost_of, counts_looks, deeper
from smp_feedback.experiments.comparison.compute import macs_a_step, passes_a_step
from smp_feedback.experiments.comparison.results import FEEDBACK
from smp_feedback.experiments.comparison.settings import ComparisonSettings
from smp_feedback.experiments.cost import multiply_adds
from smp_feedback.experiments.look_cost import counted_once
from smp_feedback.experiments.runs import facts

EQUAL = "equal-"  # how twins are called that get as much compute as the loop
DEEPER = "equal-inference"
LONGER = {"equal-inference-3x": 3}
"""Twins of so many times the loop's training."""


def steps_of(settings: ComparisonSettings, model: str) -> int:
    """Optimiser steps of *model*.

    ``equal-compute`` has as many as the loop's training buys, ``equal-inference`` as many of its own dearer ones, and
    ``equal-inference-3x`` three times those; each rounded up. At ``input``, and wherever looks share next to nothing,
    that is counted in forward passes, a look being one and a pass of a deeper model ``inference_looks``; else in
    multiply-adds, what lies before the place once a call. See :func:`.look_cost.counts_passes`.

    Raises:
        FeedbackError: If multiply-adds are counted, and data or model cannot be had.
    """
    if model == "equal-compute":
        return math.ceil(_bought(settings))
    if model.startswith(DEEPER):
        return math.ceil(_bought(settings) / _worth(settings, model)) * LONGER.get(model, 1)
    return settings.train_steps


def passes_of(settings: ComparisonSettings, model: str) -> int:
    """Forward passes of the base that training *model* is worth, each with its backward pass.

    Raises:
        FeedbackError: As :func:`steps_of`.
    """
    if model == FEEDBACK:
        return math.ceil(_bought(settings))
    return math.ceil(steps_of(settings, model) * _worth(settings, model))


def training_macs(settings: ComparisonSettings, model: str, macs: int) -> float:
    """Multiply-adds of the forward passes in training *model*, for one image of each batch.

    Of the loop as :func:`.compute.macs_a_step` counts them; of any other model its steps times *macs*, what it takes
    for an image.
    """
    if model == FEEDBACK:
        return float(settings.train_steps * macs_a_step(cost_of(settings), settings.unrolling))
    return float(steps_of(settings, model) * macs)


def trained_otherwise(settings: ComparisonSettings, model: str, kept: Mapping[str, Any]) -> str:
    """Why a *kept* run of *model* is not what training it now would give; empty if it is.

    An older version counted every look as a whole forward pass, at any place; and what a look costs may change with
    the libraries. Twins of another compute than today's must not stand beside today's.
    """
    if not model.startswith(EQUAL):
        return ""
    steps = steps_of(settings, model)
    if kept.get("steps") != steps:
        return f"it was trained for {kept.get('steps')} steps, and would be for {steps} now"
    if not model.startswith(DEEPER) or counts_looks(settings):
        return ""
    macs = _deeper_macs(settings)
    same = kept.get("macs") == macs
    return "" if same else f"it has {kept.get('macs')} multiply-adds for an image, and would have {macs} now"


def _bought(settings: ComparisonSettings) -> Fraction:
    """What the loop's training is worth, in passes of the base."""
    if counts_looks(settings):
        return Fraction(math.ceil(settings.train_steps * passes_a_step(settings.unrolling)))
    cost = cost_of(settings)
    return settings.train_steps * macs_a_step(cost, settings.unrolling) / cost.plain


def _worth(settings: ComparisonSettings, model: str) -> Fraction:
    """What a pass of *model* is worth, in passes of the base."""
    if not model.startswith(DEEPER):
        return Fraction(1)
    if counts_looks(settings):
        return Fraction(settings.twin_looks)
    return Fraction(_deeper_macs(settings), cost_of(settings).plain)


def _deeper_macs(settings: ComparisonSettings) -> int:
    """Multiply-adds for an image of the deeper twin."""

    def count() -> int:
        about = facts(settings)
        with torch.random.fork_rng(devices=[]):
            twin = deeper(settings, len(about.classes), about.image[0])
        return multiply_adds(twin, torch.zeros(1, *about.image))

    return counted_once(["deeper", settings.to_dict()], count)
