"""What of a decoder no feedback reaches, in multiply-adds: T looks over T plain forwards with and without keeping it.

python -m benchmarks.reached [--archs Unet ...] [--insert stage:3] [--encoder resnet34] [--steps 5] [--size 64]
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

import smp_feedback as smpf
from benchmarks.measure import SMPS, begin, options, plain_and_image, show
from smp_feedback.errors import SurgeryError


def operations(run):
    """How many floating-point operations of products and convolutions *run* takes."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


def measure(arch, args):
    """T looks over T plain forwards where all of the decoder runs in each, and where it need not."""
    plain, image = plain_and_image(arch, args, max(args.size, 128) if arch == "PAN" else args.size)
    model = smpf.wrap(plain, smpf.Recurrent(steps=args.steps, insert=args.insert)).eval()
    unit, entry = args.steps * operations(lambda: plain(image)), model.feedback.entry
    kept = operations(lambda: model(image)) / unit
    model.feedback.entry = replace(entry, unreached=())
    return {"whole": operations(lambda: model(image)) / unit, "kept": kept, "parts": len(entry.unreached)}


def main():
    """Every architecture that can be entered there, unless some are named."""
    args = begin(options(__doc__, "reached", archs=SMPS, insert="stage:3", size=64, batch=1))
    results = {}
    for arch in args.archs:
        try:
            results[arch] = measure(arch, args)
        except SurgeryError as error:
            print(f"{arch}: {error}")
    rows = [[arch, f"{x['whole']:.3f}", f"{x['kept']:.3f}", str(x["parts"])] for arch, x in results.items()]
    title = f"multiply-adds of T = {args.steps} looks / {args.steps} plain forwards ({args.encoder}, {args.insert})"
    show(title, ["base", "all of the decoder", "without what is kept", "parts kept"], rows, results, args.out)


if __name__ == "__main__":
    main()
