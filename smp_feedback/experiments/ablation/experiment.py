"""The ablation, declared: what restoration, feedback and each loss bring, beside the plain model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smp_feedback.evaluation.results import save_result
from smp_feedback.experiments.ablation.pictures import draw_pictures
from smp_feedback.experiments.ablation.rows import ROWS
from smp_feedback.experiments.ablation.runs import (
    AblationKey,
    facts,
    keys,
    passes_of,
    run,
    test_triplets,
    training_data,
)
from smp_feedback.experiments.ablation.settings import AblationSettings
from smp_feedback.experiments.ablation.tables import summary, tables, told
from smp_feedback.experiments.ablation.variants import make_model, make_module
from smp_feedback.experiments.engine import Experiment
from smp_feedback.experiments.runs import check_apart
from smp_feedback.plotting.plot import draw, save_figure
from smp_feedback.plotting.style import styled
from smp_feedback.saving.files import replace_file

RESULTS, FIGURE = "ablation.json", "ablation-{}.png"


def plan(settings: AblationSettings) -> str:
    """What is about to be done, in a sentence."""
    return (
        f"{len([*keys(settings)])} models of {settings.arch} on {settings.data} under {settings.said}: "
        f"{', '.join(row for row in ROWS if row in settings.rows)}; {settings.train_steps} batches of "
        f"{settings.batch_size} images each (T = {settings.config.steps}), {settings.seeds} "
        f"seed{'s' * (settings.seeds > 1)}."
    )


def check(settings: AblationSettings) -> None:
    """Open every split and build every row once, before hours are spent."""
    about = facts(settings)
    test_triplets(settings)[0]
    check_apart(settings)
    for row in settings.rows:
        data = training_data(settings, AblationKey(row, 0))
        make_module(row, settings, about, make_model(row, settings, about, 0), data)


def report(settings: AblationSettings, results: Mapping[str, Any], folder: Path) -> list[Path]:
    """``ablation.json``, ``ablation-rows.png``, ``ablation.md``, and pictures of what was restored and said."""
    written = [save_result(results, folder / RESULTS)]
    with styled("screen"):
        drawn = draw(dict(results))
        written += [save_figure(figure, folder / FIGURE.format(name)) for name, figure in drawn.items()]
    written.insert(0, replace_file(folder / "ablation.md", lambda path: path.write_text(markdown(results))))
    pictures = draw_pictures(settings, folder, "pictures.png")
    return written if pictures is None else [*written, pictures]


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


ablate = Experiment[AblationSettings, AblationKey](
    results=RESULTS,
    keys=keys,
    passes=passes_of,
    plan=plan,
    check=check,
    run=run,
    gather=lambda settings: {"classes": list(facts(settings).classes)},
    report=report,
    tables=lambda results: [tables(results)["rows"]],
    summary=told,
)
