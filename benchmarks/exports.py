"""What stays dynamic when a model is exported, by architecture, and how close the file's answers are.

python -m benchmarks.exports [--archs Unet ...] [--encoder resnet18] [--steps 3] [--size 224] [--formats onnx pt2]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

import smp_feedback as smpf
from benchmarks.measure import SMPS, show


def measure(arch, format, args):
    """Axes, largest difference, seconds and megabytes of one exported model, its feedback in use."""
    encoder = "tu-vit_tiny_patch16_224" if arch == "DPT" else args.encoder
    model = smpf.create(arch, encoder, None, classes=3, feedback=smpf.Recurrent(steps=args.steps, feedback_init=0.1))
    model.train()(torch.rand(2, 3, args.size, args.size))
    image = torch.rand(1, 3, args.size, args.size)
    with TemporaryDirectory() as folder:
        begin = time.perf_counter()
        written = smpf.export(model, Path(folder) / f"model.{format}", image=image)
        seconds = time.perf_counter() - begin
        return written, seconds, written.path.stat().st_size / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--archs", nargs="*", default=SMPS)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--formats", nargs="*", default=["onnx", "pt2"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/exports.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows, results = [], {}
    for arch in args.archs:
        for format in args.formats:
            with Console(stderr=True).status(f"{arch} as {format}"):
                written, seconds, size = measure(arch, format, args)
            axes = " x ".join(map(str, written.image))
            rows.append([arch, format, axes, f"{written.difference:.0e}", f"{seconds:.0f} s", f"{size:.0f} MB"])
            results[f"{arch}.{format}"] = {
                "image": written.image,
                "difference": written.difference,
                "seconds": seconds,
                "refused": written.refused,
            }
    columns = ["architecture", "format", "image", "largest difference", "export and check", "file"]
    show(f"{args.steps} looks ({args.encoder}, {args.size} px)", columns, rows, results, args.out)


if __name__ == "__main__":
    main()
