"""The answer in words, also when it is no: one sentence, then what belongs beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from smp_feedback.evaluation.statistics import AHEAD, BEHIND, CHANCE, LEVEL, ONE_SEED, Paired, significance
from smp_feedback.experiments.comparison import sizes
from smp_feedback.experiments.comparison.results import (
    FEEDBACK,
    TWINS,
    USUAL,
    Comparison,
    ComparisonRun,
    ScoreTable,
    average,
    kinds,
    matched,
    means,
    only,
    paired,
)
from smp_feedback.experiments.comparison.schema import parse
from smp_feedback.experiments.comparison.shares import uneven
from smp_feedback.experiments.comparison.sizes import joined
from smp_feedback.experiments.table import number, spread

NAMES = {twin: twin for twin in TWINS} | {"plain": "the plain model"}
LITTLE = 0.005  # half a point: a lead below it may be shown and still be of no use
# what it means not to be ahead of a twin; the most telling twin first
REASONS = {
    ("equal-compute", LEVEL): "longer training of the plain model may gain as much",
    ("equal-compute", BEHIND): "longer training of the plain model gains more",
    ("equal-inference", LEVEL): "a deeper plain model may do as well",
    ("equal-inference", BEHIND): "a deeper plain model does better",
    ("equal-inference-3x", LEVEL): "a deeper plain model, trained for longer, may do as well",
    ("equal-inference-3x", BEHIND): "a deeper plain model, trained for longer, does better",
    ("one-step", LEVEL): "a single look may do as well",
    ("one-step", BEHIND): "a single look does better",
}


def summary(results: Mapping[str, Any]) -> list[str]:
    """The conclusion, what the seeds can show, the range over conditions, the cost, and what is missing."""
    found = parse(results)
    if found.sizes:
        return [sizes.conclusion(found), *sizes.against(found), *gaps(results)]
    seeds = [len(gain.values) for gain in _against_twins(found.scores()).values()]
    lines = [conclusion(results), *_elsewhere(found), significance(min(seeds, default=0))]
    lines += [*_sure(found), *_cost(found), *_range(found), *gaps(results)]
    return [line for line in lines if line]


def conclusion(results: Mapping[str, Any]) -> str:
    """One plain sentence: does feedback help on these images?

    *Yes* needs all three twins, and feedback ahead of each: a 95 % interval over seeds above zero (*Yes, by little*
    where it leads one of them by less than half a point); *Not shown* is an interval on both sides of zero, *No* a twin
    that feedback is behind; *Undecided* is one seed, or a twin that was not trained. What counts is the conditions that
    the models were trained on, where there are any: each seed's scores are averaged over them before the seeds are
    compared.

    Args:
        results: A comparison's results, see :func:`smp_feedback.experiments.comparison.schema.parse`.

    Raises:
        InvalidInput: If *results* are no comparison.
    """
    found = parse(results)
    if found.sizes:
        return sizes.conclusion(found)
    every = kinds(found.scores())
    table = every.get("as trained", found.scores())
    gains = _against_twins(table)
    if not gains:
        return "Undecided: no seed has scores of the feedback model and of a twin under the same condition."
    where = "tested on what it was trained on, " if len(every) > 1 else ""
    but = _but(_answer(gains), _against_twins(every.get("otherwise", {})) if len(every) > 1 else {})
    return f"{_answer(gains)}: {where}{_said(table, gains, found.metric)}{_because(gains)}{but}."


def _said(table: ScoreTable, gains: Mapping[str, Paired], metric: str) -> str:
    counts = sorted({len(matched(only(table, FEEDBACK, twin))) for twin in gains})
    over = (
        f"averaged over {' to '.join(map(str, counts))} conditions" if counts != [1] else "in the one condition tested"
    )
    return f"{over}, feedback is {joined([versus(NAMES[twin], gain, metric) for twin, gain in gains.items()])}"


def _but(answer: str, otherwise: Mapping[str, Paired]) -> str:
    """A yes says in the same breath where it does not hold."""
    behind = [NAMES[twin] for twin, gain in otherwise.items() if gain.verdict == BEHIND]
    return (
        f"; on what it was not trained on it is behind {joined(behind)}" if behind and answer.startswith("Yes") else ""
    )


def _elsewhere(found: Comparison) -> list[str]:
    """The same comparison under conditions that no model was trained on, if there are both kinds."""
    every = kinds(found.scores())
    gains = _against_twins(every.get("otherwise", {}))
    if len(every) < 2 or not gains:
        return []
    return [f"Tested on what it was not trained on, {_said(every['otherwise'], gains, found.metric)}."]


def gaps(results: Mapping[str, Any]) -> list[str]:
    """What the comparison lacks, a sentence each: models, scores, seeds, and compute that is equal."""
    found = parse(results)
    wanted = found.settings.get("models", (FEEDBACK, *USUAL))
    said = [f"No {model} run: it was not trained, or not kept." for model in wanted if model not in found.models]
    unscored = [run for run in found.runs if not any(math.isfinite(score.score) for score in run.every_score)]
    said += [f"{_named(run)} has no scores." for run in unscored]
    for run in (run for run in found.runs if run not in unscored):
        missing = sum(not math.isfinite(score.score) for score in run.every_score)
        if missing:
            said.append(f"{_named(run)}: {missing} of {len(run.every_score)} scores are no numbers and are left out.")
    seeds = {run.seed for run in found.runs}
    for group in found.groups:
        for model in found.models:
            absent = seeds - {run.seed for run in found.runs if (run.model, run.train, run.images) == (model, *group)}
            if absent:
                listed = ", ".join(map(str, sorted(absent)))
                said.append(f"{model}, {group[0]}, {group[1]} images: no run of seed {listed}.")
    return [*said, *uneven(found)]


def _against_twins(table: ScoreTable) -> dict[str, Paired]:
    gains = {twin: paired(table, twin) for twin in TWINS}
    return {twin: gain for twin, gain in gains.items() if gain.values}


def _answer(gains: Mapping[str, Paired]) -> str:
    verdicts = {gain.verdict for gain in gains.values()}
    if BEHIND in verdicts:
        return "No"
    if LEVEL in verdicts:
        return "Not shown"
    if verdicts != {AHEAD} or not set(gains) >= set(USUAL):
        return "Undecided"
    return "Yes" if min(gain.mean for gain in gains.values()) >= LITTLE else "Yes, by little"


def versus(name: str, gain: Paired, metric: str) -> str:
    """One clause: ahead of *name*, behind it or not shown to be either, by how much, and in how many seeds."""
    points, n = abs(100 * gain.mean), len(gain.values)
    size = f"{points:.{1 if points >= 0.1 else 2}f} points of {metric}"
    if gain.verdict in (AHEAD, BEHIND):
        word = "ahead of" if gain.verdict == AHEAD else "behind"
        return f"{word} {name} by {size} ({n} of {n} seeds)"
    if gain.verdict == ONE_SEED:
        return f"{size} {'above' if gain.mean >= 0 else 'below'} {name} (one seed)"
    seen = f"{100 * gain.mean:+.1f} ± {100 * gain.sd:.1f} points, {gain.agree} of {n} seeds"
    return f"not shown to be ahead of {name} ({seen})"


def _because(gains: Mapping[str, Paired]) -> str:
    """Why that is the answer, where the clauses do not say it."""
    if "plain" not in gains or gains["plain"].verdict == AHEAD:  # else there is no gain to explain
        for (twin, verdict), reason in REASONS.items():
            if twin in gains and gains[twin].verdict == verdict:
                return f": {reason}"
    if _answer(gains) != "Undecided":
        return ""
    absent = [twin for twin in USUAL if twin not in gains]
    if any(gain.verdict == ONE_SEED for gain in gains.values()):
        return ": one seed cannot tell a difference from chance"
    return f": {joined(absent)} {'was' if len(absent) == 1 else 'were'} not compared, and may gain as much"


def _range(found: Comparison) -> list[str]:
    """The best and the worst condition, and in how many a difference is shown."""
    table = found.scores()
    twins = list(_against_twins(table))
    cells = {condition: _against_twins({condition: row}) for condition, row in table.items()}
    cells = {condition: gains for condition, gains in cells.items() if twins and list(gains) == twins}
    if len(cells) < 2:
        chances = _by_chance(list(cells.values()))
        return [f"{chances[0].upper()}{chances[1:]}."] if chances else []
    order = sorted(cells, key=lambda condition: cells[condition][twins[0]].mean)
    worst, best = (f"{100 * cells[c][twins[0]].mean:+.1f} points ({c})" for c in (order[0], order[-1]))
    return [f"Against {NAMES[twins[0]]} the difference runs from {worst} to {best}.", _count(list(cells.values()))]


def _count(cells: list[dict[str, Paired]]) -> str:
    """In how many conditions feedback is ahead, and in how many chance alone would say so; empty with one seed."""
    chances = _by_chance(cells)
    if not chances:
        return ""
    ahead, behind = (
        sum(all(gain.verdict == word for gain in gains.values()) for gains in cells) for word in (AHEAD, BEHIND)
    )
    whom = f"all {len(cells[0])} twins" if len(cells[0]) > 1 else "its twin"
    return (
        f"Of {len(cells)} conditions feedback is shown to be ahead of {whom} in {ahead}, and behind {whom} in "
        f"{behind}; {chances}."
    )


def _by_chance(cells: list[dict[str, Paired]]) -> str:
    """How often one condition reads ahead where there is nothing; empty with one seed."""
    seeds = min((len(gain.values) for gains in cells for gain in gains.values()), default=0)
    if seeds < 2:
        return ""
    return f"equal models read ahead of one twin in {CHANCE:.1%} by chance, whatever the number of seeds"


def _sure(found: Comparison) -> list[str]:
    """How well each model knows how often it is right."""
    by_model = means(found.scores(lambda score: score.ece))
    parts = [f"{model} {spread(by_model[model].values())}" for model in found.models if model in by_model]
    return [f"Expected calibration error (%, 0 is best): {', '.join(parts)}."] if parts else []


def _cost(found: Comparison) -> list[str]:
    """What each model's training took, and an answer of feedback."""
    if not found.models:
        return []
    trained = {model: [run for run in found.runs if run.model == model] for model in found.models}
    parts = []
    for model, runs in trained.items():
        seconds, passes = average(run.seconds for run in runs), average(run.passes for run in runs)
        parts.append(f"{model} {number(seconds, ',.0f')} s and {number(passes, ',.0f')}")
    line = f"A training run took, in seconds and forward passes of a batch: {', '.join(parts)}"
    answer, plain = (average(run.seconds_per_image for run in trained.get(model, ())) for model in (FEEDBACK, "plain"))
    ratio = f"; feedback answers in {answer / plain:.1f} times the plain model's time" if plain > 0 < answer else ""
    return [f"{line}{ratio}."]


def _named(run: ComparisonRun) -> str:
    return f"{run.model}, seed {run.seed}, {run.train}, {run.images} images"
