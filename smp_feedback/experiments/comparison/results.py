"""What a comparison measured, asked by condition, model and seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from smp_feedback.evaluation.results import SCORES
from smp_feedback.evaluation.statistics import Paired

FEEDBACK = "feedback"
USUAL = ("plain", "one-step", "equal-compute")  # the twins that are compared unless others are asked for
TWINS = (*USUAL, "equal-inference", "equal-inference-3x")
MODELS = (FEEDBACK, *TWINS)
CLEAN = ("clean", 0)
SOLVED = "solved"
Size = int | tuple[int, int]


class ScoredCondition(NamedTuple):
    """What a model was trained on, and what it was then shown."""

    train: str
    images: int
    corruption: str
    severity: int

    @property
    def test(self) -> str:
        """``clean``, or ``name:severity``."""
        return label(self.corruption, self.severity)

    @property
    def as_trained(self) -> bool:
        """Whether it was tested on what it was trained on."""
        return self.test == self.train

    @property
    def clean(self) -> bool:
        """Whether it was tested on clean images."""
        return (self.corruption, self.severity) == CLEAN

    def __str__(self) -> str:
        count = f"{self.images} image{'s' * (self.images != 1)}"
        return f"trained on {count}, {self.train}; tested on {self.test}"


class ComparisonScore(NamedTuple):
    """One evaluation: score, ECE and the share of images solved, in [0, 1] (NaN where there is none).

    A class's score is None where it is absent. An image is solved where every scored pixel is right. *topology* is
    connectivity by the name of a metric, where it was measured.
    """

    score: float
    ece: float
    per_class: tuple[float | None, ...]
    solved: float = math.nan
    topology: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class ComparisonRun:
    """One trained model: how, at what cost, and its scores.

    Attributes:
        model, seed, train, images: Which it is.
        steps: Optimiser steps.
        looks: How often it looks at an image unless it is told otherwise.
        seconds: Of its training.
        seconds_per_image, kept_mb, parameters: See :mod:`smp_feedback.experiments.cost`.
        scores: By (corruption, severity, looks); empty where it was scored at several sizes.
        passes: Forward passes of the base that its training is worth, each followed by its backward pass; one without
            counts a third.
        macs: Multiply-adds for an image as in training, after ``looks`` looks; NaN in older results.
        once_macs: Those of them that a call runs once, however many looks it has.
        train_macs: Multiply-adds of the forward passes in training, for one image of each batch; one without a backward
            pass counts a third. NaN in older results.
        by_size: Scores on what it was trained on, by the test images' size, as settings have it, and looks.
    """

    model: str
    seed: int
    train: str
    images: int
    steps: int
    looks: int
    seconds: float
    seconds_per_image: float
    kept_mb: float
    parameters: int
    scores: Mapping[tuple[str, int, int], ComparisonScore]
    passes: int
    macs: float = math.nan
    once_macs: float = 0.0
    train_macs: float = math.nan
    by_size: Mapping[Size, Mapping[int, ComparisonScore]] = field(default_factory=dict)

    def macs_after(self, looks: int) -> float:
        """Multiply-adds for an image, after so many *looks*."""
        return self.once_macs + (self.macs - self.once_macs) * looks / self.looks

    @property
    def training_macs(self) -> float:
        """Its ``train_macs``; of older results, which do not hold them, what its steps or passes come to."""
        if math.isfinite(self.train_macs):
            return self.train_macs
        return self.passes * self.macs / self.looks if self.model == FEEDBACK else self.steps * self.macs

    @property
    def every_score(self) -> tuple[ComparisonScore, ...]:
        """All of its scores."""
        return (*self.scores.values(), *(score for looks in self.by_size.values() for score in looks.values()))


ModelSeed = tuple[str, int]  # model, seed
ScoreTable = dict[ScoredCondition, dict[ModelSeed, float]]
SizeTable = dict[tuple[str, int], dict[Size, dict[int, float]]]  # (model, looks): size: seed
Value = Callable[[ComparisonScore], float | None]


@dataclass(frozen=True)
class Comparison:
    """``results.json``, checked."""

    command: str
    settings: Mapping[str, Any]
    hardware: str
    classes: tuple[str, ...]
    task: str
    runs: tuple[ComparisonRun, ...]
    versions: Mapping[str, str]

    @property
    def metric(self) -> str:
        """``mIoU`` or ``accuracy``."""
        return SCORES[self.task]

    @property
    def measure(self) -> str:
        """What models are compared by at several sizes: ``solved``, or the metric."""
        return SOLVED if self.settings.get("score") == SOLVED else self.metric

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The sizes of test images, smallest first; none where all are of one."""
        return tuple(sorted({size for run in self.runs for size in run.by_size}, key=pixels))

    @property
    def models(self) -> tuple[str, ...]:
        """The models that have a run, feedback first."""
        return tuple(model for model in MODELS if any(run.model == model for run in self.runs))

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Every (train, images), clean first, then as measured."""
        found = dict.fromkeys((run.train, run.images) for run in self.runs)
        order = list(dict.fromkeys(train for train, _ in found))
        return tuple(sorted(found, key=lambda group: (group[0] != "clean", order.index(group[0]), group[1])))

    def scores(self, value: Value = lambda score: score.score) -> ScoreTable:
        """Every finite *value*, at the looks a model was trained with, by condition and then (model, seed)."""
        table: ScoreTable = {}
        for run in self.runs:
            for (corruption, severity, looks), score in run.scores.items():
                found = value(score)
                if looks == run.looks and found is not None and math.isfinite(found):
                    condition = ScoredCondition(run.train, run.images, corruption, severity)
                    table.setdefault(condition, {})[run.model, run.seed] = found
        return table

    def class_scores(self) -> dict[str, ScoreTable]:
        """The scores of each class, as :meth:`scores` gives them; empty where a class is absent throughout."""

        def part(score: ComparisonScore, i: int) -> float | None:
            return score.per_class[i] if score.per_class else None

        return {name: self.scores(partial(part, i=i)) for i, name in enumerate(self.classes)}

    def at_sizes(self, train: str, images: int, value: Value | None = None) -> SizeTable:
        """Every finite score by size of the models of one group, by (model, looks), size and seed; in MODELS' order.

        *value* is what of a score is asked for; None is what models are compared by.
        """
        measure = value or ((lambda score: score.solved) if self.measure == SOLVED else (lambda score: score.score))
        table: SizeTable = {}
        for run in (run for run in self.runs if (run.train, run.images) == (train, images)):
            for size in sorted(run.by_size, key=pixels):
                for looks, score in sorted(run.by_size[size].items()):
                    one = measure(score)
                    if one is not None and math.isfinite(one):
                        table.setdefault((run.model, looks), {}).setdefault(size, {})[run.seed] = one
        return dict(sorted(table.items(), key=lambda row: (MODELS.index(row[0][0]), row[0][1])))

    def looks(self, value: Value = lambda score: score.score) -> dict[tuple[str, int], dict[int, dict[int, float]]]:
        """Every finite *value* of the feedback model on what it was trained on, by (train, images), looks and seed."""
        found: dict[tuple[str, int], dict[int, dict[int, float]]] = {}
        for run in (run for run in self.runs if run.model == FEEDBACK):
            for (corruption, severity, looks), score in sorted(run.scores.items()):
                one = value(score)
                if label(corruption, severity) == run.train and one is not None and math.isfinite(one):
                    found.setdefault((run.train, run.images), {}).setdefault(looks, {})[run.seed] = one
        return {group: found[group] for group in self.groups if len(found.get(group, ())) > 1}


def label(corruption: str, severity: int) -> str:
    """The name of a test condition, as the training conditions are named."""
    return "clean" if (corruption, severity) == CLEAN else f"{corruption}:{severity}"


def pixels(size: Size) -> int:
    """How large, by which sizes are ordered.

    >>> pixels(4), pixels((3, 5))
    (16, 15)
    """
    height, width = (size, size) if isinstance(size, int) else size
    return height * width


def select(table: ScoreTable, **fields: object) -> ScoreTable:
    """The conditions whose fields (of :class:`ScoredCondition`, ``as_trained`` and ``clean`` too) have these values."""
    return {
        condition: row
        for condition, row in table.items()
        if all(getattr(condition, name) == value for name, value in fields.items())
    }


def kinds(table: ScoreTable) -> dict[str, ScoreTable]:
    """The conditions by whether they are those a model was trained on; one kind where there is but one."""
    parts = {"as trained": select(table, as_trained=True), "otherwise": select(table, as_trained=False)}
    return {name: part for name, part in parts.items() if part}


def only(table: ScoreTable, *models: str) -> ScoreTable:
    """The conditions that each of *models* has, for the seeds that all of them have."""
    kept: ScoreTable = {}
    for condition, row in table.items():
        seeds = [{seed for model, seed in row if model == name} for name in models]
        shared = set.intersection(*seeds)
        if shared:
            kept[condition] = {key: row[key] for key in row if key[0] in models and key[1] in shared}
    return kept


def matched(table: ScoreTable) -> ScoreTable:
    """The conditions that every (model, seed) of the table has, so that means are over the same ones.

    Where no condition has them all, those (model, seed) remain that every condition has.
    """
    everyone = {key for row in table.values() for key in row}
    full = {condition: row for condition, row in table.items() if set(row) == everyone}
    if full or not table:
        return full
    everywhere = set.intersection(*map(set, table.values()))
    return {condition: {key: row[key] for key in row if key in everywhere} for condition, row in table.items()}


def means(table: ScoreTable) -> dict[str, dict[int, float]]:
    """Mean over the matched conditions, by model and seed."""
    kept = list(matched(table).values())
    averages: dict[str, dict[int, float]] = {}
    for model, seed in sorted(kept[0]) if kept else ():
        averages.setdefault(model, {})[seed] = math.fsum(row[model, seed] for row in kept) / len(kept)
    return averages


def paired(table: ScoreTable, twin: str) -> Paired:
    """Feedback - *twin* over the seeds both have, each seed averaged over the matched conditions first."""
    averages = means(only(table, FEEDBACK, twin))
    if not averages:
        return Paired(())
    return Paired(tuple(averages[FEEDBACK][seed] - averages[twin][seed] for seed in sorted(averages[twin])))


def average(values: Iterable[float]) -> float:
    """The mean of what is finite; NaN without any."""
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan
