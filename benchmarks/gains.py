"""What compiling, channels_last and bfloat16 gain, for the loop and for plain smp alike.

python -m benchmarks.gains [--arch Unet] [--encoder resnet34] [--steps 5] [--size 256]
"""

from __future__ import annotations

import copy

import torch

import smp_feedback as smpf
from benchmarks.measure import bars, begin, cells, options, plain_and_image, show, timed


def as_is(model, image, device):
    """Eager, contiguous, float32."""
    return lambda: model(image)


def compiled(model, image, device):
    """One compiled look for the loop; the whole of plain smp."""
    if isinstance(model, smpf.FeedbackModel):
        model.compile_step()
        return lambda: model(image)
    whole = torch.compile(model)
    return lambda: whole(image)


def channels_last(model, image, device):
    """Weights and image."""
    model, image = (x.to(memory_format=torch.channels_last) for x in (model, image))
    return lambda: model(image)


def bfloat16(model, image, device):
    """Autocast."""

    def run():
        with torch.autocast(device, torch.bfloat16):
            return model(image)

    return run


def cuda_graphs(model, image, device):
    """``mode="reduce-overhead"``."""
    if isinstance(model, smpf.FeedbackModel):
        model.compile_step(mode="reduce-overhead")
        return lambda: model(image)
    whole = torch.compile(model, mode="reduce-overhead")
    return lambda: whole(image)


WAYS = {"compile": compiled, "channels_last": channels_last, "bfloat16": bfloat16}


def measure(way, args):
    """Time with *way* over time without, for plain smp and for the loop; and the loop over T plain, both with it."""
    plain, image = plain_and_image(args.arch, args)
    model = smpf.wrap(plain, smpf.Recurrent(steps=args.steps)).eval()
    with torch.inference_mode():
        runs = [way(copy.deepcopy(m), image, args.device) for m in (plain, model)]
        gains = [
            timed(run, as_is(m, image, args.device), args.repeats) for run, m in zip(runs, (plain, model), strict=True)
        ]
        both = timed(runs[1], lambda: [runs[0]() for _ in range(args.steps)], args.repeats)
    return {"plain": gains[0], "loop": gains[1], "loop / plain": both}


def main():
    """Each way on its own; CUDA graphs where there is a GPU."""
    args = begin(options(__doc__, "gains", arch="Unet", ways=[*WAYS]))
    ways = WAYS | ({"cuda graphs": cuda_graphs} if args.device == "cuda" else {})
    chosen = {name: ways[name] for name in ([*ways] if args.ways == [*WAYS] else args.ways)}
    results = {name: measure(way, args) for name, way in chosen.items()}
    rows = [[name, *(cell for kind in found.values() for cell in cells(kind))] for name, found in results.items()]
    title = f"time with / time without ({args.arch}, {args.encoder}, {args.size} px, T = {args.steps})"
    columns = ["", "plain smp", "quartiles", "loop", "quartiles", "loop / T plain, both with", "quartiles"]
    show(title, columns, rows, results, args.out)
    bars(title, {name: found["loop"] for name, found in results.items()}, args.out, "loop: time, of eager float32")


if __name__ == "__main__":
    main()
