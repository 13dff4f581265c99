"""What a large photograph costs: memory and time of ``smp-feedback predict --window``, as whole processes.

python -m benchmarks.large_images [--size 4000 6000] [--classes 3] [--steps 4] [--windows 512] [--whole 0]

Each row is a process of its own that reads the photograph, looks and writes its label map. Memory is the most that the
process ever had resident (``ru_maxrss``), libraries included; ``--whole 1`` adds a row without windows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

import smp_feedback as smpf

MEASURED = """
import json, resource, sys
from smp_feedback.cli.main import main
status = main(sys.argv[1:])
print(json.dumps({"status": status, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def photograph(path: Path, size: list[int]) -> None:
    """Smooth noise, as JPEG: its content does not matter, its size does."""
    small = np.random.default_rng(0).integers(0, 256, (size[0] // 50, size[1] // 50, 3), dtype=np.uint8)
    Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(path, quality=90)


def predicted(folder: Path, words: list[str]) -> dict[str, float]:
    """One run of ``predict``: its time in seconds and its memory in GB."""
    told = ["predict", "--run", str(folder / "model"), "--images", str(folder / "photo.jpg"), *words]
    told += ["--out", str(folder / "out"), "--trainer.accelerator", "cpu"]
    begin = time.perf_counter()
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", MEASURED, *told], capture_output=True, text=True)
    last = ran.stdout.strip().splitlines()[-1] if ran.stdout.strip() else ""
    if ran.returncode or not last.startswith("{") or json.loads(last)["status"]:
        raise SystemExit(ran.stdout + ran.stderr)
    with Image.open(folder / "out" / "photo.png") as written:
        size = written.size[::-1]
    return {"seconds": time.perf_counter() - begin, "gb": json.loads(last)["bytes"] / 1e9, "size": size}


def main() -> None:
    """A ResNet-18 U-Net that looks *steps* times, in windows of each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[4000, 6000])
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--windows", type=int, nargs="*", default=[512])
    parser.add_argument("--whole", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--words", nargs=argparse.REMAINDER, default=[], help="more words of predict, last")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    with TemporaryDirectory() as where:
        folder = Path(where)
        loop = smpf.Recurrent(steps=args.steps, feedback_init=1.0)
        smpf.create("Unet", "resnet18", None, classes=args.classes, feedback=loop).save_pretrained(folder / "model")
        photograph(folder / "photo.jpg", args.size)
        rows = [("whole", [])] * args.whole + [(f"window {one}", ["--window", str(one)]) for one in args.windows]
        print(f"{args.size[1]} x {args.size[0]} px, {args.classes} classes, T = {args.steps}, {args.threads} thread(s)")
        for name, words in rows:
            found = predicted(folder, [*words, *args.words])
            print(f"{name}: {found['gb']:.2f} GB, {found['seconds']:.0f} s, written {found['size']}", flush=True)


if __name__ == "__main__":
    main()
