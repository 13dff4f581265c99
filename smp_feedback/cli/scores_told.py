"""What ``validate`` and ``test`` say and leave: tables of looks and metrics, JSON, and a row a class and an image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from smp_feedback.cli.connectivity import connectivity_table, looks_table
from smp_feedback.cli.tables import per_cent, score_table
from smp_feedback.data.items import item_name
from smp_feedback.evaluation.by_image import Images, means_of
from smp_feedback.evaluation.metrics import Metrics, metrics_of
from smp_feedback.evaluation.named_metrics import DISTANCES, TOPOLOGY, metric_called, metrics_for
from smp_feedback.evaluation.results import plain
from smp_feedback.evaluation.score_files import write_scores
from smp_feedback.saving.files import replace_file
from smp_feedback.training.facts import Facts
from smp_feedback.training.metric import Scored

Intervals = Mapping[str, tuple[float, float]]
MOST_ROWS = 40
"""Of a table in the console, one a class: with more of them the means alone are shown."""
IN_CAPTION = ("accuracy", "solved")
"""What no class has to itself, or has as its recall."""


def tell_scores(
    scored: Scored,
    images: Images | None,
    facts: Facts,
    folder: Path,
    title: str,
    *,
    draws: int,
    data: Any,
    by_look: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Print what was *scored*, and leave ``scores.json``, ``classes.csv``, ``confusion.csv`` and ``images.csv``.

    Args:
        scored: Every look's.
        images: Each image's, where they are known.
        facts: Of the data.
        folder: Where files go.
        title: Of the tables.
        draws: Drawings of the images for intervals; 0 draws none.
        data: What was scored, which names its images.
        by_look: Connectivity after each look, by name, where it was measured.
    """
    assert scored.confusion is not None
    metrics = _with_measured(scored, images, facts)
    known = metrics_for(facts.task, measured=() if images is None else images.measured)
    intervals = {} if images is None or not draws else images.intervals(known, draws)
    console = Console()
    few = facts.classes if len(facts.classes) <= MOST_ROWS else ()
    console.print(score_table(scored, few, title))
    console.print(metric_table(metrics, intervals, facts.classes, len(scored.looks)))
    if by_look:
        console.print(connectivity_table(metrics, intervals, few))
        if len(scored.looks) > 1:
            console.print(looks_table(by_look))
    confusion = scored.confusion.tolist()
    names = () if images is None else [item_name(data, i) for i in range(len(images.counts))]
    write_scores(folder, facts.classes, facts.task, metrics, confusion, images, names)
    found = {key: getattr(scored, key).tolist() for key in ("looks", "per_class", "solved")}
    told = {"metrics": metrics[0], "class_metrics": metrics[1], "intervals": intervals, "confusion": confusion}
    connected = {"connectivity": by_look} if by_look else {}
    written = plain({"score": scored.name, "classes": facts.classes, **found, **told, **connected})
    text = json.dumps(written, indent=2, allow_nan=False)
    replace_file(folder / "scores.json", lambda draft: draft.write_text(text))


def metric_table(metrics: Metrics, intervals: Intervals, classes: Sequence[str], looks: int) -> Table:
    """One row a class, one of their mean, and its 95 % interval; one column a metric.

    >>> table = metric_table(({"dice": 0.5}, {"dice": (0.5, None)}), {"dice": (0.4, 0.6)}, ["sky", "car"], 1)
    >>> [list(column.cells) for column in table.columns]
    [['sky', 'car', 'mean', '95 % from', 'to'], ['50.0', '-', '50.0', '40.0', '60.0']]
    """
    whole, each = metrics
    shown = [metric_called(name) for name in whole if name not in (*IN_CAPTION, *TOPOLOGY)]
    table = Table("class", title="per cent" if looks == 1 else f"after look {looks}, per cent")
    beside = IN_CAPTION if "miou" in whole else IN_CAPTION[:1]  # of labels both are the same
    table.caption = "; ".join(_beside(name, whole[name], intervals) for name in beside if name in whole)
    for metric in shown:
        table.add_column(f"{metric.title}, px" if metric.distance else metric.title, justify="right")
    if len(classes) > MOST_ROWS:
        table.caption += f"; each of {len(classes)} classes in classes.csv"
    for k, name in enumerate(classes if len(classes) <= MOST_ROWS else ()):
        cells = [_cell(metric.name, each[metric.name][k] if metric.name in each else None) for metric in shown]
        table.add_row(name, *cells, end_section=k == len(classes) - 1)
    table.add_row("mean", *(_cell(metric.name, whole[metric.name]) for metric in shown))
    if intervals:
        for head, end in (("95 % from", 0), ("to", 1)):
            table.add_row(head, *(_cell(metric.name, intervals[metric.name][end]) for metric in shown))
    return table


def _with_measured(scored: Scored, images: Images | None, facts: Facts) -> Metrics:
    if images is None or not images.measured or scored.confusion is None:
        return scored.metrics
    found = means_of(images.measured)
    return metrics_of(scored.confusion, float(scored.solved[-1]), facts.task, facts.ignore_index, found)


def _beside(name: str, value: float, intervals: Intervals) -> str:
    ends = f" ({' to '.join(map(per_cent, intervals[name]))})" if name in intervals else ""
    return f"{name} {per_cent(value)}{ends}"


def _cell(name: str, value: float | None) -> str:
    if name in DISTANCES:
        return "-" if value is None or value != value else f"{value:.1f}"
    return per_cent(value)
