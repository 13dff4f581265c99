"""The comparison, declared: every model of its settings trained and scored alike, and a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.evaluation.measures import check_measurable
from smp_feedback.experiments.comparison.brief import brief, told
from smp_feedback.experiments.comparison.pictures import draw_pictures
from smp_feedback.experiments.comparison.report import write_report
from smp_feedback.experiments.comparison.runs import (
    ComparisonKey,
    keys,
    lesson,
    passes_of,
    run,
    trained_otherwise,
    training_data,
    untrained,
)
from smp_feedback.experiments.comparison.settings import ComparisonSettings
from smp_feedback.experiments.comparison.tables import connected
from smp_feedback.experiments.engine import Experiment
from smp_feedback.experiments.runs import check_apart, facts, held_out
from smp_feedback.training.build import check_size


def plan(settings: ComparisonSettings) -> str:
    """What is about to be done, in a sentence."""
    count = len([*keys(settings)])
    return (
        f"{count} model{'s' * (count > 1)} of {settings.arch} on {settings.data}: {', '.join(settings.models)}; "
        f"{settings.train_steps} steps of {settings.batch_size} images each (T = {_looks(settings)}), "
        f"{settings.seeds} seed{'s' * (settings.seeds > 1)}, trained under {', '.join(settings.train)}, on "
        f"{', '.join('all' if not n else str(n) for n in settings.train_count)} images{_tests(settings)}."
    )


def _looks(settings: ComparisonSettings) -> str:
    low, high = settings.unrolling.span
    return str(high) if low == high else f"{low} to {high}"


def _tests(settings: ComparisonSettings) -> str:
    if settings.sizes is None:
        return ""
    looks = settings.looks or [settings.trained_looks]
    return f"; tested at sizes {', '.join(map(str, settings.sizes))}, after {', '.join(map(str, looks))} looks"


def check(settings: ComparisonSettings) -> None:
    """Open every split and build every model once, before hours are spent."""
    check_measurable(facts(settings).task, topology=bool(settings.topology))
    images = [_first_image(settings, size) for size in ([None] if settings.sizes is None else settings.sizes)]
    check_apart(settings)
    wanted = [ComparisonKey("feedback", settings.conditions[0], n, 0) for n in settings.train_count]
    counts = [training_data(settings, key)[1] for key in wanted]
    if len(set(counts)) < len(counts):
        raise InvalidValue(
            f"train_count={settings.train_count}: 0 is all of them, {max(counts)}; expected each number once."
        )
    for key in (wanted[0]._replace(model=name) for name in settings.models):
        twin = untrained(settings, key)
        lesson(settings, key, twin)
        for image in images if settings.sizes else ():
            check_size(twin.model, image, "sizes")


def _first_image(settings: ComparisonSettings, size: Any) -> tuple[int, ...]:
    """Its shape, at *size*."""
    try:
        return tuple(held_out(settings, size)[0][0].shape)
    except (InvalidType, InvalidValue) as error:
        if size is not None:  # of one of them, and not of the size of training
            error.args = (f"sizes={settings.sizes}: {error}",)
        raise


def gather(settings: ComparisonSettings) -> dict[str, Any]:
    """What the results say of the data."""
    about = facts(settings)
    return {"classes": list(about.classes), "ignore_index": about.ignore_index, "task": about.task}


def report(settings: ComparisonSettings, results: Mapping[str, Any], folder: Path) -> list[Path]:
    """The page, its figures, and pictures of what the models say."""
    return write_report(results, folder, draw_pictures(settings, folder))


compare = Experiment[ComparisonSettings, ComparisonKey](
    results="results.json",
    keys=keys,
    passes=passes_of,
    plan=plan,
    check=check,
    run=run,
    gather=gather,
    report=report,
    tables=lambda results: [brief(results), *connected(results)],
    summary=told,
    differs=trained_otherwise,
)
