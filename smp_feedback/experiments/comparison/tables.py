"""The numbers as tables: one description, printed on a console, as Markdown and in the HTML report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from smp_feedback.evaluation.statistics import AHEAD, Paired
from smp_feedback.experiments.comparison import sizes
from smp_feedback.experiments.comparison.connectivity import connectivity_tables
from smp_feedback.experiments.comparison.results import (
    FEEDBACK,
    TWINS,
    Comparison,
    ScoreTable,
    Value,
    average,
    kinds,
    matched,
    means,
    only,
    paired,
    select,
)
from smp_feedback.experiments.comparison.schema import parse
from smp_feedback.experiments.comparison.shares import given
from smp_feedback.experiments.table import NONE, Table, gain_text, number, spread

DETAIL = "detail"
MORE = (DETAIL, "size-differences")  # what is shown when all is asked for
TESTS = {"as trained": {"as_trained": True}, "clean": {"clean": True}, "corrupted": {"clean": False}}


def tables(results: Mapping[str, Any]) -> dict[str, Table]:
    """Every table that has rows, by name, in the order of the report.

    Scores are in per cent, the mean over seeds ± their standard deviation. A mean over conditions is over those
    that every model and seed of the row has.
    """
    found = parse(results)
    made = {
        "sizes": sizes.by_size(found),
        "size-differences": sizes.differences(found),
        "differences": _differences(found),
        "scores": _scores(found),
        "gains": _gains(found),
        "robustness": _robustness(found),
        "looks": _looks(found),
        "classes": _classes(found),
        **connectivity_tables(found, _cells),
        "calibration": _calibration(found),
        "cost": _cost(found),
        "given": given(found),
        DETAIL: _detail(found),
    }
    return {name: table for name, table in made.items() if table.rows}


def shown(results: Mapping[str, Any], *, detail: bool = False) -> list[Table]:
    """The tables that are shown; *detail* adds those with a row for every condition.

    At several sizes that by size is all: it has the costs, too.
    """
    made = tables(results)
    if "sizes" in made and not detail:
        return [made["sizes"], *connected(results)]
    return [table for name, table in made.items() if detail or name not in MORE]


def connected(results: Mapping[str, Any]) -> list[Table]:
    """The tables of connectivity that have rows."""
    made = connectivity_tables(parse(results), _cells)
    return [table for table in made.values() if table.rows]


def _differences(found: Comparison) -> Table:
    columns = ("twin", "feedback is", "difference", "95 % interval", "p", "seeds that agree", "conditions")
    rows, parts = [], kinds(found.scores())
    for kind, table, twin in ((kind, table, twin) for kind, table in parts.items() for twin in TWINS):
        gain, n = paired(table, twin), len(matched(only(table, FEEDBACK, twin)))
        if gain.values:
            low, high = (100 * end for end in gain.interval)
            interval = f"{low:+.2f} to {high:+.2f}" if math.isfinite(low) else NONE
            sizes = f"{100 * gain.mean:+.2f}" + (f" ± {100 * gain.sd:.2f}" if len(gain.values) > 1 else "")
            agree = f"{gain.agree} of {len(gain.values)}"
            name = f"{twin}, {kind}" if len(parts) > 1 else twin
            rows.append((name, gain.verdict, sizes, interval, f"{gain.p:.2g}", agree, str(n)))
    note = (
        f"Points of {found.metric}, feedback - twin, each seed averaged over the conditions first. Interval: Student's "
        "t; p: two-sided sign-flip permutation; ahead or behind: the interval is on one side of zero."
    )
    return Table("Feedback against its twins", columns, tuple(rows), note=note)


def _scores(found: Comparison) -> Table:
    title = f"{found.metric} (%), by what a model was trained on"
    note = "Corrupted: the mean over corruptions and severities, what was trained on among them."
    return _by_group(found, title, lambda score: score.score, note)


def _calibration(found: Comparison) -> Table:
    note = "0 is best: the distance between how sure a model is and how often it is right."
    return _by_group(found, "Expected calibration error (%)", lambda score: score.ece, note)


def _by_group(found: Comparison, title: str, value: Value, note: str) -> Table:
    rows = []
    for where, table in _cells(found, found.scores(value)):
        averages = means(table)
        rows.append((*where, *(spread(averages.get(model, {}).values()) for model in found.models)))
    return Table(title, ("trained on", "images", "tested on", *found.models), tuple(rows), labels=3, note=note)


def _gains(found: Comparison) -> Table:
    twins = [twin for twin in TWINS if twin in found.models]
    rows = []
    for where, table in _cells(found, found.scores()):
        gains = [paired(table, twin) for twin in twins]
        if any(gain.values for gain in gains):
            rows.append((*where, *map(gain_text, gains), _all_ahead(gains)))
    columns = ("trained on", "images", "tested on", *(f"against {twin}" for twin in twins), "ahead of all")
    note = (
        "Points of " + found.metric + ", feedback - twin: mean ± standard deviation over seeds (seeds that agree / "
        "seeds); ahead or behind where the 95 % interval is on one side of zero."
    )
    return Table("Where feedback is ahead, and where not", columns, tuple(rows), labels=3, note=note)


def _all_ahead(gains: Sequence[Paired]) -> str:
    if any(len(gain.values) < 2 for gain in gains):
        return NONE
    return "yes" if all(gain.verdict == AHEAD for gain in gains) else "no"


def _cells(found: Comparison, table: ScoreTable) -> Iterable[tuple[tuple[str, str, str], ScoreTable]]:
    """Each (train, images, kind of test) that has scores, and those; none twice under another name."""
    for train, images in found.groups:
        seen: list[ScoreTable] = []
        for name, fields in TESTS.items():
            kept = select(table, train=train, images=images, **fields)
            if kept and kept not in seen and not (name == "as trained" and train == "clean"):
                seen.append(kept)
                yield (train, str(images), name), kept


def _robustness(found: Comparison) -> Table:
    table, rows = found.scores(), []
    for train in dict.fromkeys(train for train, _ in found.groups):
        for corruption in dict.fromkeys(c.corruption for c in table):
            own = select(table, train=train, corruption=corruption)
            if own:
                averages = means(own)
                cells = (spread(averages.get(model, {}).values()) for model in found.models)
                rows.append((train, corruption, *cells, *(gain_text(paired(own, twin)) for twin in _plain(found))))
    columns = ("trained on", "tested on", *found.models, *(f"feedback - {twin}" for twin in _plain(found)))
    note = "The mean over severities and over numbers of training images."
    return Table(f"Robustness: {found.metric} (%) by corruption", columns, tuple(rows), labels=2, note=note)


def _plain(found: Comparison) -> tuple[str, ...]:
    return ("plain",) if {"plain", FEEDBACK} <= set(found.models) else ()


def _looks(found: Comparison) -> Table:
    groups = found.looks()
    last = max((max(by_look) for by_look in groups.values()), default=0)
    rows = []
    for (train, images), by_look in groups.items():
        cells = (spread(by_look.get(look, {}).values()) for look in range(1, last + 1))
        rows.append((train, str(images), str(settled(by_look)), *cells))
    columns = ("trained on", "images", "no gain after", *(f"T = {look}" for look in range(1, last + 1)))
    trained = sorted({run.looks for run in found.runs if run.model == FEEDBACK})
    note = (
        f"The feedback model, trained with T = {', '.join(map(str, trained))}, tested on what it was trained on. "
        "No gain after: no later look is shown to be ahead of this one."
    )
    return Table(f"{found.metric} (%) by looks at the image", columns, tuple(rows), labels=2, note=note)


def settled(by_look: Mapping[int, Mapping[int, float]]) -> int:
    """The first number of looks that no larger one is shown to be ahead of, over seeds (or at all, with one).

    >>> settled({1: {0: 0.5, 1: 0.6}, 2: {0: 0.7, 1: 0.8}, 3: {0: 0.69, 1: 0.81}})
    2
    """
    for look in sorted(by_look):
        later = [_gain(by_look[look], by_look[other]) for other in by_look if other > look]
        if not any(gain.verdict == AHEAD or (len(gain.values) == 1 and gain.mean > 0) for gain in later):
            return look
    return max(by_look)


def _gain(before: Mapping[int, float], after: Mapping[int, float]) -> Paired:
    return Paired(tuple(after[seed] - before[seed] for seed in sorted(before.keys() & after.keys())))


def _classes(found: Comparison) -> Table:
    rows = []
    for name, table in found.class_scores().items():
        averages = means(table)
        cells = [spread(averages.get(model, {}).values()) for model in found.models]
        rows.append((name, *cells, *(gain_text(paired(table, twin)) for twin in _plain(found))))
    if all(cell == NONE for row in rows for cell in row[1:]):
        rows = []
    columns = ("class", *found.models, *(f"feedback - {twin}" for twin in _plain(found)))
    what = "IoU" if found.metric == "mIoU" else "Accuracy"
    note = f"The mean over all conditions in which every model has the class; {NONE}: absent."
    return Table(f"{what} (%) by class", columns, tuple(rows), note=note)


def _cost(found: Comparison) -> Table:
    plain = average(run.seconds_per_image for run in found.runs if run.model == "plain")
    rows = []
    for model in found.models:
        runs = [run for run in found.runs if run.model == model]
        inference = average(run.seconds_per_image for run in runs)
        rows.append(
            (
                model,
                _whole(run.parameters for run in runs),
                _whole(run.steps for run in runs),
                _whole(run.looks for run in runs),
                _whole(run.passes for run in runs),
                spread((run.seconds for run in runs), scale=1),
                number(1000 * inference, ".2f"),
                number(inference / plain if plain else math.nan, ".2f"),
                number(kept := average(run.kept_mb for run in runs), ",.0f" if kept >= 10 else ".2g"),
            )
        )
    compute = ("parameters", "optimiser steps", "looks", "forward passes", "training (s)")
    columns = ("model", *compute, "ms an image", "times plain", "kept for backward (MB)")
    note = (
        "Per run, mean ± standard deviation over runs; forward passes of a batch: optimiser steps x looks, the mean "
        "where looks are drawn, one without gradient a third, one of a deeper model its worth in looks; where looks "
        "share what lies before them, multiply-adds over those of a pass. Kept are the tensors of one batch."
    )
    return Table("What it costs", columns, tuple(rows), note=note)


def _detail(found: Comparison) -> Table:
    table, place = found.scores(), {group: i for i, group in enumerate(found.groups)}
    rows = []
    for condition in sorted(table, key=lambda c: (place[c.train, c.images], c.corruption, c.severity)):
        row = table[condition]
        cells = (spread(value for (name, _), value in row.items() if name == model) for model in found.models)
        rows.append((condition.train, str(condition.images), condition.test, *cells))
    columns = ("trained on", "images", "tested on", *found.models)
    return Table(f"{found.metric} (%) under every condition", columns, tuple(rows), labels=3)


def _whole(values: Iterable[int]) -> str:
    """One number, or the smallest and the largest."""
    found = sorted(set(values))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"
