"""All runs of a comparison, several at a time, each kept as soon as it is there; then the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from smp_feedback.checks import check_whole
from smp_feedback.errors import InvalidValue
from smp_feedback.experiments.comparison.pictures import draw_pictures
from smp_feedback.experiments.comparison.report import write_report
from smp_feedback.experiments.comparison.runs import Key, held_out, keys, opened, run, task_of, training_data
from smp_feedback.experiments.comparison.settings import Settings
from smp_feedback.experiments.comparison.variants import make_twin
from smp_feedback.experiments.cost import hardware
from smp_feedback.experiments.store import MODELS, all_runs, alone, claim
from smp_feedback.training.checkpoints import check_room
from smp_feedback.training.trainer import check_accelerator

WHAT = "a comparison"
ROOM = 100_000_000  # bytes: reports, pictures and the weights of a few small models
Advance = Callable[[Key, Mapping[str, Any] | None], None]


def compare(
    settings: Settings,
    out: str | Path,
    *,
    jobs: int = 1,
    accelerator: str = "auto",
    command: str = "",
    begin: Callable[[], None] = lambda: None,
    advance: Advance = lambda key, found: None,
) -> list[Path]:
    """Train and score every model of *settings*, and write the report.

    A run that is finished is kept in ``out/runs``; when a comparison with the same settings is started again, only
    what is missing is trained.

    Args:
        settings: What is compared.
        out: The folder for everything written.
        jobs: Processes that train at the same time, each with its share of the cores; the models are the same for
            one number of threads.
        accelerator: Lightning's.
        command: How this was asked for, for the report.
        begin: Called once it is known that all of it can be done.
        advance: Called with each key, and its run once it is there or None as it begins (progress bars).

    Returns:
        The files written.

    Raises:
        InvalidValue: If *out* holds a comparison with other settings, or one is running there; if *accelerator* is not
            there.
        FeedbackError: If the data, the base or the folder cannot be had; before any training.
    """
    check_whole("jobs", jobs)
    check_accelerator(accelerator)
    folder = Path(out)
    check_room(folder, ROOM)
    check_data(settings)
    with alone(folder, WHAT):
        claim(folder, settings.to_dict(), WHAT)
        begin()
        work = partial(run, settings, folder=folder / MODELS, accelerator=accelerator)
        found = all_runs(folder, keys(settings), work, jobs, advance)
        return write_report(gathered(settings, found, command), folder, draw_pictures(settings, folder))


def check_data(settings: Settings) -> None:
    """Open every split and build every model once, before hours are spent."""
    held_out(settings)[0]
    counts = [training_data(settings, Key("feedback", settings.conditions[0], n, 0))[1] for n in settings.images]
    if len(set(counts)) < len(counts):
        raise InvalidValue(f"images={settings.images}: 0 is all of them, {max(counts)}; expected each number once.")
    about: Any = opened(settings, settings.split)
    for name in settings.models:
        make_twin(name, settings, len(about.classes), 0)


def gathered(settings: Settings, runs: Iterable[Mapping[str, Any]], command: str) -> dict[str, Any]:
    """The results, as ``results.json`` holds them."""
    about: Any = opened(settings, settings.split)
    return {
        "kind": "comparison",
        "version": 1,
        "command": command,
        "settings": settings.to_dict(),
        "hardware": hardware(),
        "classes": list(about.classes),
        "ignore_index": about.ignore_index,
        "task": task_of(about),
        "runs": list(runs),
    }
