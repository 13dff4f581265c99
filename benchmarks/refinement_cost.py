"""What a refinement costs: T updates beside one pass of the base and T passes of its autoencoder, in the same run.

python -m benchmarks.refinement_cost [--archs Unet ...] [--steps 10] [--filters 64] [--size 256]
"""

from __future__ import annotations

import torch

import smp_feedback as smpf
from benchmarks.measure import begin, interleaved, options, plain_and_image, ratio, show

ARCHS = ["Unet", "DeepLabV3Plus", "FPN"]


def measured(arch, args):
    """Seconds, taken in turns: the plain model, the refined one, the autoencoder alone, and one with all it reads."""
    plain, image = plain_and_image(arch, args)
    config = smpf.Score(steps=args.steps, filters=args.filters, tolerance=None)
    model = smpf.wrap(plain, config).eval()
    autoencoder = model.feedback.autoencoder
    with torch.inference_mode():
        begun = model.begin(image)
        size = begun.y.shape[-2:]
        conditions = autoencoder.condition(begun.features, size)
        runs = {
            "plain": lambda: plain(image),
            "refined": lambda: model(image),
            "once": lambda: autoencoder(begun.y, conditions),
            "whole": lambda: autoencoder(begun.y, autoencoder.condition(begun.features, size)),
        }
        return interleaved(runs, args.repeats)


def shares(seconds, steps):
    """Of the refined model's time over base and T passes alone; a pass over the base's; conditions in a pass."""
    alone = [p + steps * o for p, o in zip(seconds["plain"], seconds["once"], strict=True)]
    return {
        "loop": ratio(seconds["refined"], alone),
        "pass": ratio(seconds["once"], seconds["plain"]),
        "conditioned": ratio(seconds["whole"], seconds["once"]),
    }


def main():
    """All architectures, unless some are named."""
    args = begin(options(__doc__, "refinement_cost", archs=ARCHS, steps=10, filters=64, classes=11, batch=1, size=224))
    results = {arch: shares(measured(arch, args), args.steps) for arch in args.archs}
    rows = [
        [arch, *(f"{m:.3f} ({low:.3f} - {high:.3f})" for m, low, high in found.values())]
        for arch, found in results.items()
    ]
    columns = [
        "base",
        f"{args.steps} updates / (base + {args.steps} passes alone)",
        "one pass / base",
        "pass with features / pass",
    ]
    show(f"refinement at {args.size} px, {args.filters} filters, {args.encoder}", columns, rows, results, args.out)


if __name__ == "__main__":
    main()
