"""What a frame costs: one look that goes on from the last, beside one forward of the plain model, in the same run.

python -m benchmarks.look_cost [--archs Unet ...] [--encoder resnet34] [--size 256] [--batch 1] [--threads 1]
"""

from __future__ import annotations

import torch

import smp_feedback as smpf
from benchmarks.measure import begin, cells, options, plain_and_image, show, timed

ARCHS = ["Unet", "FPN", "DeepLabV3Plus"]
KINDS = {
    "gated, softmax of 2": smpf.Recurrent(dynamics="gated"),
    "gated, state of 8": smpf.Recurrent(dynamics="gated", projection="state", channels=8),
    "leaky, softmax of 2": smpf.Recurrent(dynamics="leaky"),
}


def looks(model, image):
    """A film that stands still: each call is its next frame, whose logits are asked for."""
    before = model.look(image)

    def one():
        nonlocal before
        before = model.look(image, before)
        return before.logits

    return one


def measured(arch, args):
    """Of each kind the ratio of one later look to one plain forward, and its quartiles."""
    plain, image = plain_and_image(arch, args)
    with torch.inference_mode():
        return {
            kind: timed(looks(smpf.wrap(plain, config).eval(), image), lambda: plain(image), args.repeats)
            for kind, config in KINDS.items()
        }


def main():
    """All architectures, unless some are named."""
    args = begin(options(__doc__, "look_cost", archs=ARCHS, batch=1, threads=1, repeats=15))
    results = {arch: measured(arch, args) for arch in args.archs}
    rows = [[arch, kind, *cells(found)] for arch, kinds in results.items() for kind, found in kinds.items()]
    columns = ["base", "loop", "one look / one plain forward", "quartiles"]
    show(f"a frame at {args.size} px, batch {args.batch}, {args.encoder}", columns, rows, results, args.out)


if __name__ == "__main__":
    main()
