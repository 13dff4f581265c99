"""Connectivity as ``validate`` and ``test`` print it: a row a class, and a row a look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.table import Table

from smp_feedback.cli.tables import per_cent
from smp_feedback.evaluation.connectivity_names import CONNECTIVITY, JUDGED, MAX, PER_LENGTH
from smp_feedback.evaluation.metrics import Metrics

COUNTED = {"components": "true_components", "loops": "true_loops"}
CAPTION = f"means over images; clDice in per cent, breaks for {PER_LENGTH} px of centre line"


def connectivity_table(metrics: Metrics, intervals: Mapping[str, tuple[float, float]], classes: Sequence[str]) -> Table:
    """One row a class, one of their mean, and its 95 % interval; how many parts there are stands beside the truth's.

    >>> values = dict.fromkeys(CONNECTIVITY, 2.0) | {"cldice": 0.5}
    >>> each = {name: (None, value) for name, value in values.items()}
    >>> table = connectivity_table((values, each), {}, ["background", "vessel"])
    >>> [list(column.cells) for column in table.columns][1:5:3], list(table.columns[5].cells)
    ([['-', '50.0', '50.0'], ['-', '2.00', '2.00']], ['- (-)', '2.0 (2.0)', '2.0 (2.0)'])
    """
    whole, each = metrics
    table = Table("class", title="connectivity, components and loops beside (the truth's)", caption=CAPTION)
    for name in (*JUDGED, *COUNTED):
        table.add_column(CONNECTIVITY[name].title, justify="right")
    for k, one in enumerate(classes):
        _add(table, one, {name: values[k] for name, values in each.items()}, last=k == len(classes) - 1)
    _add(table, "mean", whole)
    if intervals:
        for head, end in (("95 % from", 0), ("to", 1)):
            table.add_row(head, *(_cell(name, intervals[name][end]) for name in JUDGED))
    return table


def looks_table(by_look: Mapping[str, Sequence[float]]) -> Table:
    """One row a look, one column a metric.

    >>> table = looks_table({"cldice": [0.5, 0.75], "breaks": [3.0, 1.5]})
    >>> [list(column.cells) for column in table.columns]
    [['1', '2'], ['50.0', '75.0'], ['3.00', '1.50']]
    """
    shown = [name for name in JUDGED if name in by_look]
    table = Table("look", title="connectivity, look by look", caption=CAPTION)
    for name in shown:
        table.add_column(CONNECTIVITY[name].title, justify="right")
    for t in range(len(by_look[shown[0]])):
        table.add_row(str(t + 1), *(_cell(name, by_look[name][t]) for name in shown))
    return table


def add_connectivity(table: Table, answers: Sequence[Mapping[str, float]]) -> None:
    """Let *table*, of a column an answer, say the connectivity of each, where the metrics of *answers* have it.

    >>> table = Table("", "base")
    >>> add_connectivity(table, [dict.fromkeys(CONNECTIVITY, 0.5)])
    >>> [list(column.cells) for column in table.columns]
    [['clDice', 'Betti 0 error', 'Betti 1 error', 'breaks'], ['50.0', '0.50', '0.50', '0.50']]
    """
    for name in JUDGED if all(name in each for name in JUDGED for each in answers) else ():
        table.add_row(CONNECTIVITY[name].title, *(_cell(name, each[name]) for each in answers))
        table.caption = CAPTION


def _add(table: Table, head: str, values: Mapping[str, float | None], *, last: bool = False) -> None:
    counted = [f"{_count(values[said])} ({_count(values[so])})" for said, so in COUNTED.items()]
    table.add_row(head, *(_cell(name, values[name]) for name in JUDGED), *counted, end_section=last)


def _cell(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return per_cent(value) if CONNECTIVITY[name].best == MAX else f"{value:.2f}"


def _count(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"
