"""What windows cost an answer that needs a long way, and what stitching the state between looks gives back.

python -m benchmarks.long_way [--sizes 32 64 96] [--window 32] [--overlap 0.25] [--images 20] [--looks 300]

Images are those of ``connected``: every pixel that a walk over white blobs reaches from a red mark is to be found, and
the way to the farthest is longer than the image. The model is not trained but made: a loop of two convolutions that
floods what is white from the mark, one pixel a look, and is never wrong untiled. So what is missed is missed for the
windows' sake.
"""

from __future__ import annotations

import argparse

import torch

import smp_feedback as smpf
from smp_feedback.data import Connected
from smp_feedback.evaluation import evaluate

LOOP = smpf.Recurrent(
    steps=8, channels=1, projection="state", norm_error="none", dynamics="leaky", tau=1.0, insert="input"
)


def flooding() -> smpf.FeedbackModel:
    """h' = clip(100 (white - 1) + 3 (mark + h and its four neighbours), 0, 1), which is 0 or 1 for h of 0 and 1."""
    model = smpf.create("PlainConv", classes=2, width=2, depth=2, feedback=LOOP).eval()
    cross = torch.tensor([[0.0, 3, 0], [3, 3, 3], [0, 3, 0]])
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        first, second = model.convs
        first.weight[:, 0, 1, 1], first.weight[:, 1, 1, 1] = 103.0, -3.0  # red of what is white, and less green a mark
        first.bias.copy_(torch.tensor([-100.0, -101.0]))
        model.recurrent.readers[0].weight[:, 0] = cross
        second.weight[0, :, 1, 1] = torch.tensor([1.0, -1.0])  # clipped at 1
        model.recurrent.readout.weight[0, 0] = 1.0
        model.head.weight[1, 0], model.head.bias[1] = 10.0, -5.0
    return model


def main() -> None:
    """Share of images solved, and mIoU, untiled and in windows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[32, 64, 96])
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--looks", type=int, default=300)
    args = parser.parse_args()
    model = flooding()
    ways = {"untiled": model}
    for stitch in ("logits", "state"):
        ways[f"stitch={stitch!r}"] = smpf.tiled(model, args.window, args.overlap, stitch=stitch)
    print(f"{args.images} images a size, windows of {args.window} px, overlap {args.overlap}, {args.looks} looks")
    for size in args.sizes:
        data = Connected("test", size=size, count=args.images)
        for name, way in ways.items():
            found = evaluate(way, data, classes=2, looks=[args.looks], batch_size=4).last
            print(f"{size} px, {name}: {found.solved:.0%} solved, mIoU {found.score:.3f}", flush=True)


if __name__ == "__main__":
    main()
