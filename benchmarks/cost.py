"""What looking again costs: T looks against T forward passes of the plain model, side by side, and with backward.

python -m benchmarks.cost [--archs Unet ...] [--encoder resnet34] [--steps 5] [--size 256] [--threads 2]
"""

from __future__ import annotations

import torch

import smp_feedback as smpf
from benchmarks.measure import SMPS, backward_too, bars, begin, cells, options, plain_and_image, show, timed


def last_of(steps):
    """The last step's logits, what ``forward`` gives; no step is kept longer than it takes to ask for the next."""
    for step in steps:  # noqa: B007
        pass
    return step.logits


def in_inference(arch, args):
    """T looks over T plain forwards; and ``iterate``, to the last step's logits, over ``forward``."""
    plain, image = plain_and_image(arch, args)
    model = smpf.wrap(plain, smpf.Recurrent(steps=args.steps)).eval()
    with torch.inference_mode():
        looks = timed(lambda: model(image), lambda: [plain(image) for _ in range(args.steps)], args.repeats)
        lazily = timed(lambda: last_of(model.iterate(image)), lambda: model(image), args.repeats)
    return looks, lazily


def in_training(arch, args):
    """Forward and backward of T looks over those of the plain model, T times."""
    plain, image = plain_and_image(arch, args)
    model = smpf.wrap(plain, smpf.Recurrent(steps=args.steps)).train()
    once = backward_too(lambda: plain.train()(image))
    repeats = max(2, args.repeats // 2)  # a turn takes seconds
    base = lambda: [once() for _ in range(args.steps)]  # noqa: E731
    return timed(backward_too(lambda: model(image)), base, repeats, warm_up=1)


def main():
    """Every architecture, unless some are named."""
    args = begin(options(__doc__, "cost", archs=SMPS))
    rows, results = [], {}
    for arch in args.archs:
        looks, lazily = in_inference(arch, args)
        trained = in_training(arch, args)
        results[arch] = {"inference": looks, "iterate over forward": lazily, "training": trained}
        rows.append([arch, f"{looks['base_ms'] / args.steps:.0f} ms", *cells(looks), *cells(lazily), *cells(trained)])
    title = f"T = {args.steps} looks / {args.steps} plain forwards ({args.encoder}, {args.size} px, batch {args.batch})"
    columns = ["architecture", "plain forward", "inference", "quartiles", "iterate / forward", "quartiles"]
    show(title, [*columns, "training", "quartiles"], rows, results, args.out)
    bars(title, {arch: found["inference"] for arch, found in results.items()}, args.out, "time, in plain forwards")


if __name__ == "__main__":
    main()
