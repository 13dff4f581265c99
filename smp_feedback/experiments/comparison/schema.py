"""``results.json``, checked key by key and read as a :class:`.results.Comparison`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smp_feedback.errors import InvalidInput, did_you_mean, suggestion
from smp_feedback.evaluation.results import SCORES
from smp_feedback.experiments.comparison.results import (
    CLEAN,
    MODELS,
    Comparison,
    ComparisonRun,
    ComparisonScore,
    Size,
)
from smp_feedback.experiments.schema import Schema, check_score, number, once

SCHEMA = Schema("comparison", "smp-feedback compare")
LATER = ("passes", "macs", "once_macs", "train_macs", "by_size")  # what older results do not say of a run


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
    needed = [key for key in ComparisonRun.__dataclass_fields__ if key not in LATER]
    facts = {key: SCHEMA.need(run, key, where) for key in needed}
    if facts["model"] not in MODELS:
        close = suggestion(did_you_mean(facts["model"], MODELS), list(MODELS))
        raise InvalidInput(f"{where}: model={facts['model']!r}. {close}")
    where = f"{where} ({facts['model']}, seed {facts['seed']})"
    for key, least in (("seed", 0), ("images", 1), ("steps", 0), ("looks", 1), ("parameters", 0)):
        _whole(facts[key], f"{where}: {key}", least)
    passes = run.get("passes", facts["steps"] * facts["looks"])
    _whole(passes, f"{where}: passes", 0)
    scores: dict[tuple[str, int, int], ComparisonScore] = {}
    by_size: dict[Size, dict[int, ComparisonScore]] = {}
    for score in facts["scores"]:
        corruption, severity, looks = (
            SCHEMA.need(score, key, f"{where}: a score") for key in ("corruption", "severity", "looks")
        )
        _whole(severity, f"{where}: severity", 0)
        _whole(looks, f"{where}: looks", 1)
        clean = corruption == "clean" or severity == 0
        if score.get("size") is not None:
            by_size.setdefault(_size(score["size"], where), {})[looks] = _score(score, where, classes)
        else:
            scores[(*CLEAN, looks) if clean else (corruption, severity, looks)] = _score(score, where, classes)
    floats = {key: number(run.get(key)) for key in ("seconds", "seconds_per_image", "kept_mb", "macs", "train_macs")}
    floats["once_macs"] = number(run.get("once_macs", 0.0))
    return ComparisonRun(**{**facts, **floats, "scores": scores, "passes": passes, "by_size": by_size})


def _score(score: Mapping[str, Any], where: str, classes: int) -> ComparisonScore:
    value, per_class, ece = (SCHEMA.need(score, key, f"{where}: a score") for key in ("score", "per_class", "ece"))
    solved = score.get("solved")  # older results have none
    check_score(per_class or [None] * classes, classes, where, score=value, ece=ece, solved=solved)
    topology = score.get("topology") or {}
    if not isinstance(topology, Mapping):
        raise InvalidInput(f"{where}: topology={topology!r:.80}: expected numbers by the name of a metric.")
    connected = {name: number(one) for name, one in topology.items()}
    return ComparisonScore(number(value), number(ece), tuple(per_class or ()), number(solved), connected)


def _size(value: Any, where: str) -> Size:
    """A side, or height and width."""
    sides = value if isinstance(value, (list, tuple)) and len(value) == 2 else [value]
    for side in sides:
        _whole(side, f"{where}: size", 1)
    return value if value is sides[0] else (sides[0], sides[1])


def _whole(value: object, name: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInput(f"{name}={value!r}: expected a whole number >= {least}.")
