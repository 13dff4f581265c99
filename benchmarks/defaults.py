"""Which defaults are best: the measurements behind docs/defaults.md, one change at a time.

``unet``: the recurrent loop's own. A small U-Net (three stages of a ResNet-18, random weights, 48 px, T = 4) on noisy
polygons and circles, scored with BatchNorm's running statistics, as in use, and with those of the batch; the
difference is what running statistics cost.

``dirichlet``: how a correction is normalised where the output is a Dirichlet distribution. The same, trained by the
evidential loss, on circles and on polygons of another size: mIoU, the AUROC by which the uncertainty tells wrong
pixels from right ones (0.5 says nothing), and the calibration error.

``compare``: the loop that ``smp-feedback compare`` takes, over its own studies, shortened (files: ``--data DIR``,
with DIR/camvid and DIR/mnist; left out without), as trained.

    python -m benchmarks.defaults [--study unet] [--seeds 3] [--only NAME ...] [--on ROW ...] [--data DIR]

Every run is kept in ``--out`` as soon as it is there; started again, it goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassJaccardIndex

from benchmarks.studies import study_settings
from smp_feedback import Recurrent, create, wrap
from smp_feedback.data import Circles, Polygons, Shapes, open_dataset
from smp_feedback.evaluation import evaluate
from smp_feedback.experiments.comparison.runs import ComparisonKey, untrained
from smp_feedback.experiments.comparison.runs import run as compared
from smp_feedback.experiments.comparison.settings import ComparisonSettings, Condition
from smp_feedback.experiments.cost import hardware
from smp_feedback.training import FeedbackModule, PairsModule, fit

NOISE, BATCH, SIZE = 0.3, 8, 48
BASE = {"encoder_depth": 3, "decoder_channels": (64, 32, 16)}
SMALL = {"encoder_depth": 3, "decoder_channels": (32, 16, 8)}
LOOPS = {
    "feed-forward": None,
    "default": Recurrent(),
    "norm_error=layer": Recurrent(norm_error="layer"),
    "statistics=shared": Recurrent(statistics="shared"),
    "dynamics=residual": Recurrent(dynamics="residual"),
    "loss on every step": Recurrent(),
}
NORMS = ("instance", "layer", "pixel", "none")
SMALL_UNET = {"arch": "Unet", "encoder_name": "resnet18", "encoder_weights": None, **SMALL}
PLAIN = {"arch": "PlainConv", "width": 16}
SHOWN: dict[str, Any] = {
    "circles": (PLAIN, Circles, {}, 32),
    "triangles": (PLAIN, Polygons, {"kinds": 1}, 24),
    "circles, Unet": (SMALL_UNET, Circles, {}, 32),
    "polygons, Unet": (SMALL_UNET, Polygons, {"kinds": 2}, 48),
}
"""What Dirichlet models are trained on: a base, a dataset, its options, and its size in pixels."""

ANSWER = {"dynamics": "leaky", "tau": 1.0, "projection": "probabilities"}
STATE = {"channels": 8, "projection": "state", "norm_error": "pixel"}
COMPARED: dict[str, Any] = {
    "plain": None,
    "leaky, probabilities": ANSWER,
    "leaky, probabilities, none": {**ANSWER, "norm_error": "none"},
    "leaky, probabilities, pixel": {**ANSWER, "norm_error": "pixel"},
    "leaky, state, pixel": {**STATE, "dynamics": "leaky", "tau": 1.0},
    "gated, state, pixel": {**STATE, "dynamics": "gated"},
    "decay": {"dynamics": "decay"},
}
"""Loops in the place of compare's own: dynamics, what is fed back, how corrections are normalised if not as usual."""

FILES = ("camvid", "mnist")
TASK = {"arch": "PlainConv", "size": 5, "train_steps": 400, "batch_size": 32, "augment": "none", "lr": 2e-3}
ROWS: dict[str, tuple[str | None, str, int, dict[str, Any]]] = {
    "shallow": ("shallow", "rescaled_noise:5", 64, {"train_steps": 200}),
    "polygons, clean": ("polygons", "clean", 8, {}),
    "polygons, noise": ("polygons", "rescaled_noise:3", 8, {}),
    "camvid": ("camvid", "clean", 0, {"train_steps": 40}),
    "mnist": ("mnist", "clean", 64, {"train_steps": 60}),
    "mazes": (None, "clean", 0, {**TASK, "data": "mazes", "data_options": {}}),
}
"""A study of studies/, what it is trained and tested on, images (0: all), and how it is shortened."""

LARGER = {"mazes": 9}
"""At which size a task is tested besides its own, after 2 T looks."""


class Study(NamedTuple):
    """What is varied, on what, and what one run gives: numbers by name."""

    variants: tuple[str, ...]
    rows: tuple[str, ...]
    measure: Callable[[str, str, int, argparse.Namespace], dict[str, float]]


def miou(model, data, *, running):
    """mIoU with running statistics, or with those of each batch (on a copy: they would be updated)."""
    model = copy.deepcopy(model).train(not running)
    metric = MulticlassJaccardIndex(3)
    with torch.no_grad():
        for image, target in DataLoader(data, 40):
            metric.update(model(image).argmax(1), target)
    return float(metric.compute())


