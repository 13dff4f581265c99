"""Vessels of known topology, small and large: ``python -m benchmarks.vessels_figure OUT.png``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measure import save_small
from smp_feedback.data import Vessels

SIZES = (64, 128)  # a row each
COLUMNS = 3  # images and their masks
PANEL = 1.7  # inches
DPI = 100


def vessels_figure(path: Path, index: int) -> Path:
    """Images of the test split from *index* on, each beside its mask, at either size; *path* is written as PNG."""
    figure = Figure(figsize=(2 * COLUMNS * PANEL, (len(SIZES) + 0.3) * PANEL), layout="constrained", dpi=DPI)
    for row, size in zip(figure.subplots(len(SIZES), 2 * COLUMNS), SIZES, strict=True):
        data = Vessels("test", size=size)
        row[0].set_ylabel(f"size={size}")
        for k in range(COLUMNS):
            show(row[2 * k : 2 * k + 2], data, index + k)
    return save_small(figure, path, colours=256)


def show(pair: Sequence[Axes], data: Vessels, index: int) -> None:
    """An item, image and mask, and how many components and holes it has."""
    image, mask = data[index]
    pair[0].imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    pair[1].imshow(mask.numpy(), cmap="gray", interpolation="nearest")
    betti = data.betti(index)
    pair[1].set_title(f"components {betti.components}, loops {betti.loops}", fontsize="small")
    for axes in pair:
        axes.set(xticks=[], yticks=[])


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vessels_figure", description=__doc__)
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--index", type=int, default=0, help="the first image of the test split (%(default)s)")
    args = parser.parse_args(argv)
    vessels_figure(args.out, args.index)


if __name__ == "__main__":
    main()
