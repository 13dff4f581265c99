"""A comparison on films in tables: who is right, who is steady, what a cut costs, and what all of it took."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from smp_feedback.evaluation.statistics import Paired
from smp_feedback.experiments.comparison.results import average
from smp_feedback.experiments.comparison.sizes import short
from smp_feedback.experiments.films.results import FilmComparison, FilmScore, FilmTest, parse
from smp_feedback.experiments.films.rivals import CARRIED, PLAIN
from smp_feedback.experiments.table import NONE, Table, number, spread

BEATEN, BEHIND, NOT_SHOWN, ONE_SEED = "ahead", "behind", "not shown", "one seed"
SHOWN = 4  # rows on a console
FIRST = 16  # frames of a film that its last as many are held to


def tables(results: Mapping[str, Any]) -> dict[str, Table]:
    """Every table that has rows, by name; scores in per cent, mean ± standard deviation over seeds."""
    found = parse(results)
    made = {
        "scores": _scores(found),
        "differences": _differences(found),
        "frames": _frames(found),
        "cuts": _cuts(found),
        "cost": _cost(found),
    }
    return {name: table for name, table in made.items() if table.rows}


def shown(results: Mapping[str, Any]) -> list[Table]:
    """What a console shows: one table, of the carried state, of plain, and of the rivals that are best."""
    return [_in_short(parse(results))]


def _in_short(found: FilmComparison) -> Table:
    """The mean over all tests of each model; of rivals the `SHOWN` - 1 that say most: plain, then the best ones."""
    means = {model: over_tests(found, model) for model in found.models}
    best = sorted(found.rivals, key=lambda rival: (rival != PLAIN, -average(means[rival].values())))
    rows = []
    for model in [model for model in (CARRIED, *best) if model in found.models][:SHOWN]:
        flicker = over_tests(found, model, "flicker").values()
        said = "" if model == CARRIED else verdict(ahead(means.get(CARRIED, {}), means[model]))
        rows.append((model, spread(means[model].values()), spread(flicker), said))
    count = len(found.tests)
    mean = f", mean of {count} tests" if count > 1 else f" under {found.tests[0].test}" if count else ""
    left = len(found.models) - len(rows)
    note = f"{left} more in films.md, each test by itself." if left > 0 else ""
    columns = ("model", "mIoU", "flicker", "carried is")
    return Table(f"Whole films, %{mean}", columns, tuple(rows), note=note)


def over_tests(found: FilmComparison, model: str, measure: str = "miou") -> dict[int, float]:
    """The mean over all tests of *model*, of each seed that has them all."""
    each = [found.values(model, test, measure) for test in found.tests]
    seeds = set.intersection(*(set(values) for values in each)) if each else set()
    return {seed: average(values[seed] for values in each) for seed in sorted(seeds)}


def ahead(own: Mapping[int, float], other: Mapping[int, float]) -> Paired:
    """*own* less *other*, of the seeds that both have."""
    return Paired(tuple(own[seed] - other[seed] for seed in own if seed in other))


def verdict(gain: Paired, *, less: bool = False) -> str:
    """Whether the 95 % interval over seeds is on one side of zero; *less* is better of some measures.

    >>> verdict(Paired((0.02, 0.03, 0.025))), verdict(Paired((0.02, -0.03))), verdict(Paired((0.02,)))
    ('ahead', 'not shown', 'one seed')
    """
    low, high = gain.interval
    if not math.isfinite(low):
        return ONE_SEED
    if low > 0 or high < 0:
        return BEATEN if (low > 0) != less else BEHIND
    return NOT_SHOWN


def _scores(found: FilmComparison) -> Table:
    names, common = short_names([test.test for test in found.tests])
    rows = []
    for model in found.models:
        cells = [
            _cell(found.values(model, test, measure).values())
            for measure in ("miou", "flicker")
            for test in found.tests
        ]
        rows.append((model, *cells))
    columns = ("model", *(f"mIoU {name}" for name in names), *(f"flick {name}" for name in names))
    where = f" under {common}" if common else ""
    return Table(f"mIoU and flicker (%) of whole films{where}", columns, tuple(rows))


def short_names(tests: Sequence[str]) -> tuple[list[str], str]:
    """Names of *tests* for narrow columns, and what they have in common.

    >>> short_names(["rescaled_noise:3", "rescaled_noise:5"]), short_names(["clean", "occlusion:3"])
    ((['3', '5'], 'rescaled_noise'), (['clean', 'occlusion:3'], ''))
    """
    kinds = {test.partition(":")[0] for test in tests}
    if len(kinds) == 1 and all(":" in test for test in tests):
        return [test.partition(":")[2] for test in tests], kinds.pop()
    return [*tests], ""


def _cell(values: Iterable[float]) -> str:
    return spread(values).replace(" ", "")


def _differences(found: FilmComparison) -> Table:
    rows = []
    for test in found.tests:
        for rival in found.rivals:
            for measure in ("miou", "flicker", "hidden"):
                gain = found.gain(rival, test, measure)
                if gain.values:
                    low, high = (number(100 * end, "+.1f") for end in gain.interval)
                    interval = f"{low} to {high}" if low != NONE else NONE
                    said = verdict(gain, less=measure == "flicker")
                    what = "mIoU" if measure == "miou" else measure
                    rows.append((test.test, rival, what, f"{100 * gain.mean:+.1f}", interval, said))
    columns = ("tested on", "rival", "measure", "difference", "95 % interval", "carried is")
    note = (
        "Points, carried - rival; the interval is Student's t over seeds. Of flicker less is better; hidden is the "
        "share of right pixels among those of objects behind an occluder."
    )
    return Table("Carried against its rivals", columns, tuple(rows), labels=3, note=note)


def _frames(found: FilmComparison) -> Table:
    """By place in the film, doubling."""
    every = [score for run in found.runs for (_, test), score in run.scores.items() if not test.joined]
    longest = max((len(score.by_frame) for score in every), default=0)
    begins = [0, *(2**k for k in range(longest.bit_length()) if 2**k < longest)]
    spans = list(zip(begins, [*begins[1:], longest], strict=True))
    rows = []
    for test in found.tests:
        for model in found.models:
            cells = [spread(part(score, *span) for score in found.scores(model, test).values()) for span in spans]
            rows.append((test.test, model, *cells))
    columns = ("tested on", "model", *(str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in spans))
    return Table("mIoU (%) by frame", columns, tuple(rows), labels=2, note="The mean of the frames' own mIoUs.")


def part(score: FilmScore, begin: int, end: int) -> float:
    """The mean mIoU of the frames from *begin* on, before *end*; NaN without any."""
    return average(value for value in score.by_frame[begin:end] if value is not None)


def drift(found: FilmComparison, model: str, test: FilmTest) -> Paired:
    """The mIoU of the last frames less that of as many that end with the 16th, each seed's own."""
    values = []
    for score in found.scores(model, test).values():
        count = len(score.by_frame)
        early, late = part(score, FIRST // 2, FIRST), part(score, max(FIRST, count - FIRST), count)
        if math.isfinite(early) and math.isfinite(late):
            values.append(late - early)
    return Paired(tuple(values))


def _cuts(found: FilmComparison) -> Table:
    rows = []
    for test in found.joined:
        for model in found.models:
            scores = [*found.scores(model, test).values()]
            if scores:
                last = max(len(score.after_cut) for score in scores)
                after = [spread(_at(score, k) for score in scores) for k in range(last)]
                name = f"{model}, beginning anew" if test.reset else model
                rows.append((name, spread(score.before_cut for score in scores), *after))
    width = max((len(row) for row in rows), default=2)
    rows = [(*row, *[NONE] * (width - len(row))) for row in rows]
    columns = ("model", "before", *(str(k) for k in range(width - 2)))
    under = found.joined[0].test if found.joined else ""
    return Table(f"mIoU (%) before a cut, and of the frames after it, under {under}", columns, tuple(rows))


def _at(score: FilmScore, offset: int) -> float:
    value = score.after_cut[offset] if offset < len(score.after_cut) else None
    return math.nan if value is None else value


def _cost(found: FilmComparison) -> Table:
    rows = []
    for model in found.models:
        runs = found.run_of(model)
        rows.append(
            (
                model,
                short(average(run.parameters for run in runs)),
                short(average(run.macs for run in runs)),
                short(average(run.passes for run in runs)),
                spread((run.seconds for run in runs), scale=1),
                number(1000 * average(run.seconds_per_frame for run in runs), ".2f"),
            )
        )
    columns = ("model", "params", "MACs a frame", "passes", "training (s)", "ms a frame")
    note = (
        "Passes are forward passes of a training batch, each with its backward pass, of as many frames in all models."
    )
    return Table("What it costs", columns, tuple(rows), note=note)
