"""What looking again costs: T looks against T forward passes of the plain model, in inference, side by side.

python -m benchmarks.cost [--archs Unet ...] [--encoder resnet34] [--steps 5] [--size 256] [--threads 2]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import segmentation_models_pytorch as smp
import torch

import smp_feedback as smpf
from benchmarks.measure import interleaved, ratio, show


def measure(arch, args):
    """The ratio for one architecture: the loop's median over T plain forwards', with quartiles."""
    encoder = "tu-vit_tiny_patch16_224" if arch == "DPT" else args.encoder
    size = 224 if arch == "DPT" else args.size
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plain = smp.create_model(arch, encoder, encoder_weights=None, classes=11).eval().to(device)
    model = smpf.wrap(plain, smpf.Recurrent(steps=args.steps)).eval()
    image = torch.rand(args.batch, 3, size, size, device=device)

    def repeat():
        for _ in range(args.steps):
            plain(image)

    with torch.inference_mode():
        seconds = interleaved({"plain": repeat, "loop": lambda: model(image)}, args.repeats)
    return ratio(seconds["loop"], seconds["plain"]), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--archs", nargs="*", default=smpf.list_architectures())
    parser.add_argument("--encoder", default="resnet34")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/cost.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows, results = [], {}
    for arch in args.archs:
        (middle, low, high), seconds = measure(arch, args)
        per_look = 1000 * sorted(seconds["plain"])[len(seconds["plain"]) // 2] / args.steps
        rows.append([arch, f"{per_look:.0f} ms", f"{middle:.3f}", f"{low:.3f} - {high:.3f}"])
        results[arch] = {"ratio": middle, "quartiles": [low, high], "plain_ms": per_look}
    title = f"{args.steps} looks / {args.steps} plain forwards ({args.encoder}, {args.size} px, batch {args.batch})"
    show(title, ["architecture", "one plain forward", "ratio", "quartiles"], rows, results, args.out)


if __name__ == "__main__":
    main()
