"""One image of vessels through the looks, beside plain models: ``python -m benchmarks.connectivity_figure OUT.png``.

Trains four models of `benchmarks.connectivity`, with the clDice loss: minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.connectivity import LOSSES, REPAIR, USUAL, learnt, opened, repaired
from benchmarks.measure import save_small
from smp_feedback.evaluation import betti_errors
from smp_feedback.ops.reading import labels_of
from smp_feedback.surgery.extension import evaluating

LOOP = "loop at input"
ROWS = {"plain": [1], "plain, equal passes": [1], LOOP: [1, 2, 3, 4, 5], REPAIR: [0, 1, 2, 4, 8]}
"""The looks at which each model is shown; of repair, 0 is its base."""
PANEL = 1.7  # inches
DPI = 100

Panel = tuple[str, NDArray[Any]]


def connectivity_figure(path: Path, index: int, args: argparse.Namespace) -> Path:
    """The test image number *index* and the answers to it, with what each has wrong; *path* is written as PNG."""
    image, mask = opened(args, "test")[index]
    rows = [[("image", image.permute(1, 2, 0).numpy()), ("truth", mask.numpy() == 1)], *answered(args, image, mask)]
    rows = [[*rows[0], *rows[1], *rows[2]], *rows[3:]]
    across = max(map(len, rows))
    figure = Figure(figsize=(across * PANEL, len(rows) * (PANEL + 0.35)), layout="constrained", dpi=DPI)
    for line, row in zip(figure.subplots(len(rows), across), rows, strict=True):
        for axes in line:
            axes.set_axis_off()
        for axes, (title, picture) in zip(line, row, strict=False):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(title, fontsize="small")
    return save_small(figure, path, colours=128)


def answered(args: argparse.Namespace, image: Tensor, mask: Tensor) -> Iterator[list[Panel]]:
    """A row a model: its answers, what it lacks in orange and what it has too much in blue."""
    terms = LOSSES["and clDice"]
    for name, looks in ROWS.items():
        train = opened(args, "train", args.seed)
        how = (args, terms, args.seed, train)
        model = (repaired(*how) if name == REPAIR else learnt(args, name, *how[1:])).model
        yield [panel(name, look, answer(model, image, look), mask) for look in looks]


@torch.inference_mode()
def answer(model: nn.Module, image: Tensor, look: int) -> Tensor:
    """The labels (H, W) after so many looks; a model without a loop has one."""
    with evaluating(model):
        told = {"steps": look} if hasattr(model, "iterate") else {}
        return labels_of(model(image[None], **told))[0]


def panel(name: str, look: int, labels: Tensor, mask: Tensor) -> Panel:
    """White: found, orange: lacking, blue: too much; and the errors of both Betti numbers."""
    found, true = labels.numpy() == 1, mask.numpy() == 1
    picture = np.zeros((*found.shape, 3))
    picture[found & true], picture[true & ~found], picture[found & ~true] = (1, 1, 1), (0.9, 0.4, 0), (0.2, 0.5, 1)
    said = {0: f"{name}: base"}.get(look, f"{name}, look {look}") if len(ROWS[name]) > 1 else name
    error = betti_errors(found, true)
    return f"{said}\n{error.components} pieces, {error.loops} loops off", picture


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connectivity_figure", description=__doc__)
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--index", type=int, default=0, help="of the test image (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the models (%(default)s)")
    for name, value in USUAL.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args(argv)
    args.root = None
    torch.set_num_threads(1)
    print(connectivity_figure(args.out, args.index, args))


if __name__ == "__main__":
    main()
