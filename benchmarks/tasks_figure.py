"""The tasks whose answers have to be carried through the image: ``python -m benchmarks.tasks_figure OUT.png``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measure import save_small
from smp_feedback.data.dataset_factory import open_dataset

TASKS: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "mazes": ("mazes", {}, (5, 21)),
    "mazes, loops=0.3": ("mazes", {"loops": 0.3}, (5, 21)),
    "connected": ("connected", {}, (20, 60)),
    "curves": ("curves", {}, (20, 60)),
}
"""What a row shows: the dataset, its options, and the sizes, one to train at and one to test at."""
PANEL = 1.7  # inches
DPI = 100


def tasks_figure(path: Path, index: int) -> Path:
    """One row a task: an image and its target at the smaller size, and at the larger.

    Args:
        path: PNG to write.
        index: Which image of the test splits.

    Returns:
        *path*.
    """
    figure = Figure(figsize=(4.5 * PANEL, (len(TASKS) + 0.2) * PANEL), layout="constrained", dpi=DPI)
    grid = figure.subplots(len(TASKS), 4)
    for row, (title, (name, options, sizes)) in zip(grid, TASKS.items(), strict=True):
        row[0].set_ylabel(title)
        for pair, size in zip((row[:2], row[2:]), sizes, strict=True):
            show(pair, name, {**options, "size": size}, index)
    return save_small(figure, path, colours=256)


def show(pair: Sequence[Axes], name: str, options: dict[str, Any], index: int) -> None:
    """An item of the test split of the dataset *name*, image and target."""
    image, mask = open_dataset(name, "test", **options)[index]
    pair[0].imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    pair[1].imshow(mask.numpy(), cmap="gray", interpolation="nearest")
    for axes, title in zip(pair, (f"size={options['size']}", "target"), strict=True):
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize="medium")


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks_figure", description=__doc__)
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--index", type=int, default=3, help="which image of the test splits (%(default)s)")
    args = parser.parse_args(argv)
    tasks_figure(args.out, args.index)


if __name__ == "__main__":
    main()
