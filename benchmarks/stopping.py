"""What it costs to stop by the answer: mazes solved, and looks taken, with the loops of a study.

python -m benchmarks.stopping runs/study/mazes/models/feedback-*.safetensors [--sizes 5 9 13] [--alike 3 6 12]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import load_file

import smp_feedback as smpf
from smp_feedback.data import Mazes
from smp_feedback.evaluation import evaluate


def main() -> None:
    """One line for each model, size and rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 9, 13])
    parser.add_argument("--alike", type=int, nargs="+", default=[3, 6, 12], help="equal answers before an image stops")
    parser.add_argument("--at_most", type=int, default=640)
    parser.add_argument("--images", type=int, default=50)
    args = parser.parse_args()
    for path in args.weights:
        model = smpf.create("PlainConv", classes=2, feedback="anytime").eval()
        model.load_state_dict(load_file(path))
        for size in args.sizes:
            data = Mazes("test", size=size, count=args.images)
            for alike in args.alike:
                rule = smpf.until_settled(alike, at_most=args.at_most)
                found = evaluate(model, data, classes=2, looks=[rule]).last
                solved = f"{found.solved:.0%} in {found.mean_looks:.1f} looks"
                print(f"{path.stem}: {size} x {size}, {alike} alike: {solved}", flush=True)


if __name__ == "__main__":
    main()
