"""``results.json``, checked key by key and read as a :class:`.results.Comparison`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smp_feedback.errors import InvalidInput, did_you_mean, suggestion
from smp_feedback.experiments.comparison.results import CLEAN, METRICS, MODELS, Comparison, Run, Score


def read_results(path: Path) -> dict[str, Any]:
    """The comparison in the file *path*, checked.

    Raises:
        InvalidInput: If it is no JSON, or no comparison of a version this package reads.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}") from error
    parse(results)
    return dict(results)


def parse(results: Mapping[str, Any]) -> Comparison:
    """*results* as a :class:`Comparison`.

    Raises:
        InvalidInput: If the kind or version is another, a key is missing, or a value cannot be.
    """
    if not isinstance(results, Mapping) or results.get("kind") != "comparison":
        kind = results.get("kind") if isinstance(results, Mapping) else type(results).__name__
        raise InvalidInput(f"kind={kind!r}: expected the results of a comparison (kind='comparison').")
    if results.get("version") != 1:
        raise InvalidInput(f"version={results.get('version')!r}: this smp_feedback reads comparisons of version 1.")
    keys = ("command", "settings", "hardware", "classes", "task", "runs")
    command, settings, hardware, classes, task, runs = (_need(results, key, "The comparison") for key in keys)
    if task not in METRICS:
        raise InvalidInput(f"task={task!r}: expected {' or '.join(METRICS)}.")
    for key, value, kind in (("settings", settings, Mapping), ("classes", classes, Sequence), ("runs", runs, Sequence)):
        if not isinstance(value, kind) or isinstance(value, str):
            raise InvalidInput(f"{key}={value!r:.80} ({type(value).__name__}): expected a {kind.__name__.lower()}.")
    parsed = tuple(_run(run, f"Run {i}", len(classes)) for i, run in enumerate(runs))
    _once(parsed)
    return Comparison(command, settings, hardware, tuple(classes), task, parsed, results.get("versions", {}))


def _run(run: Mapping[str, Any], where: str, classes: int) -> Run:
    facts = {key: _need(run, key, where) for key in Run.__dataclass_fields__}
    if facts["model"] not in MODELS:
        close = suggestion(did_you_mean(facts["model"], MODELS), list(MODELS))
        raise InvalidInput(f"{where}: model={facts['model']!r}. {close}")
    where = f"{where} ({facts['model']}, seed {facts['seed']})"
    for key, least in (("seed", 0), ("images", 1), ("steps", 0), ("looks", 1), ("parameters", 0)):
        _whole(facts[key], f"{where}: {key}", least)
    scores: dict[tuple[str, int, int], Score] = {}
    for score in facts["scores"]:
        corruption, severity, looks = (
            _need(score, key, f"{where}: a score") for key in ("corruption", "severity", "looks")
        )
        _whole(severity, f"{where}: severity", 0)
        _whole(looks, f"{where}: looks", 1)
        clean = corruption == "clean" or severity == 0
        scores[(*CLEAN, looks) if clean else (corruption, severity, looks)] = _score(score, where, classes)
    floats = {key: _number(facts[key]) for key in ("seconds", "seconds_per_image", "kept_mb")}
    return Run(**{**facts, **floats, "scores": scores})


def _score(score: Mapping[str, Any], where: str, classes: int) -> Score:
    value, per_class, ece = (_need(score, key, f"{where}: a score") for key in ("score", "per_class", "ece"))
    per_class = per_class or ()
    if len(per_class) not in (0, classes):
        raise InvalidInput(f"{where}: per_class has {len(per_class)} values for {classes} classes.")
    for name, number in (("score", value), ("ece", ece), *(("per_class", part) for part in per_class)):
        if _number(number) < -1e-6 or _number(number) > 1 + 1e-6:
            raise InvalidInput(f"{where}: {name}={number!r}, expected a number in [0, 1], or null.")
    return Score(_number(value), _number(ece), tuple(per_class))


def _once(runs: tuple[Run, ...]) -> None:
    seen: set[tuple[str, int, str, int]] = set()
    for run in runs:
        key = (run.model, run.seed, run.train, run.images)
        if key in seen:
            raise InvalidInput(f"Two runs of {run.model}, seed {run.seed}, {run.train}, {run.images} images: keep one.")
        seen.add(key)


def _need(found: Mapping[str, Any], key: str, where: str) -> Any:
    if not isinstance(found, Mapping) or key not in found:
        raise InvalidInput(f"{where} lacks {key!r}: expected the results of `smp-feedback compare`, whole.")
    return found[key]


def _whole(value: object, name: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInput(f"{name}={value!r}: expected a whole number >= {least}.")


def _number(value: float | None) -> float:
    """NaN where there is none."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise InvalidInput(f"{value!r} ({type(value).__name__}): expected a number, or null.")
    return math.nan if value is None else float(value)
