"""What an ablation measured, checked, and asked by line of the table, pass and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation.statistics import Paired
from smp_feedback.experiments.ablation.rows import CLEAN, IMAGES, ROWS, Line, lines

MEASURES = ("score", "l1", "psnr")
Seeded = dict[int, float]


class Score(NamedTuple):
    """One pass: mIoU and each class's IoU in [0, 1], None of an absent one; L1 and PSNR (dB) of what M saw."""

    score: float
    per_class: tuple[float | None, ...]
    l1: float
    psnr: float


class Run(NamedTuple):
    """One trained model, its scores by (images, pass), and what it took: of M and of R."""

    row: str
    seed: int
    seconds: float
    seconds_per_image: float
    updates: Mapping[str, int]
    passes: Mapping[str, int]
    parameters: Mapping[str, int]
    scores: Mapping[tuple[str, int], Score]

    def last(self, images: str) -> Score | None:
        """The answer: the last pass on *images*."""
        every = [t for shown, t in self.scores if shown == images]
        return self.scores[images, max(every)] if every else None


@dataclass(frozen=True)
class Ablation:
    """``ablation.json``, checked."""

    command: str
    settings: Mapping[str, Any]
    hardware: str
    classes: tuple[str, ...]
    runs: tuple[Run, ...]

    @property
    def lines(self) -> list[Line]:
        """The table's lines, of what was trained."""
        return lines([run.row for run in self.runs])

    @property
    def seeds(self) -> list[int]:
        """Every seed of which there is a run."""
        return sorted({run.seed for run in self.runs})

    def of(self, line: Line) -> list[Run]:
        """The runs of *line*, by seed."""
        return sorted((run for run in self.runs if run.row == line.row), key=lambda run: run.seed)

    def scores(self, line: Line, measure: str = "score", at: int | None = None) -> Seeded:
        """A measure of the last pass, or of pass *at*, by seed; what is no number is left out."""
        found = {}
        for run in self.of(line):
            score = run.last(line.images) if at is None else run.scores.get((line.images, at))
            value = math.nan if score is None else getattr(score, measure)
            if math.isfinite(value):
                found[run.seed] = value
        return found

    def class_scores(self, line: Line, index: int) -> Seeded:
        """The IoU of one class, by seed; where it is absent there is none."""
        last = {run.seed: run.last(line.images) for run in self.of(line)}
        values = {seed: score.per_class[index] for seed, score in last.items() if score is not None}
        return {seed: value for seed, value in values.items() if value is not None}

    def passes(self, line: Line) -> int:
        """How many there are."""
        return max((t + 1 for run in self.of(line) for images, t in run.scores if images == line.images), default=0)

    def gain(self, line: Line, over: Line | None) -> Paired:
        """mIoU of *line* - mIoU of *over*, over the seeds that both have."""
        here, there = self.scores(line), {} if over is None else self.scores(over)
        return Paired(tuple(here[seed] - there[seed] for seed in sorted(here.keys() & there.keys())))


def parse(results: Mapping[str, Any]) -> Ablation:
    """*results* as an :class:`Ablation`.

    Raises:
        InvalidInput: If they are none, or a key or value is missing or cannot be.
    """
    if not isinstance(results, Mapping) or results.get("kind") != "ablation" or results.get("version") != 1:
        raise InvalidInput("expected the results of an ablation: kind='ablation', version=1.")
    keys = ("command", "settings", "hardware", "classes", "runs")
    command, settings, hardware, classes, runs = (_need(results, key, "The ablation") for key in keys)
    found = tuple(_run(run, f"Run {i}", len(classes)) for i, run in enumerate(runs))
    seen = [(run.row, run.seed) for run in found]
    if twice := {key for key in seen if seen.count(key) > 1}:
        row, seed = min(twice)
        raise InvalidInput(f"Two runs of {row}, seed {seed}: keep one.")
    return Ablation(command, settings, hardware, tuple(classes), found)


def _run(run: Mapping[str, Any], where: str, classes: int) -> Run:
    facts = {key: _need(run, key, where) for key in Run._fields}
    if facts["row"] not in ROWS:
        raise InvalidInput(f"{where}: row={facts['row']!r}, expected one of {', '.join(ROWS)}.")
    where = f"{where} ({facts['row']}, seed {facts['seed']})"
    for key in ("updates", "passes", "parameters"):
        _ = [_need(facts[key], part, f"{where}: {key}") for part in ("M", "R")]
    scores = {}
    for score in facts["scores"]:
        images, at = (_need(score, key, f"{where}: a score") for key in ("images", "pass"))
        if images not in IMAGES:
            raise InvalidInput(f"{where}: images={images!r}, expected {' or '.join(IMAGES)}.")
        scores[images, at] = _score(score, where, classes)
    if facts["row"] == CLEAN and not {images for images, _ in scores} == set(IMAGES):
        raise InvalidInput(f"{where}: expected scores on clean and on distorted images.")
    return Run(**{**facts, "scores": scores})


def _score(score: Mapping[str, Any], where: str, classes: int) -> Score:
    per_class, *values = (_need(score, key, f"{where}: a score") for key in ("per_class", *MEASURES))
    if len(per_class) != classes:
        raise InvalidInput(f"{where}: per_class has {len(per_class)} values for {classes} classes.")
    numbers = dict(zip(MEASURES, (math.nan if value is None else float(value) for value in values), strict=True))
    if not (math.isnan(numbers["score"]) or 0 <= numbers["score"] <= 1):
        raise InvalidInput(f"{where}: score={numbers['score']!r}, expected a number in [0, 1], or null.")
    return Score(per_class=tuple(per_class), **numbers)


def _need(found: Mapping[str, Any], key: str, where: str) -> Any:
    if not isinstance(found, Mapping) or key not in found:
        raise InvalidInput(f"{where} lacks {key!r}: expected the results of `restore ablation`, whole.")
    return found[key]
