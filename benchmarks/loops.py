"""Which loop earns its compute: dynamics, what is fed back, how long it lasts, and which looks carry the loss.

One change at a time from the loop that ``compare`` takes, on the shallow base and the noisy triangles of
studies/shallow.yaml, against the same twins. Every variant is scored after 1, 2, T and 2 T looks.

    python -m benchmarks.loops [--seeds 3] [--train_steps 400] [--depth 1] [--jobs 1] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from smp_feedback.experiments.comparison.runs import ComparisonKey, run
from smp_feedback.experiments.comparison.settings import LOOP, ComparisonSettings, Condition
from smp_feedback.experiments.cost import hardware

TRAIN = Condition.parse("rescaled_noise:5")
DECODER = (64, 48, 32, 16)
STATE = {"dynamics": "leaky", "tau": 1.0, "channels": 8}
VARIANTS = {
    "plain": ("plain", {}, "last"),
    "equal-compute": ("equal-compute", {}, "last"),
    "one-step": ("one-step", LOOP, "mean"),
    "compare's loop": ("feedback", LOOP, "mean"),
    "loss on the last look": ("feedback", LOOP, "last"),
    "no normalisation": ("feedback", {**LOOP, "norm_error": "none"}, "mean"),
    "softmax of K = 8": ("feedback", STATE, "mean"),
    "residual, tau 4, K = 8": ("feedback", {"dynamics": "residual", "tau": 4.0, "channels": 8}, "last"),
    "decay, tau 4, K = 8": ("feedback", {"tau": 4.0, "channels": 8}, "last"),
    "Recurrent(), as published": ("feedback", {}, "last"),
}


def settings(name, args):
    """The comparison of which variant *name* is one model."""
    _, loop, supervise = VARIANTS[name]
    return ComparisonSettings(
        data_options={"kinds": 1},
        arch_options={"encoder_depth": args.depth, "decoder_channels": DECODER[-args.depth :]},
        train=[str(TRAIN)],
        train_count=[64],
        train_steps=args.train_steps,
        feedback=loop or True,
        supervise=supervise,
        corruptions=[],
        test_images=200,
    )


def measure(name, seed, args):
    """Train one variant; mIoU by number of looks, and training seconds."""
    torch.set_num_threads(1)
    found = run(settings(name, args), ComparisonKey(VARIANTS[name][0], TRAIN, 64, seed), accelerator="cpu").found
    matched = [score for score in found["scores"] if score["corruption"] == TRAIN.corruption]
    return {"looks": {score["looks"]: score["score"] for score in matched}, "seconds": found["seconds"]}


def line(name, rows, steps):
    """One line of the table."""
    cells = []
    for looks in (1, 2, steps, 2 * steps):
        values = [100 * row["looks"][looks] for row in rows if looks in row["looks"]]
        spread = torch.tensor(values).std() if len(values) > 1 else 0.0
        cells.append(f"{sum(values) / len(values):.1f} ± {spread:.1f}" if values else "")
    return f"| {name} | {' | '.join(cells)} | {sum(row['seconds'] for row in rows) / len(rows):.0f} s |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train_steps", type=int, default=400)
    parser.add_argument("--depth", type=int, default=1, choices=(1, 2, 3, 4), help="stages of the encoder")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/loops.json"))
    args = parser.parse_args()
    print(f"{hardware()}; encoder_depth={args.depth}; mIoU (%), {args.seeds} seeds, mean ± std")
    print("| loop | T = 1 | T = 2 | T | 2 T | training |\n|---|---|---|---|---|---|", flush=True)
    results = {}
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        jobs = {name: [pool.submit(measure, name, seed, args) for seed in range(args.seeds)] for name in args.only}
        for name, waiting in jobs.items():
            results[name] = [job.result() for job in waiting]
            print(line(name, results[name], settings(name, args).looks), flush=True)
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps({"settings": dataclasses.asdict(settings(name, args)), "runs": results}))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
