"""What each ingredient of the any-time recipe brings: one changed at a time, on mazes larger than those of training.

python -m benchmarks.ingredients [--seeds 3] [--rows recipe,gated] [--train_steps 1200] [--out DIR] [--jobs 2]

Each row is a comparison of the loop alone, kept in its own folder of --out: what is finished is not trained again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.studies import study_settings
from smp_feedback.experiments.comparison.experiment import compare
from smp_feedback.experiments.comparison.settings import ComparisonSettings
from smp_feedback.experiments.table import spread

RECIPE = Path(__file__).parents[1] / "studies" / "mazes.yaml"
LOOP: dict[str, dict[str, Any]] = {
    "no norm of the correction": {"norm_error": "none"},
    "norm over space (instance)": {"norm_error": "instance"},
    "gated": {"dynamics": "gated"},
    "a state that decays (tau 2)": {"tau": 2.0},
    "answer fed back, as well": {"projection": "answer+state"},
    "answer fed back, alone": {"projection": "probabilities"},
    "32 channels fed back": {"channels": 32},
    "2 channels fed back": {"channels": 2},
}
TRAINING: dict[str, dict[str, Any]] = {
    "no free looks, T drawn from 8 to 16": {"steps": [8, 16], "free_steps": 0},
    "no free looks, T = 16": {"steps": 16, "free_steps": 0},
    "few free looks, 0 to 32": {"free_steps": [0, 32]},
    "progressive loss (alpha 0.5, T = 16)": {"steps": 16, "free_steps": 0, "progressive": 0.5},
    "state carried over 3 optimiser steps": {"free_steps": 0, "segments": 3},
    "no average of the weights": {"ema": None},
}
COLUMNS = [(5, 16), (5, 160), (9, 64), (9, 160), (13, 160)]
"""Sizes and looks of which the table has a column."""
SUPERVISED: dict[str, dict[str, Any]] = {"loss on all looks with gradient": {"supervise": "mean"}}


def rows(recipe: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each row, by what is changed."""
    found = {"recipe": dict(recipe)}
    found |= {name: recipe | {"feedback": {"preset": recipe["feedback"], **loop}} for name, loop in LOOP.items()}
    found |= {name: recipe | {"training": recipe["training"] | more} for name, more in TRAINING.items()}
    return found | {name: recipe | more for name, more in SUPERVISED.items()}


def solved(results: dict[str, Any], size: int, looks: int) -> list[float]:
    """The share solved by each seed."""
    scores = (score for run in results["runs"] for score in run["scores"])
    return [score["solved"] for score in scores if (score["size"], score["looks"]) == (size, looks)]


def main() -> None:
    """Train row by row, and print each as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--train_steps", type=int, default=None)
    parser.add_argument("--test_images", type=int, default=50)
    parser.add_argument("--rows", default=None, help="parts of their names, with commas between; all of them")
    parser.add_argument("--out", type=Path, default=Path("runs/ingredients"))
    args = parser.parse_args()
    recipe = study_settings(RECIPE)
    recipe |= {"models": ["feedback"], "seeds": args.seeds, "sizes": [5, 9, 13], "test_images": args.test_images}
    recipe |= {} if args.train_steps is None else {"train_steps": args.train_steps}
    wanted = [] if args.rows is None else args.rows.split(",")
    print("| solved, % | " + " | ".join(f"{size} x {size}, {looks} looks" for size, looks in COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for i, (name, row) in enumerate(rows(recipe).items()):
        if wanted and not any(part in name for part in wanted):
            continue
        out = args.out / f"{i:02d}"
        compare(ComparisonSettings(**row), out, jobs=args.jobs)
        results = json.loads((out / "results.json").read_text())
        print(f"| {name} | " + " | ".join(spread(solved(results, *column)) for column in COLUMNS) + " |", flush=True)


if __name__ == "__main__":
    main()
