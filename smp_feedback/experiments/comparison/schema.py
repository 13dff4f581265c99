"""``results.json``, checked key by key and read as a :class:`.results.Comparison`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smp_feedback.errors import InvalidInput, did_you_mean, suggestion
from smp_feedback.evaluation.scores import SCORES
from smp_feedback.experiments.comparison.results import (
    CLEAN,
    MODELS,
    Comparison,
    ComparisonRun,
    ComparisonScore,
)
from smp_feedback.experiments.schema import Schema, check_score, number, once

SCHEMA = Schema("comparison", "smp-feedback compare")


def parse(results: Mapping[str, Any]) -> Comparison:
    """*results* as a :class:`Comparison`.

    Raises:
        InvalidInput: If the kind or version is another, a key is missing, or a value cannot be.
    """
    found = SCHEMA.opened(results)
    task = SCHEMA.need(results, "task", "The comparison")
    if task not in SCORES:
        raise InvalidInput(f"task={task!r}: expected {' or '.join(SCORES)}.")
    runs = tuple(_run(run, f"Run {i}", len(found["classes"])) for i, run in enumerate(found["runs"]))
    once(f"{run.model}, seed {run.seed}, {run.train}, {run.images} images" for run in runs)
    return Comparison(**{**found, "runs": runs}, task=task, versions=results.get("versions", {}))


def _run(run: Mapping[str, Any], where: str, classes: int) -> ComparisonRun:
    facts = {key: SCHEMA.need(run, key, where) for key in ComparisonRun.__dataclass_fields__}
    if facts["model"] not in MODELS:
        close = suggestion(did_you_mean(facts["model"], MODELS), list(MODELS))
        raise InvalidInput(f"{where}: model={facts['model']!r}. {close}")
    where = f"{where} ({facts['model']}, seed {facts['seed']})"
    for key, least in (("seed", 0), ("images", 1), ("steps", 0), ("looks", 1), ("parameters", 0)):
        _whole(facts[key], f"{where}: {key}", least)
    scores: dict[tuple[str, int, int], ComparisonScore] = {}
    for score in facts["scores"]:
        corruption, severity, looks = (
            SCHEMA.need(score, key, f"{where}: a score") for key in ("corruption", "severity", "looks")
        )
        _whole(severity, f"{where}: severity", 0)
        _whole(looks, f"{where}: looks", 1)
        clean = corruption == "clean" or severity == 0
        scores[(*CLEAN, looks) if clean else (corruption, severity, looks)] = _score(score, where, classes)
    floats = {key: number(facts[key]) for key in ("seconds", "seconds_per_image", "kept_mb")}
    return ComparisonRun(**{**facts, **floats, "scores": scores})


def _score(score: Mapping[str, Any], where: str, classes: int) -> ComparisonScore:
    value, per_class, ece = (SCHEMA.need(score, key, f"{where}: a score") for key in ("score", "per_class", "ece"))
    check_score(per_class or [None] * classes, classes, where, score=value, ece=ece)
    return ComparisonScore(number(value), number(ece), tuple(per_class or ()))


def _whole(value: object, name: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInput(f"{name}={value!r}: expected a whole number >= {least}.")
