"""What a large photograph costs: memory and time of ``predict`` and ``validate --window``, as whole processes.

python -m benchmarks.large_images [--size 4000 6000] [--classes 3] [--steps 4] [--windows 512] [--whole 0]
                                  [--verb predict|validate] [--few 0]

Each row is a process of its own that reads the photograph (and its mask), looks, and writes its label map (or its
scores). Memory is the most that the process ever had resident (``ru_maxrss``), libraries included; ``--whole 1`` adds a
row without windows. With ``--few 3`` the model of ``validate`` is asked for three windows, and its last answer stands
for all others: time says nothing then, and memory what it says otherwise, as all buffers are there.
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
from smp_feedback.loops.tiling.asking import WindowAsking

answered, few = WindowAsking.answered, int(sys.argv.pop(1))

def asked(how, image, answer, *where):
    kept, seen = [], []
    def told(window):
        seen.append(None)
        if len(seen) <= few or not few:
            kept[:] = [answer(window)]
        return kept[0].clone()
    return answered(how, image, told, *where)

WindowAsking.answered = asked
status = main(sys.argv[1:])
print(json.dumps({"status": status, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def photograph(path: Path, size: list[int]) -> None:
    """Smooth noise, as JPEG: its content does not matter, its size does."""
    small = np.random.default_rng(0).integers(0, 256, (-(-size[0] // 50), -(-size[1] // 50), 3), dtype=np.uint8)
    Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(path, quality=90)


def run_of(folder: Path, args: argparse.Namespace) -> list[str]:
    """A run that was trained on two tiny images, and the photograph with a mask as what it is validated on."""
    names = [f"class {k}" for k in range(args.classes)]
    for split, size in (("train", [32, 32]), ("val", args.size)):
        for k in range(2 if split == "train" else 1):
            for part in (split, f"{split}annot"):
                (folder / "data" / part).mkdir(parents=True, exist_ok=True)
            photograph(folder / "data" / split / f"{k}.jpg", size)
            mask = np.arange(size[0] * size[1], dtype=np.uint32).reshape(size) // 977 % args.classes
            Image.fromarray(mask.astype(np.uint8)).save(folder / "data" / f"{split}annot" / f"{k}.png")
    options = {"images": "{split}", "masks": "{split}annot", "classes": names}
    told = {
        "model": {"encoder": "resnet18", "encoder_weights": None, "feedback": {"steps": args.steps}},
        "data": {"name": "folder", "root": str(folder / "data"), "batch_size": 2, "options": options},
        "trainer": {"max_epochs": 1, "limit_val_batches": 0, "accelerator": "cpu", "enable_progress_bar": False},
    }
    (folder / "run.yaml").write_text(json.dumps(told))
    fit = ["-m", "smp_feedback", "fit", "--config", str(folder / "run.yaml"), "--out", str(folder / "run")]
    subprocess.run([sys.executable, *fit], check=True, capture_output=True)
    return ["validate", "--run", str(folder / "run"), "--weights", "last", "--bootstrap", "0"]


def measured(folder: Path, told: list[str], few: int) -> dict[str, float]:
    """One command: its time in seconds and its memory in GB."""
    told = [*told, "--out", str(folder / "out"), "--trainer.accelerator", "cpu"]
    begin = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-c", MEASURED, str(few), *told]
    ran = subprocess.run(command, capture_output=True, text=True)
    last = ran.stdout.strip().splitlines()[-1] if ran.stdout.strip() else ""
    if ran.returncode or not last.startswith("{") or json.loads(last)["status"]:
        raise SystemExit(ran.stdout + ran.stderr)
    return {"seconds": time.perf_counter() - begin, "gb": json.loads(last)["bytes"] / 1e9}


def main() -> None:
    """A ResNet-18 U-Net that looks *steps* times, in windows of each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[4000, 6000])
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--windows", type=int, nargs="*", default=[512])
    parser.add_argument("--whole", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--verb", choices=("predict", "validate"), default="predict")
    parser.add_argument("--few", type=int, default=0)
    parser.add_argument("--words", nargs=argparse.REMAINDER, default=[], help="more words of the verb, last")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    with TemporaryDirectory() as where:
        folder = Path(where)
        if args.verb == "validate":
            told = run_of(folder, args)
        else:
            loop = smpf.Recurrent(steps=args.steps, feedback_init=1.0)
            smpf.create("Unet", "resnet18", None, classes=args.classes, feedback=loop).save_pretrained(folder / "model")
            photograph(folder / "photo.jpg", args.size)
            told = ["predict", "--run", str(folder / "model"), "--images", str(folder / "photo.jpg")]
        rows = [("whole", [])] * args.whole + [(f"window {one}", ["--window", str(one)]) for one in args.windows]
        print(f"{args.size[1]} x {args.size[0]} px, {args.classes} classes, T = {args.steps}, {args.threads} thread(s)")
        for name, words in rows:
            found = measured(folder, [*told, *words, *args.words], args.few)
            print(f"{args.verb}, {name}: {found['gb']:.2f} GB, {found['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
