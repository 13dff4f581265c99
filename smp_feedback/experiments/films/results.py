"""What a comparison on films measured, checked, and asked by model, test and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation.statistics import Paired
from smp_feedback.experiments.films.rivals import CARRIED, RIVALS
from smp_feedback.experiments.schema import Schema, check_score, number, once

SCHEMA = Schema("film comparison", "smp-feedback compare --task film")
BySeed = dict[int, float]


class FilmTest(NamedTuple):
    """How films were shown, and read.

    Attributes:
        test: ``clean``, or a corruption and its severity.
        joined: Whether each film goes over into another.
        reset: Whether a carried state begins anew where it changes as at a cut.
    """

    test: str
    joined: bool = False
    reset: bool = False


class FilmScore(NamedTuple):
    """One evaluation, see `FilmScores`; NaN or None where there was nothing to count."""

    miou: float
    flicker: float
    hidden: float
    by_frame: tuple[float | None, ...]
    after_cut: tuple[float | None, ...]
    before_cut: float
    rate: float


class FilmRun(NamedTuple):
    """One trained model, what it took, and its scores by model (itself, or another reading of it) and test."""

    model: str
    seed: int
    seconds: float
    steps: int
    passes: int
    parameters: int
    macs: float
    seconds_per_frame: float
    cut: Mapping[str, Any] | None
    scores: Mapping[tuple[str, FilmTest], FilmScore]


@dataclass(frozen=True)
class FilmComparison:
    """``films.json``, checked."""

    command: str
    settings: Mapping[str, Any]
    hardware: str
    classes: tuple[str, ...]
    runs: tuple[FilmRun, ...]

    @property
    def models(self) -> list[str]:
        """Those that were scored, in the usual order."""
        found = {model for run in self.runs for model, _ in run.scores}
        return [model for model in RIVALS if model in found]

    @property
    def rivals(self) -> list[str]:
        """All of them but the carried state."""
        return [model for model in self.models if model != CARRIED]

    @property
    def tests(self) -> list[FilmTest]:
        """What whole films were shown under."""
        return [*dict.fromkeys(test for run in self.runs for _, test in run.scores if not test.joined)]

    @property
    def joined(self) -> list[FilmTest]:
        """The same of joined films, going on first."""
        return sorted({test for run in self.runs for _, test in run.scores if test.joined}, key=lambda one: one.reset)

    def run_of(self, model: str) -> list[FilmRun]:
        """The runs whose weights *model* has."""
        return [run for run in self.runs if run.model == RIVALS[model].trained]

    def scores(self, model: str, test: FilmTest) -> dict[int, FilmScore]:
        """By seed."""
        found = {run.seed: run.scores.get((model, test)) for run in self.run_of(model)}
        return {seed: score for seed, score in sorted(found.items()) if score is not None}

    def values(self, model: str, test: FilmTest, measure: str = "miou") -> BySeed:
        """The finite values of *measure*, by seed."""
        found = {seed: getattr(score, measure) for seed, score in self.scores(model, test).items()}
        return {seed: value for seed, value in found.items() if math.isfinite(value)}

    def gain(self, rival: str, test: FilmTest, measure: str = "miou") -> Paired:
        """Carried less *rival*, over the seeds that both have."""
        own, theirs = self.values(CARRIED, test, measure), self.values(rival, test, measure)
        return Paired(tuple(own[seed] - theirs[seed] for seed in sorted(own.keys() & theirs.keys())))


def parse(results: Mapping[str, Any]) -> FilmComparison:
    """*results* as a :class:`FilmComparison`.

    Raises:
        InvalidInput: If they are none, or a key or value is missing or cannot be.
    """
    found = SCHEMA.opened(results)
    runs = tuple(_run(run, f"Run {i}", len(found["classes"])) for i, run in enumerate(found["runs"]))
    once(f"{run.model}, seed {run.seed}" for run in runs)
    return FilmComparison(**{**found, "runs": runs})


def _run(run: Mapping[str, Any], where: str, classes: int) -> FilmRun:
    facts = {key: SCHEMA.need(run, key, where) for key in FilmRun._fields}
    if facts["model"] not in {rival.trained for rival in RIVALS.values()}:
        raise InvalidInput(f"{where}: model={facts['model']!r}, expected one of {', '.join(RIVALS)}.")
    where = f"{where} ({facts['model']}, seed {facts['seed']})"
    scores = {}
    for score in facts["scores"]:
        model, *test = (SCHEMA.need(score, key, f"{where}: a score") for key in ("model", *FilmTest._fields))
        if model not in RIVALS or RIVALS[model].trained != facts["model"]:
            raise InvalidInput(f"{where}: scores of {model!r}, which is no reading of this run.")
        scores[model, FilmTest(*test)] = _score(score, where, classes)
    return FilmRun(**{**facts, "scores": scores})


def _score(score: Mapping[str, Any], where: str, classes: int) -> FilmScore:
    facts = {key: SCHEMA.need(score, key, f"{where}: a score") for key in FilmScore._fields}
    shares = {name: facts[name] for name in ("miou", "flicker", "hidden", "before_cut")}
    check_score(score.get("per_class") or [None] * classes, classes, where, **shares)
    for name in ("by_frame", "after_cut"):
        _ = [number(value) for value in facts[name]]
    plain = {name: number(value) for name, value in shares.items()}
    lists = {name: tuple(facts[name]) for name in ("by_frame", "after_cut")}
    return FilmScore(**{**facts, **plain, **lists, "rate": number(facts["rate"])})
