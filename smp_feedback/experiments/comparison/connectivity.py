"""Connectivity in a comparison: clDice, Betti errors and breaks by condition, by looks and by size, where asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

from smp_feedback.evaluation.connectivity_names import CONNECTIVITY, JUDGED, MAX, PER_LENGTH
from smp_feedback.experiments.comparison.results import Comparison, ComparisonScore, ScoreTable, Value, means
from smp_feedback.experiments.comparison.sizes import said
from smp_feedback.experiments.table import Table, spread

NOTE = (
    f"Means over images. clDice in per cent, high is good; of the others low is: breaks are for {PER_LENGTH} pixels of "
    "the truth's centre line."
)
Where = tuple[str, str, str]
Cells = Callable[[Comparison, ScoreTable], Iterable[tuple[Where, ScoreTable]]]
"""What was trained on, on how many images, and what was tested on; and the scores there."""


def connectivity_tables(found: Comparison, cells: Cells) -> dict[str, Table]:
    """Those of connectivity, by name; without rows where it was not measured."""
    return {
        "connectivity": _by_condition(found, cells),
        "connectivity-looks": _by_looks(found),
        "connectivity-sizes": _by_size(found),
    }


def _by_condition(found: Comparison, cells: Cells) -> Table:
    rows = []
    for name, value in _values():
        for where, table in cells(found, found.scores(value)):
            averages = means(table)
            of_models = (_cell(name, averages.get(model, {}).values()) for model in found.models)
            rows.append((*where, CONNECTIVITY[name].title, *of_models))
    columns = ("trained on", "images", "tested on", "score", *found.models)
    return Table("Connectivity, by what a model was trained on", columns, tuple(rows), labels=4, note=NOTE)


def _by_looks(found: Comparison) -> Table:
    by_score = {name: found.looks(value) for name, value in _values()}
    last = max((max(looks) for groups in by_score.values() for looks in groups.values()), default=0)
    rows = []
    for name, groups in by_score.items():
        for (train, images), looks in groups.items():
            cells = (_cell(name, looks.get(t, {}).values()) for t in range(1, last + 1))
            rows.append((train, str(images), CONNECTIVITY[name].title, *cells))
    columns = ("trained on", "images", "score", *(f"T = {t}" for t in range(1, last + 1)))
    note = f"The feedback model, tested on what it was trained on. {NOTE}"
    return Table("Connectivity by looks at the image", columns, tuple(rows), labels=3, note=note)


def _by_size(found: Comparison) -> Table:
    rows = []
    for name, value in _values():
        for train, images in found.groups:
            for (model, looks), by_size in found.at_sizes(train, images, value).items():
                cells = (_cell(name, by_size.get(size, {}).values()) for size in found.sizes)
                rows.append((train, str(images), CONNECTIVITY[name].title, model, str(looks), *cells))
    columns = ("trained on", "images", "score", "model", "looks", *map(said, found.sizes))
    return Table("Connectivity by size of the test images", columns, tuple(rows), labels=5, note=NOTE)


def _values() -> Iterable[tuple[str, Value]]:
    return ((name, partial(_value, name=name)) for name in JUDGED)


def _value(score: ComparisonScore, name: str) -> float:
    return score.topology.get(name, math.nan)


def _cell(name: str, values: Iterable[float]) -> str:
    return spread(values) if CONNECTIVITY[name].best == MAX else spread(values, scale=1, digits=2)
