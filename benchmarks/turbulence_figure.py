"""A picture of turbulence: ``python -m benchmarks.turbulence_figure OUT.png`` (extra ``plot``).

Images, displacements and their statistics beside the model's; prints the numbers of every preset.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.measure import save_small
from smp_feedback.data.dataset_factory import open_dataset
from smp_feedback.data.turbulence import PRESETS, Turbulence, displacement_field, distort
from smp_feedback.data.turbulence.medium import Array

SIDE, ARROWS = 224, 16  # pixels of an image, and between two arrows
CURVES = ("mild", "strong", "severe")
FIELDS, LAGS = 300, 48  # behind the points of the curves, and their number of pixels


def figure(image: Tensor, path: Path) -> Path:
    """*image* (3, 224, 224) through each preset, the displacement, and its correlation beside the model's.

    Args:
        image: In [0, 1].
        path: PNG to write.

    Returns:
        *path*.
    """
    drawing = Figure(figsize=(11, 6.4), layout="constrained", dpi=100)
    parts: Any = drawing.subfigures(2, 1, height_ratios=(3.4, 3))
    above, below = parts
    panels = above.subplots(2, len(PRESETS) + 1)
    _show(panels[:, 0], image, torch.zeros(2, SIDE, SIDE), "clean")
    for column, (name, air) in zip(panels.T[1:], PRESETS.items(), strict=True):
        field = displacement_field(air, SIDE, generator=torch.Generator().manual_seed(0))[0]
        _show(column, distort(image, field), field, name)
    for seed, (axes, name) in enumerate(zip(below.subplots(1, 3, sharey=True), CURVES, strict=True)):
        _curves(axes, PRESETS[name], name, seed)
    return save_small(drawing, path, colours=128)


def sampled(air: Turbulence, lags: Array, seed: int, count: int = FIELDS) -> tuple[Array, Array]:
    """Parallel and perpendicular correlation of *count* drawn fields, over the model's variance; each (2, N).

    The second row is the standard error.
    """
    fields = displacement_field(air, int(lags.max()) + 1, batch=count, generator=torch.Generator().manual_seed(seed))
    values = fields.double().numpy() / air.rms
    pairs: list[list[Array]] = [[], []]
    for lag in lags.astype(int):
        rows, columns = (values[:, n, lag:] * values[:, n, : values.shape[2] - lag] for n in (0, 1))
        pairs[0].append(rows.mean((1, 2)))
        pairs[1].append(columns.mean((1, 2)))
    found = [np.stack([np.mean(part, 1), np.std(part, 1) / count**0.5]) for part in pairs]
    return found[0], found[1]


def table() -> str:
    """The numbers of every preset, as rows of Markdown."""
    rows = [
        "| preset | C_n^2 | rms, 224 | rms, 360 | rms, 512 | blur, 224 | r_0 (mm) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, air in PRESETS.items():
        rms = [replace(air, pixel_pitch=air.pixel_pitch * 224 / side).rms for side in (224, 360, 512)]
        cells = [f"{value:.2f}" for value in (*rms, air.blur, 1e3 * air.fried)]
        rows.append(f"| `{name}` | {air.cn2:g} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _show(column: Any, image: Tensor, field: Tensor, name: str) -> None:
    column[0].imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    column[0].set_title(name, fontsize="medium")
    places = np.arange(ARROWS // 2, SIDE, ARROWS)
    down, right = field[:, places][:, :, places].numpy()
    column[1].quiver(places, places, right, down, angles="xy", scale_units="xy", scale=0.25, width=0.01)
    column[1].set(aspect="equal", xlim=(0, SIDE), ylim=(SIDE, 0))
    for axes in column:
        axes.set(xticks=[], yticks=[])


def _curves(axes: Any, air: Turbulence, name: str, seed: int) -> None:
    fine, coarse = np.linspace(0.0, LAGS, 100), np.arange(0.0, LAGS, 4)
    words = ("parallel", "perpendicular")
    for word, model, points in zip(words, air.correlation(fine), sampled(air, coarse, seed), strict=True):
        (curve,) = axes.plot(fine, model / air.variance, label=f"{word}, model")
        axes.errorbar(
            coarse,
            points[0],
            2 * points[1],
            fmt="o",
            ms=3,
            color=curve.get_color(),
            label="sampled, 2 standard errors" if word == words[0] else None,
        )
    axes.set(title=f"{name}: rms {air.rms:.2f} pixels", xlabel="pixels apart")
    axes.set_ylabel("correlation" if not seed else "")
    axes.legend(fontsize="small")


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turbulence_figure", description=__doc__)
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--index", type=int, default=11, help="which of the coloured shapes (%(default)s)")
    args = parser.parse_args(argv)
    image, _ = open_dataset("coloured_shapes", "test", size=SIDE)[args.index]
    figure(image, args.out)
    sys.stdout.write(table() + "\n")


if __name__ == "__main__":
    main()
