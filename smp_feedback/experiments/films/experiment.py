"""The comparison on films, declared: a carried state and its rivals trained and scored alike, and a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.films.order import films_in
from smp_feedback.evaluation.results import save_result
from smp_feedback.experiments.engine import Experiment
from smp_feedback.experiments.films.conclusion import in_short, summary
from smp_feedback.experiments.films.frames import scored_frames, training_frames, validation_frames
from smp_feedback.experiments.films.rivals import RIVALS, trained
from smp_feedback.experiments.films.runs import (
    FilmKey,
    batch_of,
    facts,
    keys,
    lesson,
    run,
    trained_otherwise,
    untrained,
)
from smp_feedback.experiments.films.settings import FilmSettings
from smp_feedback.experiments.films.tables import shown, tables
from smp_feedback.plotting.plot import draw, save_figure
from smp_feedback.plotting.style import styled
from smp_feedback.saving.files import replace_file

RESULTS, FIGURE = "films.json", "films-{}.png"


def plan(settings: FilmSettings) -> str:
    """What is about to be done, in a sentence."""
    count = len([*keys(settings)])
    return (
        f"{count} trainings of {settings.arch} on {settings.data}: {', '.join(settings.models)}; "
        f"{settings.train_steps} batches of {settings.batch_size} clips of {settings.clip} frames, {settings.seeds} "
        f"seed{'s' * (settings.seeds > 1)}, under {', '.join(settings.train)}; tested under "
        f"{', '.join(settings.tests)}."
    )


def check(settings: FilmSettings) -> None:
    """Open every split and build every model once, before hours are spent."""
    about = facts(settings)
    if about.task != "segmentation":
        raise InvalidValue(f"data={settings.data}: expected frames with masks of labels, not {about.task}.")
    for condition in settings.tested:
        scored_frames(settings, condition)[0]
    validation_frames(settings)[0]
    if settings.joined is not None:
        _check_several(settings, settings.split, scored_frames(settings, settings.joined))
        _check_several(settings, settings.tuned, validation_frames(settings))
    for name in trained(settings.models):
        frames = training_frames(settings, RIVALS[name], 0)
        if len(frames) < batch_of(settings, name):
            raise InvalidValue(
                f"batch_size={settings.batch_size}: {name} has {batch_of(settings, name)} in a batch, and there are "
                f"{len(frames)}; give fewer, or more images."
            )
        lesson(settings, FilmKey(name, 0), untrained(settings, FilmKey(name, 0), about), about)


def _check_several(settings: FilmSettings, split: str, frames: Any) -> None:
    """There are films that can go over into each other."""
    frames[0]
    if (films := len(films_in(frames).places)) < 2:
        raise InvalidValue(
            f"cuts={settings.cuts!r}: films go over into each other, and {split!r} has {films}; expected two or more, "
            "or cuts: null."
        )


def report(settings: FilmSettings, results: Mapping[str, Any], folder: Path) -> list[Path]:
    """``films.json``, its figures, and ``films.md``."""
    written = [save_result(results, folder / RESULTS)]
    with styled("screen"):
        drawn = draw(dict(results))
        written += [save_figure(figure, folder / FIGURE.format(name)) for name, figure in drawn.items()]
    text = markdown(results, [path.name for path in written[1:]])
    return [replace_file(folder / "films.md", lambda path: path.write_text(text)), *written]


def markdown(results: Mapping[str, Any], pictures: list[str]) -> str:
    """The report: the answer, the tables, the figures, the settings."""
    answer, *beside = summary(results)
    points = "\n".join(f"- {line}" for line in beside)
    numbers = "\n".join(table.markdown() for table in tables(results).values())
    images = "\n\n".join(f"![{name}]({name})" for name in pictures)
    fair = "\n".join(f"- **{name}**: {RIVALS[name].says}." for name in results["settings"]["models"])
    said = "\n".join(f"- {name}: {value}" for name, value in results["settings"].items())
    asked = f"```\n{results['command']}\n```\n\n" if results["command"] else ""
    return (
        f"# One look a frame\n\n**{answer}**\n\n{points}\n\n{numbers}\n{images}\n\n## The models\n\n{fair}\n\nAll are "
        f"trained with as many forward passes of the base; where looks at a frame share a part of it, with as many "
        f"multiply-adds.\n\n## Settings\n\n{asked}{said}\n- hardware: "
        f"{results['hardware']}\n"
    )


compare_films = Experiment[FilmSettings, FilmKey](
    results=RESULTS,
    keys=keys,
    passes=lambda settings, key: settings.passes,
    plan=plan,
    check=check,
    run=run,
    gather=lambda settings: {"classes": list(facts(settings).classes)},
    report=report,
    tables=shown,
    summary=in_short,
    differs=trained_otherwise,
)
