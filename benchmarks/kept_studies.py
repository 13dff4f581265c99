"""The studies whose rows are kept: what reads a folder of results, and what makes of its rows a table, and numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from benchmarks import clicks, connectivity, hot_air_film, ingredients
from benchmarks.studies import study_settings
from smp_feedback.evaluation.clicks import SHOWN, TARGETS
from smp_feedback.experiments.table import spread

Row = dict[str, Any]
Rows = Sequence[Row]


class Number(NamedTuple):
    """What a model has of a measure under a heading, by one seed."""

    measure: str
    model: str
    heading: str
    value: float


class Study(NamedTuple):
    """A study, and the page of docs that has its table.

    Args:
        page: That page.
        read: The rows in a folder of results.
        table: Lines of the table, made of rows.
        numbers: What a row says, to be paired by seed with that of another model.
    """

    page: str
    read: Callable[[Path], Iterable[Row]]
    table: Callable[[Rows], Iterable[str]]
    numbers: Callable[[Row], Iterable[Number]]


def chosen(rows: Rows, **named: object) -> list[Row]:
    """Those of *rows* that say so, in the order of their seeds."""
    found = [row for row in rows if all(str(row[name]) == str(value) for name, value in named.items())]
    return sorted(found, key=lambda row: int(row["seed"]))


def column(rows: Rows, name: str) -> list[float]:
    """Its numbers."""
    return [float(row[name]) for row in rows]


def said(rows: Rows, name: str) -> list[str]:
    """What stands in a column, each once, in order."""
    return [*dict.fromkeys(str(row[name]) for row in rows)]


def line(*cells: str) -> str:
    """A row of a table of Markdown."""
    return f"| {' | '.join(cells)} |"


LOSSES = dict(zip(connectivity.LOSSES, ("pixels", "with clDice"), strict=True))


def of_connectivity(digits: int) -> Study:
    """Models by losses, and what they have of a structure; counts with so many *digits*."""

    def read(folder: Path) -> Iterable[Row]:
        for model in connectivity.MODELS:
            for loss in connectivity.LOSSES:
                for path in sorted(folder.glob(f"{connectivity.file_name(model, loss)}-*.json")):
                    found = json.loads(path.read_text())
                    numbers = {key: found[key] for key in (*connectivity.COLUMNS, "inference", "passes")}
                    yield {"model": model, "loss": loss, "seed": path.stem.rpartition("-")[2], **numbers}

    def table(rows: Rows) -> Iterable[str]:
        for model in connectivity.MODELS:
            for loss, words in LOSSES.items():
                here = chosen(rows, model=model, loss=loss)
                named = [*connectivity.COLUMNS, "inference", "passes"]
                yield connectivity.line(model, words, [{key: float(row[key]) for key in named} for row in here], digits)

    def numbers(row: Row) -> Iterable[Number]:
        for key, scale in connectivity.COLUMNS.items():
            yield Number(LOSSES[row["loss"]], row["model"], key, scale * float(row[key]))

    return Study("connectivity.md", read, table, numbers)


def sizes_of(folder: Path) -> Iterable[Row]:
    """A comparison at several sizes."""
    for run in json.loads((folder / "results.json").read_text())["runs"]:
        facts = {name: run[name] for name in ("model", "seed", "parameters", "passes")}
        for score in run["scores"]:
            yield {**facts, "size": score["size"], "looks": score["looks"], "solved": score["solved"]}


def at(model: str, looks: object) -> str:
    """A model as it is called in a table: a loop after so many *looks*."""
    return f"loop, {looks} looks" if model == "feedback" else model


def by_size(rows: Rows) -> Iterable[str]:
    """Models, the loop after each number of looks, by sizes."""
    for model in said(rows, "model"):
        for looks in said(chosen(rows, model=model), "looks"):
            here = chosen(rows, model=model, looks=looks)
            cells = [spread(column(chosen(here, size=size), "solved"), digits=0) for size in said(rows, "size")]
            yield line(at(model, looks), *cells)


def with_cost(rows: Rows) -> Iterable[str]:
    """The same of models without a loop, with their parameters and the passes of their training, in thousands."""
    for model, line_of in zip(said(rows, "model"), by_size(rows), strict=True):
        one = chosen(rows, model=model)[0]
        thousands = (f"{float(one[name]) / 1000:.0f}k" for name in ("parameters", "passes"))
        yield line_of.replace(f"| {model} |", line(model, *thousands), 1)


def size_numbers(row: Row) -> Iterable[Number]:
    """What is solved at a size."""
    yield Number("solved", at(row["model"], row["looks"]), f"size {row['size']}", 100 * float(row["solved"]))


def ingredients_of(folder: Path) -> Iterable[Row]:
    """Each row of the ablation, which is a comparison of its own."""
    names = [*ingredients.rows(study_settings(ingredients.RECIPE))]
    for path in sorted(folder.glob("*/results.json")):
        name = names[int(path.parent.name)]
        yield from ({**row, "model": name} for row in sizes_of(path.parent))


def by_ingredient(rows: Rows) -> Iterable[str]:
    """What is changed, by what is asked."""
    for name in said(rows, "model"):
        asked = (chosen(rows, model=name, size=size, looks=looks) for size, looks in ingredients.COLUMNS)
        yield line(name, *(spread(column(here, "solved"), digits=0) for here in asked))


def ingredient_numbers(row: Row) -> Iterable[Number]:
    """What is solved at a size after so many looks."""
    yield Number("solved", row["model"], f"{row['size']} x {row['size']}, {row['looks']}", 100 * float(row["solved"]))


def films_of(folder: Path) -> Iterable[Row]:
    """A comparison on films."""
    for run in json.loads((folder / "films.json").read_text())["runs"]:
        for score in run["scores"]:
            told = {name: score[name] for name in ("model", "test", "joined", "reset", "rate", "miou", "flicker")}
            yield {"seed": run["seed"], **told}


def by_film(rows: Rows) -> Iterable[str]:
    """Models by corruptions: mIoU, and flicker in brackets."""
    for model in said(rows, "model"):
        found = [chosen(rows, model=model, test=test) for test in said(rows, "test")]
        cells = [f"{spread(column(h, 'miou'))} ({100 * mean(column(h, 'flicker')):.1f})" for h in found]
        yield line(model, *cells)


def film_numbers(row: Row) -> Iterable[Number]:
    """What is right, and what flickers."""
    for measure, key in (("mIoU", "miou"), ("flicker", "flicker")):
        yield Number(measure, row["model"], row["test"], 100 * float(row[key]))


def hot_air_of(folder: Path) -> Iterable[Row]:
    """Every way in which a trained model is read, through each air."""
    for path in sorted(folder.glob("*-s*.json")):
        run = json.loads(path.read_text())
        facts = {name: run[name] for name in ("row", "seed", "weight", "whole")}
        for model, airs in run["scores"].items():
            for air, score in airs.items():
                yield {**facts, "model": model, "air": air, **score}


def by_air(rows: Rows) -> Iterable[str]:
    """Models by airs: mIoU, and flicker."""
    airs = [air for air in said(rows, "air") if air != hot_air_film.CLEAN]
    for model in (name for name in hot_air_film.NAMES if name in said(rows, "model")):
        found = [chosen(rows, model=model, air=air) for air in airs]
        cells = [spread(column(here, measure)) for here in found for measure in hot_air_film.MEASURES]
        yield line(hot_air_film.NAMES[model], *cells)


def air_numbers(row: Row) -> Iterable[Number]:
    """What is right, and what flickers."""
    for measure in hot_air_film.MEASURES:
        yield Number(measure, hot_air_film.NAMES[row["model"]], row["air"], 100 * float(row[measure]))


def clicks_of(folder: Path) -> Iterable[Row]:
    """Each model of clicks."""
    for path in sorted(folder.glob("*-*.json")):
        (row,) = json.loads(path.read_text())["rows"]
        ious = {f"iou_{k}": iou for k, iou in enumerate(row["iou"])}
        yield {"model": row["model"], "seed": row["seed"], **ious} | {f"noc_{t}": row["noc"][str(t)] for t in TARGETS}


def by_clicks(rows: Rows) -> Iterable[str]:
    """Models: IoU after some clicks, and clicks to some IoU; mean, least and most."""
    for model in (name for name in clicks.VARIANTS if name in said(rows, "model")):
        here = chosen(rows, model=model)
        ious = [[float(row[f"iou_{k}"]) for k in range(max(SHOWN) + 1)] for row in here]
        nocs = [{str(target): float(row[f"noc_{target}"]) for target in TARGETS} for row in here]
        yield line(clicks.line(model, [{"iou": iou, "noc": noc} for iou, noc in zip(ious, nocs, strict=True)]))


def click_numbers(row: Row) -> Iterable[Number]:
    """IoU after some clicks, and clicks to some IoU."""
    for k in SHOWN:
        yield Number("IoU after clicks", row["model"], str(k), 100 * float(row[f"iou_{k}"]))
    for target in TARGETS:
        yield Number("clicks to IoU", row["model"], f"{target} %", float(row[f"noc_{target}"]))


def dirichlet_of(file: Path) -> Iterable[Row]:
    """Each run of ``benchmarks.defaults --study dirichlet``."""
    for key, numbers in json.loads(file.read_text()).items():
        task, name, seed = key.split("/")
        yield {"task": task, "model": name, "seed": seed, **numbers}


def by_norm(rows: Rows) -> Iterable[str]:
    """Normalisations, by what was learnt."""
    for task in said(rows, "task"):
        for name in said(chosen(rows, task=task), "model"):
            here = chosen(rows, task=task, model=name)
            yield line(task, f"`{name}`", *(spread(column(here, measure)) for measure in CALIBRATED))


def norm_numbers(row: Row) -> Iterable[Number]:
    """What is right, and what the model knows of it."""
    for measure in CALIBRATED:
        yield Number(row["task"], row["model"], measure, 100 * float(row[measure]))


CALIBRATED = ("mIoU", "AUROC", "ECE")
STUDIES = {
    "vessels": of_connectivity(2),
    "cracks": of_connectivity(1),
    "membranes": of_connectivity(1),
    "blobs": Study("anytime.md", sizes_of, by_size, size_numbers),
    "ingredients": Study("anytime.md", ingredients_of, by_ingredient, ingredient_numbers),
    "mazes_longer_twin": Study("anytime.md", sizes_of, with_cost, size_numbers),
    "curves": Study("anytime.md", sizes_of, by_size, size_numbers),
    "dirichlet": Study("defaults.md", dirichlet_of, by_norm, norm_numbers),
    "camvid_film": Study("films.md", films_of, by_film, film_numbers),
    "hot_air_film": Study("films.md", hot_air_of, by_air, air_numbers),
    "clicks": Study("clicks.md", clicks_of, by_clicks, click_numbers),
}
