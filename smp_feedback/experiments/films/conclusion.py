"""A comparison on films in words: what carrying a state is ahead of, where that is not shown, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smp_feedback.evaluation.statistics import Paired, significance
from smp_feedback.experiments.comparison.results import average
from smp_feedback.experiments.comparison.sizes import joined as listed
from smp_feedback.experiments.films.results import FilmComparison, FilmTest, parse
from smp_feedback.experiments.films.rivals import CARRIED, PLAIN, RIVALS
from smp_feedback.experiments.films.tables import BEATEN, BEHIND, NOT_SHOWN, ONE_SEED, drift, verdict
from smp_feedback.experiments.table import spread

NEAR = 0.01  # of a point of mIoU: within it, a film is as right again as it was before a cut
WORDS = {
    BEATEN: "ahead of",
    BEHIND: "behind",
    NOT_SHOWN: "not shown to be ahead of",
    ONE_SEED: "one seed, no interval:",
}


def summary(results: Mapping[str, Any]) -> list[str]:
    """The conclusion, a sentence a test; then flicker, drift, cuts, what the seeds can show, and what is missing."""
    found = parse(results)
    lines = [conclusion(results), _flicker(found), _drift(found), *_cuts(found)]
    seeds = max((len(found.values(CARRIED, test)) for test in found.tests), default=0)
    return [line for line in (*lines, significance(seeds), *_gaps(found)) if line]


def told(results: Mapping[str, Any]) -> list[str]:
    """The answer, and what is missing for it."""
    return [conclusion(results), *_gaps(parse(results))]


def conclusion(results: Mapping[str, Any]) -> str:
    """What one look a frame is ahead of, by the 95 % interval over seeds: test by test.

    ``not shown`` is what an interval on both sides of zero says.

    Raises:
        InvalidInput: If *results* are no comparison on films.
    """
    found = parse(results)
    parts = [_against(found, test) for test in found.tests]
    said = [part for part in parts if part]
    return " ".join(said) or "Undecided: no seed has scores of a carried state and of a rival."


def _against(found: FilmComparison, test: FilmTest) -> str:
    gains = {rival: found.gain(rival, test) for rival in found.rivals}
    by: dict[str, list[str]] = {}
    for rival, gain in gains.items():
        if gain.values:
            by.setdefault(verdict(gain), []).append(f"{rival} ({_points(gain)})")
    if not by:
        return ""
    clauses = [f"{WORDS[what]} {listed(by[what])}" for what in WORDS if what in by]
    own = spread(found.values(CARRIED, test).values())
    return f"Under {test.test}, one look a frame (mIoU {own}) is {'; '.join(clauses)}."


def _points(gain: Paired) -> str:
    return f"{100 * gain.mean:+.1f}"


def _flicker(found: FilmComparison) -> str:
    parts = []
    for test in found.tests:
        own, plain = (average(found.values(model, test, "flicker").values()) for model in (CARRIED, PLAIN))
        if plain > 0 <= own:
            parts.append(f"{own / plain:.2f} under {test.test}")
    return f"Its flicker over plain's: {', '.join(parts)}." if parts else ""


def _drift(found: FilmComparison) -> str:
    parts = []
    for test in found.tests:
        gain = drift(found, CARRIED, test)
        if gain.values:
            parts.append(f"{_points(gain)} points under {test.test}")
    return f"Its last 16 frames over frames 8 to 15: {', '.join(parts)}." if parts else ""


def _cuts(found: FilmComparison) -> list[str]:
    """How soon a carried state is right again after a cut, and how well it knows one."""
    said = []
    for test in found.joined:
        scores = [*found.scores(CARRIED, test).values()]
        after = [_mean([score.after_cut[k : k + 1] for score in scores]) for k in range(8)] if scores else []
        before = average(score.before_cut for score in scores)
        near = [k for k, value in enumerate(after) if value > before - NEAR]
        soon = f"within a point of the {100 * before:.1f} before it after {near[0]} frames" if near else "not so soon"
        if scores:
            how = "beginning anew by the learned threshold" if test.reset else "going on"
            said.append(f"After a cut, {how}: mIoU {100 * after[0]:.1f} at first, and {soon}.")
    cuts = [run.cut for run in found.runs if run.cut]
    if cuts:
        said.append(f"Its state's change tells cuts with an AUC of {spread((c['auc'] for c in cuts), 1, 3)}.")
    return said


def _mean(parts: Sequence[Sequence[float | None]]) -> float:
    return average(value for part in parts for value in part if value is not None)


def _gaps(found: FilmComparison) -> list[str]:
    """Runs that are not there."""
    seeds = sorted({run.seed for run in found.runs})
    wanted = dict.fromkeys(RIVALS[model].trained for model in found.settings.get("models", ()) if model in RIVALS)
    there = {(run.model, run.seed) for run in found.runs}
    absent = [f"{model}, seed {seed}" for model in wanted for seed in seeds if (model, seed) not in there]
    return [f"No run of {'; '.join(absent)}."] if absent else []
