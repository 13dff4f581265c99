"""A small loop learns mazes of 5 x 5 cells, then solves larger ones by looking longer, and is filmed at it.

python examples/solve_a_maze.py

Three convolutions at full resolution, and a loop (``feedback="anytime"``) that reads what it wrote down at the look
before. How often it looks is drawn for each batch, first without gradient and then with it, so that no number of looks
is special. It takes some minutes on a CPU; fewer ``--train_steps`` show less.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import smp_feedback as smpf
from smp_feedback.data import Mazes
from smp_feedback.evaluation import evaluate
from smp_feedback.plotting import animate
from smp_feedback.training import FeedbackModule, PairsModule, fit


def main(argv: list[str] | None = None) -> None:
    """Train on small mazes, score on larger ones after ever more looks, animate one, save."""
    parser = argparse.ArgumentParser(description="Solving mazes larger than those of training.")
    parser.add_argument("--out", type=Path, default=Path("runs/solve_a_maze"), help="for the model and the animation")
    parser.add_argument("--size", type=int, default=5, help="cells a side, in training")
    parser.add_argument("--larger", type=int, nargs="+", default=[9, 13], help="cells a side, in testing besides")
    parser.add_argument("--train_steps", type=int, default=1200, help="optimiser steps of 32 mazes")
    parser.add_argument("--steps", type=int, nargs=2, default=[4, 8], help="fewest and most looks with gradient")
    parser.add_argument("--free_steps", type=int, nargs=2, default=[16, 48], help="fewest and most looks before those")
    parser.add_argument("--looks", type=int, nargs="+", default=[16, 64, 160], help="looks in testing")
    parser.add_argument("--images", type=int, default=50, help="mazes that are scored of each size")
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    model = smpf.create("PlainConv", classes=2, feedback="anytime")
    mazes = Mazes(size=args.size, count=32 * args.train_steps)  # drawn when asked for: none is seen twice
    how = {"steps": args.steps, "free_steps": args.free_steps, "ema": 0.99, "lr": 3e-3}
    module = FeedbackModule(model, classes=2, **how)
    fit(module, PairsModule(mazes, batch_size=32), steps=args.train_steps, clip=1.0)

    for size in (args.size, *args.larger):
        found = evaluate(model, Mazes("test", size=size, count=args.images), classes=2, looks=args.looks)
        shares = ", ".join(f"{100 * score.solved:.0f} ({score.looks})" for score in found)
        print(f"{size} x {size}, solved in per cent (looks): {shares}")

    image, way = Mazes("test", size=args.larger[-1], count=1)[0]
    film = animate(model, image, args.out / "maze.gif", looks=args.looks[-1], truth=way)
    print(f"wrote {model.save_pretrained(args.out)}\nwrote {film}")


if __name__ == "__main__":
    main()
