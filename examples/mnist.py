"""Digits, classified by a ResNet-18 that looks five times (Deep Feedback Models, arXiv 2509.15905), and by its twin.

The twin is the same network without the loop, trained on the same batches. Both are scored on the test digits after
1 to 10 looks, clean and under noise that neither was trained on.

python examples/mnist.py --root path/to/mnist

That folder holds ``MNIST/raw/``, as torchvision keeps it; without ``--root``, torchvision downloads it to ``data/``.
``pip install "smp_feedback[train,plot]"`` brings what this needs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import nn

import smp_feedback as smpf
from smp_feedback.data import open_dataset
from smp_feedback.evaluation import robustness, save_result
from smp_feedback.plotting.plot import plot
from smp_feedback.training import FeedbackModule, PairsModule, fit

CLASSES, NOISE = 10, "gaussian_noise"
MODELS = ("feedback", "feed-forward")


def options(argv: list[str] | None) -> argparse.Namespace:
    """What can be said; the defaults are those of the numbers in examples/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = parser.add_argument
    told("--root", help="folder with MNIST/raw/ in it; torchvision downloads to data/ without")
    told("--out", default="runs/mnist", help="folder for models, numbers and figures (default: %(default)s)")
    told("--models", nargs="+", choices=MODELS, default=[*MODELS], help="train only these")
    told("--arch", default="DFMResNet18", help="or timm/<name>, any classifier (default: %(default)s)")
    told("--steps", type=int, default=5, help="looks in training, T (default: %(default)s)")
    told("--looks", type=int, default=10, help="test after 1 to this many looks (default: %(default)s)")
    told("--noise", nargs="*", type=int, default=[1, 3, 5], help=f"severities of {NOISE} in the test")
    told("--size", type=int, default=32, help="side of the images in pixels (default: %(default)s)")
    told("--images", type=int, help="so many training images (default: all)")
    told("--test_images", type=int, help="so many test images (default: all)")
    told("--epochs", type=int, default=2, help="times that every image is seen (default: %(default)s)")
    told("--batch_size", type=int, default=32, help="images in a step (default: %(default)s)")
    told("--lr", type=float, default=2e-3, help="peak learning rate of AdamW under one cycle (default: %(default)s)")
    told("--seeds", nargs="+", type=int, default=[0], help="a repetition each: other weights, another order")
    return parser.parse_args(argv)


def digits(split: str, args: argparse.Namespace, seed: int = 0) -> Any:
    """Pairs (image (3, size, size) in [0, 1], label); the library keeps a tenth of the training digits as ``val``."""
    count = args.test_images if split == "test" else args.images
    where = {"root": args.root or "data", "download": args.root is None}
    return open_dataset("torchvision/MNIST", split, size=args.size, seed=seed, count=count, **where)


def make(name: str, args: argparse.Namespace) -> nn.Module:
    """The architecture, closed into its loop or as it is."""
    return smpf.create(args.arch, classes=CLASSES, feedback={"steps": args.steps} if name == "feedback" else False)


def train(name: str, seed: int, args: argparse.Namespace) -> nn.Module:
    """One model from random weights; models of one seed see the same batches."""
    data = PairsModule(digits("train", args, seed), batch_size=args.batch_size)
    steps = args.epochs * (len(data.train) // args.batch_size)
    torch.manual_seed(seed)
    module = FeedbackModule(make(name, args), classes=CLASSES, task="classification", lr=args.lr)
    begin, used = time.perf_counter(), time.process_time()
    fit(module, data, steps=steps, seed=seed)
    took, used = time.perf_counter() - begin, time.process_time() - used
    print(f"{name}, seed {seed}: {steps} steps on {len(data.train)} digits in {took:.0f} s ({used:.0f} s of CPU)")
    return module.model


def table(rows: list[dict[str, Any]]) -> Table:
    """Accuracy in per cent, the mean over seeds: a row for each model and noise, a column for each number of looks."""
    looks = sorted({row["looks"] for row in rows})
    shown = Table("model", "noise", *map(str, looks), title="test accuracy in per cent, by looks", box=SIMPLE)
    for (model, severity), own in sorted(grouped(rows, "model", "severity").items()):
        by_looks = grouped(own, "looks")
        cells = (f"{100 * mean(by_looks[t,]):.1f}" if (t,) in by_looks else "" for t in looks)
        shown.add_row(model, str(severity or "none"), *cells)
    return shown


def grouped(rows: list[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """The rows by their values of *names*."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def mean(rows: list[dict[str, Any]]) -> float:
    """Of their scores."""
    return statistics.fmean(row["score"] for row in rows)


def score(models: dict[str, list[nn.Module]], args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All models on the same images: every number of looks, clean and under each noise."""
    with Progress(console=console) as progress:
        task = progress.add_task("scoring", total=1 + len(args.noise))
        told: Any = {"classes": CLASSES, "task": "classification", "batch_size": 100}
        told |= {"looks": range(1, args.looks + 1), "corruptions": [NOISE], "severities": args.noise}
        return robustness(models, digits("test", args), **told, advance=lambda: progress.advance(task))


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, score, draw; returns the scores."""
    args, console = options(argv), Console()
    out = Path(args.out)
    models = {name: [train(name, seed, args) for seed in args.seeds] for name in args.models}
    result = score(models, args, console)
    console.print(table(result["rows"]))
    written = [save_result(result, out / "mnist.json")]
    written += plot(written)
    for seed, model in zip(args.seeds, models.get("feedback", []), strict=False):
        written.append(model.save_pretrained(out / f"model-{seed}", dataset="MNIST"))
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True, highlight=False)
    return result


if __name__ == "__main__":
    main()
