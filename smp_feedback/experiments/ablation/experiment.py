"""An ablation of the restoration loop: what restoration, feedback and each loss bring, beside the plain model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from smp_feedback.checks import check_whole
from smp_feedback.evaluation.results import save_result
from smp_feedback.experiments.ablation.pictures import draw_pictures
from smp_feedback.experiments.ablation.runs import Key, facts, keys, run, test_triplets, training_data
from smp_feedback.experiments.ablation.settings import AblationSettings
from smp_feedback.experiments.ablation.tables import summary, tables
from smp_feedback.experiments.ablation.variants import make_model, make_module
from smp_feedback.experiments.cost import hardware
from smp_feedback.experiments.store import MODELS, all_runs, alone, claim
from smp_feedback.plotting.plot import draw, save_figure
from smp_feedback.plotting.style import styled
from smp_feedback.saving.files import replace_file
from smp_feedback.training.checkpoints import check_room
from smp_feedback.training.trainer import check_accelerator

WHAT = "an ablation"
ROOM = 100_000_000  # bytes: the weights of a few small models, tables and pictures
Advance = Callable[[Key, Mapping[str, Any] | None], None]
RESULTS, REPORT, PICTURES, FIGURE = "ablation.json", "ablation.md", "pictures.png", "ablation-{}.png"


def ablate(
    settings: AblationSettings,
    out: str | Path,
    *,
    jobs: int = 1,
    accelerator: str = "auto",
    command: str = "",
    begin: Callable[[], None] = lambda: None,
    advance: Advance = lambda key, found: None,
) -> list[Path]:
    """Train and score every row of *settings* for every seed, and write tables, a figure and pictures.

    A run that is finished is kept in ``out/runs``; when an ablation with the same settings is started again, only
    what is missing is trained.

    Args:
        settings: What is trained and scored.
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
        InvalidValue: If *out* holds an ablation with other settings, or one is running there; if *accelerator* is not
            there.
        FeedbackError: If the data, a model or the folder cannot be had; before any training.
    """
    check_whole("jobs", jobs)
    check_accelerator(accelerator)
    folder = Path(out)
    check_room(folder, ROOM)
    check(settings)
    with alone(folder, WHAT):
        claim(folder, settings.to_dict(), WHAT)
        begin()
        work = partial(run, settings, folder=folder / MODELS, accelerator=accelerator)
        found = all_runs(folder, keys(settings), work, jobs, advance)
        pictures = draw_pictures(settings, folder, PICTURES)
        written = write(gathered(settings, found, command), folder)
        return written if pictures is None else [*written, pictures]


def check(settings: AblationSettings) -> None:
    """Open every split and build every row once, before hours are spent."""
    about = facts(settings)
    test_triplets(settings)[0]
    for row in settings.rows:
        data = training_data(settings, Key(row, 0))
        make_module(row, settings, about, make_model(row, settings, about, 0), data)


def gathered(settings: AblationSettings, runs: Iterable[Mapping[str, Any]], command: str) -> dict[str, Any]:
    """The results, as ``ablation.json`` holds them."""
    about = facts(settings)
    return {
        "kind": "ablation",
        "version": 1,
        "command": command,
        "settings": settings.to_dict(),
        "hardware": hardware(),
        "classes": list(about.classes),
        "runs": list(runs),
    }


def write(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """``ablation.json``, ``ablation.md`` and the figure, in *folder*; the figure's file is ``ablation-rows.png``."""
    written = [save_result(results, folder / RESULTS)]
    with styled("screen"):
        drawn = draw(dict(results))
        written += [save_figure(figure, folder / FIGURE.format(name)) for name, figure in drawn.items()]
    return [*written, replace_file(folder / REPORT, lambda path: path.write_text(markdown(results)))]


def markdown(results: Mapping[str, Any]) -> str:
    """The report: the answer, the tables, the settings."""
    answer, *beside = summary(results)
    points = "\n".join(f"- {line}" for line in beside)
    shown = "\n".join(table.markdown() for table in tables(results).values())
    settings = "\n".join(f"- {name}: {value}" for name, value in results["settings"].items())
    asked = f"```\n{results['command']}\n```\n\n" if results["command"] else ""
    figure = f"![mIoU of every row]({FIGURE.format('rows')})"
    return (
        f"# What each part brings\n\n**{answer}**\n\n{points}\n\n{shown}\n{figure}\n\n"
        f"## Settings\n\n{asked}{settings}\n- hardware: {results['hardware']}\n"
    )
