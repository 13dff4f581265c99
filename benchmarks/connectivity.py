"""Do looks join what is thin? Loops at three places and repair, beside plain models of equal compute, with two losses.

python -m benchmarks.connectivity [--data vessels] [--root DIR] [--seeds 0 1 2] [--steps 200] [--out runs/connectivity]

`vessels` are drawn; cracks, membranes and whatever else `folder` reads take --root and --crop. Each model is kept once
it is scored, and a run that is started again goes on with those that are missing.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import smp_feedback as smpf
from smp_feedback.data import open_dataset
from smp_feedback.data.augment import cropped
from smp_feedback.evaluation import evaluate
from smp_feedback.experiments.comparison.settings import ComparisonSettings
from smp_feedback.experiments.comparison.variants import make_twin
from smp_feedback.experiments.cost import multiply_adds
from smp_feedback.experiments.table import spread
from smp_feedback.training import FeedbackModule, PairsModule, RepairModule, cross_fit, fit
from smp_feedback.training.loss_terms import from_the_first_look

LOOKS = 5
REPAIRS = 8
PIXELS = ["cross_entropy", "dice"]
LOSSES = {
    "pixels": PIXELS,
    "and clDice": [*PIXELS, {"name": "soft_cldice", "weight": 0.5, "from_look": 3, "arguments": {"iterations": 3}}],
}
TWINS = {
    "plain": "plain",
    "plain, equal passes": "equal-compute",
    "deeper plain": "equal-inference",
    "one look": "one-step",
}
PLACES = {"loop at input": "input", "loop at stage:2": "stage:2", "loop at decoder": "decoder"}
REPAIR = "repair"
MODELS = [*TWINS, *PLACES, REPAIR]
USUAL = {"steps": 200, "batch": 8, "images": 64, "crop": 96, "test_size": 96, "tested": 60}
COLUMNS = {"dice": 100, "cldice": 100, "betti0_error": 1, "betti1_error": 1, "breaks": 1}
FILES = {"images": "{split}", "masks": "{split}annot", "classes": ["ground", "structure"]}
"""How the files under --root are named."""
SIZE = 64
"""Of the image at which multiply-adds are counted, and of drawn images in training."""


class Trained(NamedTuple):
    """A model, the looks at which it is scored, and the multiply-adds of its training in plain passes of one image."""

    model: nn.Module
    looks: int
    passes: float


def settings_of(args: argparse.Namespace, place: str = "input") -> ComparisonSettings:
    """A small Unet and the loop around it."""
    return ComparisonSettings(
        data="vessels",
        size=SIZE,
        train_count=[args.images],
        arch="Unet",
        encoder="tu-test_resnet.r160_in1k",
        arch_options={"encoder_depth": 3, "decoder_channels": [32, 16, 16]},
        feedback={"preset": "anytime", "steps": LOOKS, "insert": place},
        train_steps=args.steps,
        batch_size=args.batch,
        lr=3e-3,
        supervise="mean",
    )


def cost(model: nn.Module) -> int:
    """Multiply-adds for one image."""
    return multiply_adds(model, torch.zeros(1, 3, SIZE, SIZE))


def opened(args: argparse.Namespace, split: str, seed: int = 0) -> Any:
    """Whole images of *split*; of those to train on, random windows."""
    told: dict[str, Any] = {"size": SIZE} if args.root is None else {"root": args.root, **FILES}
    if split == "train":
        told |= {"seed": seed, "transform": cropped("flips", args.crop if args.root else None)}
        told |= {"count": args.images} if args.root is None else {}
    elif args.root is None:
        told |= {"size": args.test_size, "count": args.tested}
    return open_dataset("vessels" if args.root is None else "folder", split, **told)


def learnt(args: argparse.Namespace, name: str, terms: list[Any], seed: int, train: Any) -> Trained:
    """The model called *name*, trained on as many multiply-adds as the loop at the input."""
    settings = settings_of(args, PLACES.get(name, "input"))
    twin = make_twin(TWINS.get(name, "feedback"), settings, 2, seed)
    whole, one = args.steps * LOOKS, cost(make_twin("plain", settings, 2, seed).model)
    steps = twin.train_steps
    if name in PLACES:
        steps = round(whole * one / cost(twin.model))
    module = lesson(twin.model, terms, "mean" if name in PLACES else "last")
    trained = fitted(args, module, train, steps, seed)
    return Trained(trained, twin.looks, steps * cost(twin.model) / one)


def lesson(model: nn.Module, terms: list[Any], supervise: Any) -> FeedbackModule:
    """What trains *model*; one without a loop has all terms at its only look."""
    arguments = {"terms": terms} if supervise == "mean" else from_the_first_look({"terms": terms})
    told: dict[str, Any] = {"loss": "mixture", "loss_arguments": arguments, "lr": 3e-3, "ignore_index": 255}
    return FeedbackModule(model, classes=2, supervise=supervise, **told)


def fitted(args: argparse.Namespace, module: Any, train: Any, steps: int, seed: int) -> Any:
    """The model of *module* after so many *steps*."""
    data = PairsModule(train, batch_size=args.batch, seed=seed)
    return fit(module, data, steps=steps, seed=seed, progress=False, accelerator="cpu", clip=1.0).model


def repaired(args: argparse.Namespace, terms: list[Any], seed: int, train: Any) -> Trained:
    """A plain model of 2 passes a step, two more that each leave half of the images out, and what mends their masks.

    Its training costs more than that of the others, its inference as much: the table says how much.
    """
    settings = replace(settings_of(args), train_steps=2 * args.steps)

    def base() -> FeedbackModule:
        return lesson(make_twin("plain", settings, 2, seed).model, terms, "last")

    how: dict[str, Any] = {"progress": False, "accelerator": "cpu", "clip": 1.0}
    trained = fitted(args, base(), train, 2 * args.steps, seed)
    folds = cross_fit(train, base, folds=2, steps=2 * args.steps, batch_size=args.batch, seed=seed, **how)
    torch.manual_seed(seed)
    model = smpf.wrap(trained, smpf.Repair(steps=REPAIRS, width=16))
    arguments = from_the_first_look({"terms": terms})
    told: dict[str, Any] = {"loss": "mixture", "loss_arguments": arguments, "ignore_index": 255}
    module = RepairModule(model, classes=2, fitted=folds, broken=0.5, steps=[2, 6], free_steps=[0, 8], **told)
    one = cost(trained)
    look = (cost(model) / one - 1) / REPAIRS  # of which a step has 4 with gradient and 4 without, in the mean
    passes = 6 * args.steps + args.steps * look * (4 + 4 / 3)
    return Trained(fitted(args, module, train, args.steps, seed), REPAIRS, passes)


def file_name(model: str, loss: str) -> str:
    """What the rows of a model are kept under, without the seed."""
    return "".join(letter if letter.isalnum() else "_" for letter in f"{model} {loss}")


def scored(args: argparse.Namespace, name: str, loss: str, seed: int) -> dict[str, Any]:
    """The row of one model: read, or trained and kept."""
    path = args.out / args.data / f"{file_name(name, loss)}-{seed}.json"
    if not path.is_file():
        train = opened(args, "train", seed)
        how = (args, LOSSES[loss], seed, train)
        found = repaired(*how) if name == REPAIR else learnt(args, name, *how[1:])
        test = opened(args, "test")
        metrics = evaluate(
            found.model, test, classes=2, ignore_index=255, looks=[found.looks], topology=True, batch_size=1
        ).last
        row = {key: metrics.class_metrics[key][1] for key in COLUMNS}
        path.parent.mkdir(parents=True, exist_ok=True)
        row |= {"passes": found.passes, "inference": cost(found.model), "told": told_of(args)}
        path.write_text(json.dumps(row), encoding="utf-8")
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if kept["told"] != told_of(args):
        raise SystemExit(f"{path}: kept of {kept['told']}, asked is {told_of(args)}: give another --out.")
    return kept


def told_of(args: argparse.Namespace) -> dict[str, Any]:
    """What a row hangs on, beside its model, its loss and its seed."""
    return {"root": args.root, **{name: getattr(args, name) for name in USUAL}}


def line(name: str, loss: str, rows: list[dict[str, Any]], digits: int = 2) -> str:
    """Mean and spread over seeds; counts with so many *digits*."""
    cells = [spread([row[key] for row in rows], scale, 1 if scale > 1 else digits) for key, scale in COLUMNS.items()]
    cells += [f"{rows[0]['inference'] / 1e6:.0f} M", f"{rows[0]['passes']:.0f}"]
    return f"| {name} | {loss} | " + " | ".join(cells) + " |"


def main() -> None:
    """Train what is missing, and print each row as it is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="vessels", help="what the rows are filed under")
    parser.add_argument("--root", help="a folder of train/, trainannot/ and so on; without it, vessels are drawn")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--losses", nargs="+", default=[*LOSSES], choices=[*LOSSES])
    parser.add_argument("--out", type=Path, default=Path("runs/connectivity"))
    for name, value in USUAL.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = ["Dice", "clDice", "Betti 0 error", "Betti 1 error", "breaks", "inference", "training passes"]
    print("| model | loss | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 2) + "|", flush=True)
    for name in args.models:
        for loss in args.losses:
            print(line(name, loss, [scored(args, name, loss, seed) for seed in args.seeds]), flush=True)


if __name__ == "__main__":
    main()
