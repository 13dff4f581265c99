"""Which defaults train best: the measurement behind docs/defaults.md.

A small U-Net (three stages of a ResNet-18, random weights, 48 px, T = 4) on noisy polygons and circles, one
change at a time. Scored twice on held-out images: with BatchNorm's running statistics, as in use, and with those
of the batch; the difference is what running statistics cost.

    python -m benchmarks.defaults [--seeds 3] [--steps 200] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassJaccardIndex

from smp_feedback import Recurrent, create, wrap
from smp_feedback.data import Shapes
from smp_feedback.training import FeedbackModule, PairsModule, fit

NOISE, BATCH, SIZE = 0.3, 8, 48
BASE = {"encoder_depth": 3, "decoder_channels": (64, 32, 16)}
VARIANTS = {
    "feed-forward": None,
    "default": Recurrent(),
    "norm_error=layer": Recurrent(norm_error="layer"),
    "statistics=shared": Recurrent(statistics="shared"),
    "dynamics=residual": Recurrent(dynamics="residual"),
    "loss on every step": Recurrent(),
}


def score(model, data, *, running):
    """mIoU with running statistics, or with those of each batch (on a copy: they would be updated)."""
    model = copy.deepcopy(model).train(not running)
    metric = MulticlassJaccardIndex(3)
    with torch.no_grad():
        for image, target in DataLoader(data, 40):
            metric.update(model(image).argmax(1), target)
    return float(metric.compute())


def run(name, seed, steps):
    """Train one variant; its two scores."""
    torch.manual_seed(seed)
    model = create("Unet", "resnet18", None, classes=3, feedback=False, **BASE)
    if VARIANTS[name] is not None:
        model = wrap(model, VARIANTS[name])
    module = FeedbackModule(model, classes=3, supervise="mean" if name == "loss on every step" else "last")
    data = PairsModule(Shapes(steps * BATCH, SIZE, noise=NOISE, seed=seed), batch_size=BATCH)
    fit(module, data, steps=steps, seed=seed, progress=False)
    test = Shapes(200, SIZE, noise=NOISE, seed=10_000)
    return score(model, test, running=True), score(model, test, running=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("runs/defaults.json"))
    args = parser.parse_args()
    print(f"{'variant':24s} {'mIoU, running stats':>22s} {'mIoU, batch stats':>22s}   {args.seeds} seeds, mean ± std")
    results = {}
    for name in args.only:
        results[name] = [run(name, seed, args.steps) for seed in range(args.seeds)]
        scores = 100 * torch.tensor(results[name])
        spread = scores.std(0) if args.seeds > 1 else torch.zeros(2)
        cells = [f"{m:.1f} ± {s:.1f}" for m, s in zip(scores.mean(0), spread, strict=True)]
        print(f"{name:24s} {cells[0]:>22s} {cells[1]:>22s}", flush=True)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(results, indent=2))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
