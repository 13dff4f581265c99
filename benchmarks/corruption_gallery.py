"""Every corruption at every severity, drawn: ``python -m benchmarks.corruption_gallery OUT.png`` (extra ``plot``)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.measure import save_small
from smp_feedback.data.corruption.corruptions import SEVERITIES
from smp_feedback.data.dataset_factory import CORRUPTIONS, FILMED, open_dataset
from smp_feedback.data.seeding import corruption_generator
from smp_feedback.registry.public import catalogue

PANEL = 0.9  # inches
DPI = 100
STRIP = (0, 1, 2)  # frames of a film that are shown of what goes on from frame to frame


def gallery(image: Tensor, path: Path, names: Sequence[str] = (*CORRUPTIONS, *FILMED)) -> Path:
    """One row a corruption: *image* (3, H, W) as it is, then at severity 1 to 5.

    What goes on from frame to frame of a film has a row for each of a few frames, of a film that stands still.

    Args:
        image: In [0, 1].
        path: PNG to write.
        names: Registered corruptions.

    Returns:
        *path*.
    """
    shown = [(name, time) for name in names for time in (STRIP if name in FILMED else (None,))]
    width, height = (len(SEVERITIES) + 2.6) * PANEL, (len(shown) + 0.4) * PANEL
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    grid = figure.subplots(len(shown), len(SEVERITIES) + 1, squeeze=False)
    for row, (name, time) in zip(grid, shown, strict=True):
        row[0].set_ylabel(name if time is None else f"{name}\nframe {time}", rotation=0, ha="right", va="center")
        for severity, axes in enumerate(row):
            axes.imshow(corrupted(image, name, severity, time).permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
    for severity, axes in enumerate(grid[0]):
        axes.set_title(f"severity {severity}" if severity else "clean", fontsize="medium")
    return save_small(figure, path, colours=256)


def corrupted(image: Tensor, name: str, severity: int, time: int | None = None) -> Tensor:
    """*image* under a corruption, as item 0 of seed 0 would be; severity 0 is the image itself.

    Of one that goes on from frame to frame, as the frame at *time* of film 0.
    """
    if not severity:
        return image
    of_film = {} if time is None else {"time": time}
    changed: Tensor = catalogue().corruptions[name](image, severity, corruption_generator(0, 0), **of_film)
    return changed


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corruption_gallery", description=__doc__)
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--data", default="coloured_shapes", help="a registered dataset (%(default)s)")
    parser.add_argument("--root", type=Path, help="where its files are")
    parser.add_argument("--size", type=int, default=80, help="side in pixels (%(default)s)")
    parser.add_argument("--index", type=int, default=0, help="which image of its test split (%(default)s)")
    args = parser.parse_args(argv)
    image, _ = open_dataset(args.data, "test", root=args.root, size=args.size)[args.index]
    gallery(image, args.out)


if __name__ == "__main__":
    main()
