"""A maze being solved, as ``model.show`` draws it: ``python -m benchmarks.looking_figure OUT.png``.

A loop of 22k parameters learns mazes of 5 x 5 cells for a minute or two of one core, and is shown a larger one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import smp_feedback as smpf
from benchmarks.measure import save_small
from smp_feedback.data import Mazes
from smp_feedback.training import FeedbackModule, PairsModule, fit

SIZE = 5  # cells a side, in training
BATCH = 32
TRIED = 20  # mazes, of which the first that is solved is shown


def learnt(train_steps: int) -> smpf.FeedbackModel:
    """The loop, after so many batches of mazes; none is seen twice."""
    torch.manual_seed(0)
    model = smpf.create("PlainConv", classes=2, feedback="anytime")
    model.data_config = smpf.DataConfig(classes=Mazes.classes)
    module = FeedbackModule(model, classes=2, steps=[4, 8], free_steps=[8, 24], ema=0.99, lr=3e-3)
    mazes = PairsModule(Mazes(size=SIZE, count=BATCH * train_steps), batch_size=BATCH)
    fit(module, mazes, steps=train_steps, clip=1.0, progress=False, accelerator="cpu")
    return model.eval()


@torch.no_grad()
def solved(model: smpf.FeedbackModel, size: int, looks: int) -> Tensor:
    """The first test maze that the model solves, else the first one."""
    mazes = Mazes("test", size=size, count=TRIED)
    pairs = (mazes[i] for i in range(TRIED))
    right = (image for image, way in pairs if torch.equal(model(image[None], steps=looks).argmax(1)[0], way))
    return next(right, mazes[0][0])


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.looking_figure", description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--size", type=int, default=9, help="cells a side of the maze that is shown (%(default)s)")
    parser.add_argument("--looks", type=int, default=160, help="looks at it (%(default)s)")
    parser.add_argument("--train_steps", type=int, default=600, help=f"batches of {BATCH} mazes (%(default)s)")
    args = parser.parse_args(argv)
    model = learnt(args.train_steps)
    save_small(model.show(solved(model, args.size, args.looks), args.looks), args.out, colours=256)


if __name__ == "__main__":
    main()
