"""What restoring T + 1 times costs: beside its parts alone, and beside T + 1 whole passes, as the research code ran.

python -m benchmarks.restoration_cost [--archs Unet ...] [--steps 3] [--filters 64] [--depth 5] [--size 256]
"""

from __future__ import annotations

import torch

import smp_feedback as smpf
from benchmarks.measure import begin, interleaved, options, plain_and_image, ratio, show

ARCHS = ["Unet", "DeepLabV3Plus", "FPN"]


def measured(arch, args):
    """Seconds, taken in turns: the plain model, the one that restores, and of its restorer both ways, each alone."""
    plain, image = plain_and_image(arch, args)
    model = smpf.wrap(plain, smpf.Restoration(steps=args.steps, depth=args.depth, filters=args.filters)).eval()
    restorer = model.restorer
    with torch.inference_mode():
        begun = restorer.begin(image)
        feedback = model.feed_back(model.segment(image), image)
        runs = {
            "plain": lambda: plain(image),
            "restored": lambda: model(image),
            "down": lambda: restorer.begin(image),
            "first": lambda: restorer.restore(image, begun, None),
            "up": lambda: restorer.restore(image, begun, feedback),
        }
        return interleaved(runs, args.repeats)


def shares(seconds, steps):
    """Of the model's time: over its parts alone, and over T + 1 whole passes; the restorer's share of one pass."""
    parts = list(zip(*(seconds[name] for name in ("plain", "down", "first", "up")), strict=True))
    alone = [(steps + 1) * plain + down + first + steps * up for plain, down, first, up in parts]
    whole = [(steps + 1) * (plain + down) + first + steps * up for plain, down, first, up in parts]
    return {
        "loop": ratio(seconds["restored"], alone),
        "published": ratio(seconds["restored"], whole),
        "plain": ratio(seconds["restored"], seconds["plain"]),
    }


def main():
    """All architectures, unless some are named."""
    facts = {"archs": ARCHS, "steps": 3, "filters": 64, "depth": 5, "classes": 11, "batch": 1}
    args = begin(options(__doc__, "restoration_cost", **facts))
    results = {arch: shares(measured(arch, args), args.steps) for arch in args.archs}
    rows = [
        [arch, *(f"{m:.3f} ({low:.3f} - {high:.3f})" for m, low, high in found.values())]
        for arch, found in results.items()
    ]
    columns = ["base", "model / its parts alone", f"model / {args.steps + 1} whole passes", "model / plain"]
    title = f"{args.steps} iterations at {args.size} px, {args.filters} filters, {args.encoder}"
    show(title, columns, rows, results, args.out)


if __name__ == "__main__":
    main()
