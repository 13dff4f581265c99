"""Does a state that goes on from click to click help? Four models of one base, trained on as many forward passes.

python -m benchmarks.clicks [--data assemblies] [--root DIR] [--seeds 0 1 2] [--steps 900] [--out runs/clicks_bench]

`assemblies` are drawn; `instances` takes --root, such as that of nuclei (train/, traininstances/ and so on). Each
model is kept once it is scored, and a run that is started again goes on with those that are missing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch.utils.data import Subset

import smp_feedback as smpf
from smp_feedback.config.clicks import ClickConfig
from smp_feedback.data import open_dataset
from smp_feedback.evaluation import evaluate_clicks, load_result, save_result
from smp_feedback.evaluation.clicks import SHOWN, TARGETS, clicked
from smp_feedback.training import ClickModule, PairsModule, fit

VARIANTS = {
    "carried": {"mask": False, "carry": True},
    "carried, mask": {"mask": True, "carry": True},
    "clicks alone": {"mask": False, "carry": False},
    "mask before (RITM)": {"mask": True, "carry": False},
}
LOOP = {"preset": "anytime", "steps": 1, "dynamics": "gated", "feedback_init": 0.05}
USUAL = {"steps": 900, "clicks": 10, "batch": 8, "size": 48, "images": 1000, "tested": 300}
BASE = {"encoder_depth": 3, "decoder_channels": (32, 16, 16)}


def kept(dataset, count):
    """*count* items drawn once and for all, read once."""
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:count].tolist()
    return [*Subset(dataset, chosen)]


def opened(args, seed):
    """Training and test objects."""
    told = {"size": args.size} if args.data == "assemblies" else {"root": args.root, "window": args.size}
    train = open_dataset(args.data, "train", seed=seed, **told)
    return kept(train, args.images), kept(open_dataset(args.data, "test", **told), args.tested)


def learnt(args, variant, seed, train):
    """A model of *variant* after all its steps."""
    how = ClickConfig(radius=args.radius, **VARIANTS[variant])
    torch.manual_seed(seed)
    encoder = {"encoder_name": "tu-test_resnet.r160_in1k", "encoder_weights": None, "base_norm": "group"}
    model = smpf.create("Unet", in_channels=3 + how.channels, classes=1, feedback=LOOP, **encoder, **BASE)
    module = ClickModule(model, how=how, lr=2e-3, clicks=[1, args.clicks], drop=0.1)
    data = PairsModule(train, batch_size=args.batch, seed=seed)
    return fit(module, data, steps=args.steps, seed=seed, progress=False, accelerator="cpu", clip=1.0).model, how


def scored(args, variant, seed):
    """The row of one model: read, or trained and kept."""
    name = "".join(letter if letter.isalnum() else "_" for letter in variant)
    path = Path(args.out) / args.data / f"{name}-{seed}.json"
    if not path.is_file():
        train, test = opened(args, seed)
        model, how = learnt(args, variant, seed, train)
        save_result(clicked({variant: evaluate_clicks(model, test, how=how, batch_size=50)}, seed), path)
    return load_result(path)["rows"][0]


def check_kept(args):
    """What is kept there was made as is asked now."""
    folder = Path(args.out) / args.data
    told, mark = {name: getattr(args, name) for name in ("root", *USUAL, "radius")}, folder / "settings.json"
    if [*folder.glob("*-*.json")] and (not mark.is_file() or json.loads(mark.read_text()) != told):
        raise SystemExit(f"{folder} holds models of other settings: give another --out, or remove it.")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps(told))


def line(variant, rows):
    """Mean and range over seeds: IoU after some clicks, clicks to some IoU."""
    cells = []
    for values in [[100 * row["iou"][k] for row in rows] for k in SHOWN] + [
        [row["noc"][str(target)] for row in rows] for target in TARGETS
    ]:
        cells.append(f"{sum(values) / len(values):.1f} ({min(values):.1f}-{max(values):.1f})")
    return " | ".join([variant, *cells])


def main():
    """Train what is missing, print the table, keep all rows as one result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="assemblies", choices=("assemblies", "instances"))
    parser.add_argument("--root")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--out", default="runs/clicks_bench")
    for name, usual in USUAL.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--radius", type=float, default=3)
    args = parser.parse_args()
    check_kept(args)
    torch.set_num_threads(1)
    print(" | ".join(["model", *(f"IoU {k}" for k in SHOWN), *(f"NoC {target}" for target in TARGETS)]), flush=True)
    rows = []
    for variant in args.variants:
        found = [scored(args, variant, seed) for seed in args.seeds]
        rows += found
        print(line(variant, found), flush=True)
    save_result({"kind": "clicked", "version": 1, "rows": rows}, Path(args.out) / args.data / "clicks.json")


if __name__ == "__main__":
    main()