def unet(name, row, seed, args):
    """A loop of the small U-Net; its two scores."""
    torch.manual_seed(seed)
    model = create("Unet", "resnet18", None, classes=3, feedback=False, **BASE)
    if LOOPS[name] is not None:
        model = wrap(model, LOOPS[name])
    module = FeedbackModule(model, classes=3, supervise="mean" if name == "loss on every step" else "last")
    data = PairsModule(Shapes(args.steps * BATCH, SIZE, noise=NOISE, seed=seed), batch_size=BATCH)
    fit(module, data, steps=args.steps, seed=seed, progress=False)
    test = Shapes(200, SIZE, noise=NOISE, seed=10_000)
    return {"running statistics": miou(model, test, running=True), "batch": miou(model, test, running=False)}


def dirichlet(name, row, seed, args):
    """A Dirichlet model under one normalisation, and what it knows of its errors."""
    base, make, options, size = SHOWN[row]
    train = make(count=args.steps * BATCH, size=size, noise=NOISE, seed=seed, **options)
    test = make("test", count=200, size=size, noise=NOISE, **options)
    classes = len(test.classes)
    torch.manual_seed(seed)
    loop = Recurrent(output="dirichlet", norm_error=name)
    model = create(**base, classes=classes, feedback=loop)
    module = FeedbackModule(model, classes=classes, loss="evidential")
    fit(module, PairsModule(train, batch_size=BATCH), steps=args.steps, seed=seed, progress=False)
    score = evaluate(model, test, classes=classes).last
    return {"mIoU": score.score, "AUROC": score.auroc, "ECE": score.ece}


def compare(name, row, seed, args):
    """A loop in the place of compare's own: its score as trained, after T looks and 2 T, and at a larger size."""
    study, condition, images, shorter = ROWS[row]
    said = study_settings(Path(f"studies/{study}.yaml")) if study else {}
    loop = {**(COMPARED[name] or ANSWER), "steps": 8 if row in LARGER else 4}
    if row == "mnist" and loop.get("projection") is None:
        loop |= {"channels": 8, "norm_feedback": "layer"}
    root = str(args.data / study) if study in FILES else None
    told = {**said, "root": root, "feedback": loop, "corruptions": [], "test_images": 100, **shorter}
    settings = ComparisonSettings(**told)
    key = ComparisonKey("feedback" if COMPARED[name] else "plain", Condition.parse(condition), images, seed)
    trained = compared(settings, key, accelerator="cpu")
    scores = {score["looks"]: score["score"] for score in trained.found["scores"]}
    looks = trained.found["looks"]
    found = {"T": scores[looks]} | ({"2 T": scores[2 * looks]} if looks > 1 else {})
    if row in LARGER:
        model = untrained(settings, key).model
        model.load_state_dict(load(trained.weights))
        for size, times in ((settings.size, looks), (LARGER[row], 2 * looks)):
            test = open_dataset(settings.data, "test", size=size, count=100)
            score = evaluate(model, test, classes=len(test.classes), looks=(times,)).last
            found |= {f"mIoU at {size}": score.score, f"solved at {size}": score.solved}
    return found


STUDIES = {
    "unet": Study(tuple(LOOPS), ("shapes",), unet),
    "dirichlet": Study(NORMS, tuple(SHOWN), dirichlet),
    "compare": Study(tuple(COMPARED), tuple(ROWS), compare),
}


def table(study, runs, args):
    """Mean and standard deviation over the seeds that are there, in per cent."""
    for row in args.on:
        found = {name: [r for s in range(args.seeds) if (r := runs.get(f"{row}/{name}/{s}"))] for name in args.only}
        columns = list(dict.fromkeys(c for those in found.values() for each in those for c in each))
        yield f"| {row} | {' | '.join(columns)} | seeds |\n|---|{'---|' * len(columns)}---|"
        for name, those in found.items():
            cells = []
            for column in columns:
                values = 100 * torch.tensor([each[column] for each in those if column in each])
                spread = float(values.std()) if len(values) > 1 else 0.0
                cells.append(f"{float(values.mean()):.1f} ± {spread:.1f}" if len(values) else "")
            yield f"| {name} | {' | '.join(cells)} | {len(those)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--study", choices=list(STUDIES), default="unet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps of unet and dirichlet")
    parser.add_argument("--only", nargs="*", metavar="NAME")
    parser.add_argument("--on", nargs="*", metavar="ROW")
    parser.add_argument("--data", type=Path, help="folder of camvid/ and mnist/")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    study = STUDIES[args.study]
    args.only, args.on = args.only or list(study.variants), args.on or list(study.rows)
    if args.data is None:
        args.on = [row for row in args.on if row not in FILES]
    args.out = args.out or Path(f"runs/defaults-{args.study}.json")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    runs = json.loads(args.out.read_text()) if args.out.is_file() else {}
    wanted = [(row, name, seed) for seed in range(args.seeds) for row in args.on for name in args.only]
    for row, name, seed in wanted:
        key = f"{row}/{name}/{seed}"
        if key not in runs:
            runs[key] = study.measure(name, row, seed, args)
            args.out.write_text(json.dumps(runs, indent=2))
            print(key, runs[key], flush=True)
    print(f"{hardware()}; per cent, mean ± standard deviation over seeds", *table(study, runs, args), sep="\n")


if __name__ == "__main__":
    main()
