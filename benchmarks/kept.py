"""Every seed's numbers of a study, kept in studies/rows: the tables of docs are made of them, and later seeds paired.

python -m benchmarks.kept                         # the tables
python -m benchmarks.kept blobs runs/study/blobs  # keep what was run there, and print its table
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from benchmarks import clicks, connectivity, ingredients
from benchmarks.studies import study_settings
from smp_feedback.evaluation.clicks import SHOWN, TARGETS
from smp_feedback.experiments.table import spread
from smp_feedback.saving.files import replace_file

ROWS = Path(__file__).parents[1] / "studies" / "rows"
Row = dict[str, Any]
Rows = Sequence[Row]


class Study(NamedTuple):
    """A study whose rows are kept: what reads them of a folder of results, and what makes lines of a table of them."""

    read: Callable[[Path], Iterable[Row]]
    table: Callable[[Rows], Iterable[str]]


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
                name = "".join(letter if letter.isalnum() else "_" for letter in f"{model} {loss}")
                for path in sorted(folder.glob(f"{name}-*.json")):
                    found = json.loads(path.read_text())
                    numbers = {key: found[key] for key in (*connectivity.COLUMNS, "inference", "passes")}
                    yield {"model": model, "loss": loss, "seed": path.stem.rpartition("-")[2], **numbers}

    def table(rows: Rows) -> Iterable[str]:
        for model in connectivity.MODELS:
            for loss, words in LOSSES.items():
                here = chosen(rows, model=model, loss=loss)
                scaled = connectivity.COLUMNS.items()
                cells = [spread(column(here, key), scale, 1 if scale > 1 else digits) for key, scale in scaled]
                macs, passes = column(here, "inference")[0], column(here, "passes")[0]
                yield line(model, words, *cells, f"{macs / 1e6:.0f} M", f"{passes:.0f}")

    return Study(read, table)


def sizes_of(folder: Path) -> Iterable[Row]:
    """A comparison at several sizes."""
    for run in json.loads((folder / "results.json").read_text())["runs"]:
        facts = {name: run[name] for name in ("model", "seed", "parameters", "passes")}
        for score in run["scores"]:
            yield {**facts, "size": score["size"], "looks": score["looks"], "solved": score["solved"]}


def by_size(rows: Rows) -> Iterable[str]:
    """Models, the loop after each number of looks, by sizes."""
    for model in said(rows, "model"):
        for looks in said(chosen(rows, model=model), "looks"):
            here = chosen(rows, model=model, looks=looks)
            cells = [spread(column(chosen(here, size=size), "solved"), digits=0) for size in said(rows, "size")]
            yield line(f"loop, {looks} looks" if model == "feedback" else model, *cells)


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


STUDIES = {
    "vessels": of_connectivity(2),
    "cracks": of_connectivity(1),
    "membranes": of_connectivity(1),
    "blobs": Study(sizes_of, by_size),
    "ingredients": Study(ingredients_of, by_ingredient),
    "camvid_film": Study(films_of, by_film),
    "clicks": Study(clicks_of, by_clicks),
}
PAGES = {
    **dict.fromkeys(("vessels", "cracks", "membranes"), "connectivity.md"),
    **dict.fromkeys(("blobs", "ingredients"), "anytime.md"),
    "camvid_film": "films.md",
    "clicks": "clicks.md",
}
"""The page of docs that has the table."""


def kept(name: str) -> list[Row]:
    """The rows of study *name*."""
    with (ROWS / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def keep(name: str, folder: Path) -> Path:
    """Keep the rows of study *name* that were run in *folder*, in place of those that were there."""
    rows = [{key: _short(value) for key, value in row.items()} for row in STUDIES[name].read(folder)]
    if not rows:
        raise SystemExit(f"{folder}: there is nothing of {name}; nothing is changed.")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    ROWS.mkdir(exist_ok=True)
    return replace_file(ROWS / f"{name}.csv", lambda path: path.write_text(text.getvalue(), encoding="utf-8"))


def _short(value: object) -> object:
    return f"{value:.7g}" if isinstance(value, float) else value


def main() -> None:
    """Keep what is asked for, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", choices=STUDIES)
    parser.add_argument(
        "folder", nargs="?", type=Path, help="its --out; without, its rows are printed as they are kept"
    )
    args = parser.parse_args()
    if args.folder is not None:
        print(keep(args.study, args.folder))
    for name in STUDIES if args.study is None else [args.study]:
        print(f"\n{name} (docs/{PAGES[name]})\n", *STUDIES[name].table(kept(name)), sep="\n")


if __name__ == "__main__":
    main()
