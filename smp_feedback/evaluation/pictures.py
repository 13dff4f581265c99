"""Pictures of how a model came to its answer, and the curve of a sweep (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smp_feedback.errors import InvalidValue, require
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.saving.files import replace_file

require("matplotlib", extra="plot")

import matplotlib as mpl
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision, then lighter and darker relatives
PALETTE = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
    *("#999999", "#7F4F00", "#B7E0F5", "#00503A"),
)
VOID = (255, 255, 255)


def colours(mask: Tensor, classes: int, palette: Sequence[str] = PALETTE) -> NDArray[np.uint8]:
    """A label map (H, W) as RGB (H, W, 3); labels that are no class are white.

    >>> colours(torch.tensor([[0, 255]]), classes=2).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    rgb = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in palette]
    table = np.array([*(rgb[i % len(rgb)] for i in range(classes)), VOID], dtype=np.uint8)
    known = torch.where((mask >= 0) & (mask < classes), mask, classes)
    painted: NDArray[np.uint8] = table[known.cpu().numpy()]
    return painted


def refinement(
    models: Mapping[str, nn.Module], samples: Sequence[tuple[Tensor, Tensor]], path: Path, *, classes: int
) -> Path:
    """One row a sample: input, truth, each feed-forward answer, and each feedback model's, look by look.

    Args:
        models: By name; looping and feed-forward ones.
        samples: Pairs of image (3, H, W) in [0, 1] and mask (H, W).
        path: PNG to write; a crash leaves an older one whole.
        classes: Number of classes.

    Returns:
        *path*.
    """
    if not samples:
        raise InvalidValue("samples is empty: expected at least one pair of image and mask.")
    rows = [_row(models, image, mask, classes) for image, mask in samples]
    height, width = samples[0][0].shape[-2:]
    across, down = len(rows[0]), len(rows)
    figure = Figure(figsize=(1.7 * across * max(1, width / height), 1.9 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for i, row in enumerate(rows):
        for j, (title, picture) in enumerate(row):
            axes[i, j].imshow(picture, interpolation="nearest")
            axes[i, j].set_axis_off()
            if i == 0:
                axes[i, j].set_title(title, fontsize=9)
    return save(figure, path)


def sweep_curve(table: Mapping[str, Sequence[Sequence[float]]], sigmas: Sequence[float], path: Path) -> Path:
    """MIoU over noise, one line a model, the mean over seeds with its range shaded.

    Args:
        table: By model, one row of mIoU per seed.
        sigmas: Noise levels.
        path: PNG to write.

    Returns:
        *path*.
    """
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axis = figure.subplots()
    for (name, runs), colour, marker in zip(table.items(), PALETTE[5:] + PALETTE[1:], "os^vD", strict=False):
        values = np.asarray(runs)
        axis.plot(sigmas, values.mean(0), marker=marker, color=colour, label=name)
        if len(values) > 1:
            axis.fill_between(sigmas, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
    axis.set(xlabel="noise (standard deviation)", ylabel="mIoU", ylim=(0, 1))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return save(figure, path)


def save(figure: Figure, path: Path) -> Path:
    """Write *figure* as PNG, whole or not at all, without a display."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"savefig.dpi": 110}):
        replace_file(path, lambda draft: figure.savefig(draft, format="png"))
    return path


def _row(models: Mapping[str, nn.Module], image: Tensor, mask: Tensor, classes: int) -> list[tuple[str, Any]]:
    row: list[tuple[str, Any]] = [("input", image.clamp(0, 1).permute(1, 2, 0).cpu().numpy())]
    row.append(("truth", colours(mask, classes)))
    for name, model in models.items():
        for title, logits in _answers(name, model, image[None]):
            row.append((title, colours(logits[0].argmax(0), classes)))
    return row


def _answers(name: str, model: nn.Module, image: Tensor) -> list[tuple[str, Tensor]]:
    """Every answer worth showing: one, or one a look."""
    with torch.inference_mode():
        if not isinstance(model, FeedbackModel):
            return [(name, model(image))]
        return [(f"{name}, look {step.index + 1}", step.logits) for step in model.iterate(image)]
