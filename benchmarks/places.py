"""What it saves to let the feedback enter deeper: all that lies before runs once per image.

python -m benchmarks.places [--arch Unet] [--encoder resnet34] [--steps 5] [--size 256]
"""

from __future__ import annotations

import torch

import smp_feedback as smpf
from benchmarks.measure import backward_too, bars, begin, cells, options, plain_and_image, show, timed

PLACES = ["input", "stem", "stage:1", "stage:2", "stage:3", "stage:4", "decoder"]


def measure(insert, args):
    """T looks over T plain forwards, in inference and in training."""
    plain, image = plain_and_image(args.arch, args)
    model = smpf.wrap(plain, smpf.Recurrent(steps=args.steps, insert=insert))
    with torch.inference_mode():
        looks = timed(lambda: model(image), lambda: [plain(image) for _ in range(args.steps)], args.repeats)
    model.train()
    once = backward_too(lambda: plain.train()(image))
    repeats = max(2, args.repeats // 2)  # a turn takes seconds
    base = lambda: [once() for _ in range(args.steps)]  # noqa: E731
    trained = timed(backward_too(lambda: model(image)), base, repeats, warm_up=1)
    return {"inference": looks, "training": trained}


def main():
    """Every place, unless some are named."""
    args = begin(options(__doc__, "places", arch="Unet", places=PLACES))
    results = {insert: measure(insert, args) for insert in args.places}
    rows = [[insert, *cells(found["inference"]), *cells(found["training"])] for insert, found in results.items()]
    title = f"T = {args.steps} looks / {args.steps} plain forwards ({args.arch}, {args.encoder}, {args.size} px)"
    show(title, ["insert", "inference", "quartiles", "training", "quartiles"], rows, results, args.out)
    bars(title, {insert: found["inference"] for insert, found in results.items()}, args.out, "time, in plain forwards")


if __name__ == "__main__":
    main()
