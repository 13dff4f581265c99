"""What iterative inference gains over its base on CamVid: fit, score train, tune and evaluate, seed by seed.

python -m benchmarks.refinement --root PATH [--seeds 0 1 2] [--arch FCN8s] [--out runs/refinement]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from smp_feedback.cli.main import main as smp_feedback
from smp_feedback.evaluation import load_result
from smp_feedback.evaluation.score_loop import ANSWERS
from smp_feedback.evaluation.statistics import Paired
from smp_feedback.experiments.cost import hardware

UNET = {"arch": "Unet", "encoder": "resnet18", "arguments": {"encoder_depth": 4, "decoder_channels": [64, 48, 32, 16]}}
FCN = {"arch": "FCN8s", "arguments": {"width": 0.125}}
STAGES = ("fit", "train", "tune", "evaluate")


def settings(args, seed):
    """Of the base, and of what refines it."""
    unet = args.arch == "Unet"
    data = {"name": "camvid", "root": args.root, "size": args.size, "batch_size": 8, "augment": "flip"}
    trainer = {"accelerator": args.accelerator, "enable_progress_bar": False}
    model = {
        **(UNET if unet else {**FCN, "arch": args.arch}),
        "encoder_weights": None,
        "feedback": False,
        "lr": args.lr,
    }
    fit = {"seed": seed, "model": model, "data": data, "trainer": {**trainer, "max_epochs": args.epochs}}
    score = {"filters": args.filters, "additional_pools": args.pools, "noise_level": args.noise}
    score |= {} if unet else {"padding": 100}
    refine = {
        "score": score,
        "training": {"lr": args.score_lr},
        "trainer": {**trainer, "max_epochs": args.score_epochs},
    }
    return fit, refine


def one(args, seed, folder):
    """Every stage of one seed: its scores, what was chosen, and the seconds that each stage took."""
    told = dict(zip(("fit", "refine"), settings(args, seed), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    for name, of in told.items():
        (folder / f"{name}.yaml").write_text(json.dumps(of))  # JSON is YAML
    where = ["--accelerator", args.accelerator]
    words = {
        "fit": ["fit", "--config", f"{folder}/fit.yaml", "--out", f"{folder}/base"],
        "train": ["score", "train", "--base", f"{folder}/base", "--config", f"{folder}/refine.yaml"],
        "tune": ["score", "tune", "--run", f"{folder}/refined", "--most", str(args.most), *where],
        "evaluate": ["score", "evaluate", "--run", f"{folder}/refined", "--out", f"{folder}/test", *where],
    }
    words["train"] += ["--out", f"{folder}/refined"]
    seconds = {}
    for name in STAGES:
        begin = time.perf_counter()
        if smp_feedback(words[name]):
            raise SystemExit(f"seed {seed}: {name} failed.")
        seconds[name] = time.perf_counter() - begin
    rows = load_result(folder / "test/scores.json")["rows"]
    chosen = load_result(folder / "refined/tuning.json")["chosen"]
    return {"seed": seed, "rows": rows, "chosen": chosen, "seconds": seconds}


def table(found):
    """A row a seed, and the mean with its standard deviation."""
    shown = Table(title=f"CamVid, test images, mIoU (accuracy) in per cent\n{hardware()}")
    for column in ("seed", *ANSWERS, "chosen", *(f"{stage}, s" for stage in STAGES)):
        shown.add_column(column, justify="right")
    for one in found:
        scores = [f"{100 * row['score']:.1f} ({100 * row['accuracy']:.1f})" for row in one["rows"]]
        chosen = f"{one['chosen']['steps']} x {one['chosen']['step']:g}"
        shown.add_row(str(one["seed"]), *scores, chosen, *(f"{one['seconds'][stage]:.0f}" for stage in STAGES))
    if len(found) > 1:
        columns = [[100 * one["rows"][i]["score"] for one in found] for i in range(len(ANSWERS))]
        spread = [f"{statistics.mean(column):.1f} ± {statistics.stdev(column):.1f}" for column in columns]
        shown.add_section()
        shown.add_row("mean", *spread)
    return shown


def options():
    """What can be told; the defaults take less than six minutes a seed on two cores."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--root", required=True, help="CamVid's folder: train/, trainannot/, ...")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arch", default="Unet", help="Unet of a ResNet-18, or FCN8s (plugin smp-feedback-fcn)")
    parser.add_argument("--size", type=int, nargs=2, default=[96, 128], metavar=("H", "W"))
    parser.add_argument("--epochs", type=int, default=8, help="of the base")
    parser.add_argument("--lr", type=float, default=2e-3, help="of the base")
    parser.add_argument("--score_epochs", type=int, default=8, help="of the autoencoder")
    parser.add_argument("--score_lr", type=float, default=1e-3, help="of the autoencoder")
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--pools", type=int, default=1, help="additional_pools")
    parser.add_argument("--most", type=int, default=20, help="updates to try")
    parser.add_argument("--noise", type=float, default=0.1, help="standard deviation; 0.5 in the paper")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/refinement"))
    return parser


def main():
    """All seeds, one after another."""
    args = options().parse_args()
    torch.set_num_threads(args.threads)
    found = [one(args, seed, args.out / f"seed{seed}") for seed in args.seeds]
    console = Console(width=140)
    console.print(table(found))
    gains = Paired(tuple(one["rows"][-1]["score"] - one["rows"][0]["score"] for one in found))
    spread = f" ± {100 * gains.sd:.1f}" if len(found) > 1 else ""
    console.print(f"after - before: {100 * gains.mean:+.1f}{spread} points: {gains.verdict}")
    told = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items() if key != "root"}
    (args.out / "results.json").write_text(
        json.dumps({"hardware": hardware(), "settings": told, "seeds": found}, indent=1)
    )
    console.print(f"wrote {args.out / 'results.json'}", soft_wrap=True)


if __name__ == "__main__":
    main()
