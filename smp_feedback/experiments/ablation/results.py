"""What an ablation measured, checked, and asked by line of the table, pass and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation.statistics import Paired
from smp_feedback.experiments.ablation.rows import CLEAN, IMAGES, ROWS, AblationLine, lines
from smp_feedback.experiments.schema import Schema, check_score, number, once

SCHEMA = Schema("ablation", "restore ablation")
BySeed = dict[int, float]


class AblationScore(NamedTuple):
    """One pass: mIoU and each class's IoU in [0, 1], None of an absent one; L1 and PSNR (dB) of what M saw."""

    score: float
    per_class: tuple[float | None, ...]
    l1: float
    psnr: float


class AblationRun(NamedTuple):
    """One trained model, its scores by (images, pass), and what it took: of M and of R."""

    row: str
    seed: int
    seconds: float
    seconds_per_image: float
    updates: Mapping[str, int]
    passes: Mapping[str, int]
    parameters: Mapping[str, int]
    scores: Mapping[tuple[str, int], AblationScore]

    def last(self, images: str) -> AblationScore | None:
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
    runs: tuple[AblationRun, ...]

    @property
    def lines(self) -> list[AblationLine]:
        """The table's lines, of what was trained."""
        return lines([run.row for run in self.runs])

    @property
    def seeds(self) -> list[int]:
        """Every seed of which there is a run."""
        return sorted({run.seed for run in self.runs})

    def of(self, line: AblationLine) -> list[AblationRun]:
        """The runs of *line*, by seed."""
        return sorted((run for run in self.runs if run.row == line.row), key=lambda run: run.seed)

    def scores(self, line: AblationLine, measure: str = "score", at: int | None = None) -> BySeed:
        """A measure of the last pass, or of pass *at*, by seed; what is no number is left out."""
        found = {}
        for run in self.of(line):
            score = run.last(line.images) if at is None else run.scores.get((line.images, at))
            value = math.nan if score is None else getattr(score, measure)
            if math.isfinite(value):
                found[run.seed] = value
        return found

    def class_scores(self, line: AblationLine, index: int) -> BySeed:
        """The IoU of one class, by seed; where it is absent there is none."""
        last = {run.seed: run.last(line.images) for run in self.of(line)}
        values = {seed: score.per_class[index] for seed, score in last.items() if score is not None}
        return {seed: value for seed, value in values.items() if value is not None}

    def passes(self, line: AblationLine) -> int:
        """How many there are."""
        return max((t + 1 for run in self.of(line) for images, t in run.scores if images == line.images), default=0)

    def gain(self, line: AblationLine, over: AblationLine | None) -> Paired:
        """mIoU of *line* - mIoU of *over*, over the seeds that both have."""
        here, there = self.scores(line), {} if over is None else self.scores(over)
        return Paired(tuple(here[seed] - there[seed] for seed in sorted(here.keys() & there.keys())))


def parse(results: Mapping[str, Any]) -> Ablation:
    """*results* as an :class:`Ablation`.

    Raises:
        InvalidInput: If they are none, or a key or value is missing or cannot be.
    """
    found = SCHEMA.opened(results)
    runs = tuple(_run(run, f"Run {i}", len(found["classes"])) for i, run in enumerate(found["runs"]))
    once(f"{run.row}, seed {run.seed}" for run in runs)
    return Ablation(**{**found, "runs": runs})


def _run(run: Mapping[str, Any], where: str, classes: int) -> AblationRun:
    facts = {key: SCHEMA.need(run, key, where) for key in AblationRun._fields}
    if facts["row"] not in ROWS:
        raise InvalidInput(f"{where}: row={facts['row']!r}, expected one of {', '.join(ROWS)}.")
    where = f"{where} ({facts['row']}, seed {facts['seed']})"
    for key in ("updates", "passes", "parameters"):
        _ = [SCHEMA.need(facts[key], part, f"{where}: {key}") for part in ("M", "R")]
    scores = {}
    for score in facts["scores"]:
        images, at = (SCHEMA.need(score, key, f"{where}: a score") for key in ("images", "pass"))
        if images not in IMAGES:
            raise InvalidInput(f"{where}: images={images!r}, expected {' or '.join(IMAGES)}.")
        scores[images, at] = _score(score, where, classes)
    if facts["row"] == CLEAN and not {images for images, _ in scores} == set(IMAGES):
        raise InvalidInput(f"{where}: expected scores on clean and on distorted images.")
    return AblationRun(**{**facts, "scores": scores})


def _score(score: Mapping[str, Any], where: str, classes: int) -> AblationScore:
    value, per_class, l1, psnr = (
        SCHEMA.need(score, key, f"{where}: a score") for key in ("score", "per_class", "l1", "psnr")
    )
    check_score(per_class, classes, where, score=value)
    return AblationScore(number(value), tuple(per_class), number(l1), number(psnr))
