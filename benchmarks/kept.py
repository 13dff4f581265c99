"""Every seed's numbers of a study, kept in studies/rows: the tables of docs are made of them, and later seeds paired.

python -m benchmarks.kept                                   # the tables
python -m benchmarks.kept blobs runs/study/blobs            # keep what was run there, and print its table
python -m benchmarks.kept clicks --against "clicks alone"   # the other models less that one, paired by seed
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from benchmarks.kept_studies import STUDIES, Row, line
from smp_feedback.evaluation.statistics import LEVEL, Paired
from smp_feedback.saving.files import replace_file

ROWS = Path(__file__).parents[1] / "studies" / "rows"


def kept(name: str) -> list[Row]:
    """The rows of study *name*; none, if none are kept yet."""
    if not (ROWS / f"{name}.csv").is_file():
        return []
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


Scores = dict[str, dict[str, dict[str, float]]]
"""By model, by heading, by seed."""


def scores(name: str) -> dict[str, Scores]:
    """What is kept of study *name*, by measure."""
    found: dict[str, Scores] = {}
    for row in kept(name):
        for measure, model, heading, value in STUDIES[name].numbers(row):
            found.setdefault(measure, {}).setdefault(model, {}).setdefault(heading, {})[row["seed"]] = value
    return found


def differences(name: str, against: str) -> dict[str, list[str]]:
    """Lines of a table by measure: the other models of study *name* less *against*.

    A cell is the mean and half of the 95 % interval (Student's t over seeds), in bold where it does not hold zero.
    """
    found = scores(name)
    known = [*dict.fromkeys(model for models in found.values() for model in models)]
    if against not in known:
        near = get_close_matches(against, known, n=1)
        asked = f"; did you mean {near[0]!r}?" if near else "."
        raise SystemExit(f"{name} has no model {against!r}: it has {', '.join(map(repr, known))}{asked}")
    return {measure: [*_less(models, against)] for measure, models in found.items() if against in models}


def _less(models: Scores, against: str) -> Iterable[str]:
    own = models[against]
    yield line(f"less {against}", *own)
    for model, numbers in models.items():
        if model != against:
            yield line(model, *(_difference(numbers.get(heading, {}), values) for heading, values in own.items()))


def _difference(one: dict[str, float], other: dict[str, float]) -> str:
    paired = Paired(tuple(one[seed] - other[seed] for seed in other if seed in one))
    if len(paired.values) < 2:
        return "-"
    low, high = paired.interval
    text = f"{round(paired.mean, 1) + 0.0:+.1f} ± {(high - low) / 2:.1f}"  # + 0.0: never -0.0
    return text if paired.verdict == LEVEL else f"**{text}**"


def main() -> None:
    """Keep what is asked for, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", choices=STUDIES)
    parser.add_argument(
        "folder", nargs="?", type=Path, help="its --out; without, its rows are printed as they are kept"
    )
    parser.add_argument("--against", help="a model of the study; bold: the 95 %% interval does not hold zero")
    args = parser.parse_args()
    if args.folder is not None:
        print(keep(args.study, args.folder))
    if args.against is not None:
        if args.study is None:
            parser.error("--against takes a study.")
        for measure, lines in differences(args.study, args.against).items():
            print(f"\n{args.study}: {measure}\n", *lines, sep="\n")
        return
    for name in STUDIES if args.study is None else [args.study]:
        rows = kept(name)
        lines = STUDIES[name].table(rows) if rows else ["no rows are kept yet"]
        print(f"\n{name} (docs/{STUDIES[name].page})\n", *lines, sep="\n")


if __name__ == "__main__":
    main()
