"""What each model was given beside the loop: steps and multiply-adds, and by how much a twin's are others."""

from __future__ import annotations

import math
from collections.abc import Iterator

from smp_feedback.experiments.comparison.results import FEEDBACK, Comparison, average
from smp_feedback.experiments.comparison.sizes import short
from smp_feedback.experiments.table import Table, number

EQUAL = {"equal-compute": 1, "equal-inference": 1, "equal-inference-3x": 3}
"""Twins, and how many times the loop's training they are to have."""

NEAR = 0.05
"""A twin whose training is within this of what it is to be is not spoken of."""


def given(found: Comparison) -> Table:
    """Of each model its steps, and its multiply-adds for an image and in training, beside those of feedback."""
    rows = []
    for model in found.models:
        runs = [run for run in found.runs if run.model == model]
        image, training = average(run.macs for run in runs), average(run.training_macs for run in runs)
        if math.isfinite(image):
            steps = number(average(run.steps for run in runs), ",.0f")
            to = (_times(found, model, trained=trained) for trained in (False, True))
            rows.append((model, steps, short(image), next(to), short(training), next(to)))
    columns = ("model", "optimiser steps", "MACs an image", "to feedback's", "MACs in training", "to feedback's there")
    note = (
        "MACs are multiply-adds of convolutions, linear layers and attention; of feedback after as many looks as it "
        "has unless told otherwise. In training they are those of the forward passes, for one image of each batch; a "
        "look without a backward pass counts a third, and what lies before the place where the feedback enters is "
        "counted once a call."
    )
    return Table("What each model was given", columns, tuple(rows), note=note)


def uneven(found: Comparison) -> Iterator[str]:
    """A sentence for each twin that had another training compute than it is to have."""
    for model, times in EQUAL.items():
        share = _share(found, model, trained=True)
        if math.isfinite(share) and abs(share / times - 1) > NEAR:
            more = "" if times == 1 else f", and not {times} times"
            yield f"{model} had {share:.2f} times the multiply-adds of feedback in training{more}."


def _times(found: Comparison, model: str, *, trained: bool) -> str:
    return "" if model == FEEDBACK else number(_share(found, model, trained=trained), ".2f")


def _share(found: Comparison, model: str, *, trained: bool) -> float:
    """The multiply-adds of *model* over those of feedback; NaN where either is not known."""
    own, other = (
        average(run.training_macs if trained else run.macs for run in found.runs if run.model == name)
        for name in (model, FEEDBACK)
    )
    return own / other if other else math.nan
