"""A comparison on a console: one table of four rows, which fits 80 columns; all else is in the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from smp_feedback.evaluation.statistics import Paired
from smp_feedback.experiments.comparison import sizes
from smp_feedback.experiments.comparison.conclusion import conclusion, gaps
from smp_feedback.experiments.comparison.results import (
    FEEDBACK,
    TWINS,
    Comparison,
    ScoreTable,
    Size,
    SizeTable,
    average,
    kinds,
    means,
    paired,
)
from smp_feedback.experiments.comparison.schema import parse
from smp_feedback.experiments.table import NONE, Table, number

ROWS = 4
SIZES = 4  # of test images, in columns


def told(results: Mapping[str, Any]) -> list[str]:
    """The answer, and what is missing for it."""
    return [conclusion(results), *gaps(results)]


def brief(results: Mapping[str, Any]) -> Table:
    """Feedback, and the three twins that it leads least: what is shown, how sure, how fast, at what price.

    Tested on what was trained on, where that was tested. At several sizes, after the most looks, some of the sizes.
    """
    found = parse(results)
    return _at_sizes(found) if found.sizes else _at_one(found)


def _at_one(found: Comparison) -> Table:
    table, sure = _as_trained(found.scores()), _as_trained(found.scores(lambda score: score.ece))
    gains = {twin: gain for twin in TWINS if (gain := paired(table, twin)).values}
    least = sorted(gains, key=lambda twin: gains[twin].mean)[: ROWS - 1]
    shown = [model for model in found.models if model == FEEDBACK or model in least]
    rows = [(model, *_gain(gains.get(model)), *_numbers(found, model, table, sure)) for model in shown]
    columns = (
        "model",
        "feedback is",
        "by points (95 % interval)",
        f"{found.metric} %",
        "ECE %",
        "ms an image",
        "passes",
    )
    rest = len(found.models) - len(shown)
    more = f" Of {rest} more twin{'s' * (rest > 1)}, the report." if rest else ""
    note = f"ECE: calibration error, 0 is best; passes: of a batch, in training.{more}"
    return Table("In short", columns, tuple(rows), note=note)


def _as_trained(table: ScoreTable) -> ScoreTable:
    return kinds(table).get("as trained", table)


def _gain(gain: Paired | None) -> tuple[str, str]:
    """Whether feedback is ahead of a twin, and by how much."""
    if gain is None:
        return "", ""
    low, high = gain.interval
    between = f" ({100 * low:+.1f} to {100 * high:+.1f})" if math.isfinite(low) else ""
    return gain.verdict.partition(":")[0], f"{100 * gain.mean:+.1f}{between}"


def _numbers(found: Comparison, model: str, table: ScoreTable, sure: ScoreTable) -> tuple[str, str, str, str]:
    """Score and calibration error in per cent, an answer's time, and forward passes in training."""
    runs = [run for run in found.runs if run.model == model]
    score, error = (average(means(one).get(model, {}).values()) for one in (table, sure))
    milliseconds = 1000 * average(run.seconds_per_image for run in runs)
    passes = number(average(run.passes for run in runs), ",.0f")
    return number(100 * score, ".1f"), number(100 * error, ".1f"), number(milliseconds, ".3g"), passes


def _at_sizes(found: Comparison) -> Table:
    """Of the last group, feedback after the most looks, and the twins that are best at the largest size."""
    train, images = found.groups[-1]
    table = found.at_sizes(train, images)
    last = max((looks for model, looks in table if model == FEEDBACK), default=0)
    largest = found.sizes[-1]
    twins = [key for key in table if key[0] != FEEDBACK]
    best = sorted(twins, key=lambda key: -average(table[key].get(largest, {0: -1.0}).values()))[: ROWS - 1]
    shown = [key for key in table if key == (FEEDBACK, last) or key in best]
    step, rows = max(1.0, (len(found.sizes) - 1) / (SIZES - 1)), []
    columns = [found.sizes[round(i * step)] for i in range(min(SIZES, len(found.sizes)))]
    for model, looks in shown:
        runs = [run for run in found.runs if (run.model, run.train, run.images) == (model, train, images)]
        cells = [number(100 * average(table[model, looks].get(size, {}).values()), ".1f") for size in columns]
        verdict = "" if model == FEEDBACK else _verdict(table, model, largest)
        rows.append((model, verdict, *sizes.costs(runs, looks), *cells))
    named = tuple(f"at {sizes.said(size)}" for size in columns)
    note = f"{found.measure} in %, after {last} looks; the twin is beaten, or not, at {sizes.said(largest)}."
    more = f" Trained on {train}, {images} images; the others are in the report." if len(found.groups) > 1 else ""
    return Table(
        "In short", ("model", "the twin is", "params", "MACs", "passes", *named), tuple(rows), note=note + more
    )


def _verdict(table: SizeTable, twin: str, size: Size) -> str:
    """What is shown of *twin* at one size."""
    return next((one.verdict for one in sizes.gains(table) if (one.twin, one.size) == (twin, size)), NONE)
