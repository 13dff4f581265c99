"""Runs that are killed and resumed, and what came of them: started by test_reliability as a process.

One import serves them all: each run is a fork of this process. ``python resuming.py FOLDER NAME...`` leaves
FOLDER/NAME.pt.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

import smp_feedback as smpf
from smp_feedback.cli import main as cli
from smp_feedback.data import Shapes, add_noise
from smp_feedback.training import FeedbackModule, PairsModule, fit

SIZE, BATCH, IMAGES, STEPS = 32, 2, 10, 12  # 5 batches an epoch
BETWEEN, INSIDE = 5, 8  # steps that a kill precedes: between two epochs, and in the middle of one
ENCODER = "tu-test_resnet.r160_in1k"
SGD = functools.partial(torch.optim.SGD, lr=0.01)
PLATEAU = functools.partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0, threshold=10.0)  # nothing is better
BASE = {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}

DRAWN = {"steps": [1, 2], "free_steps": [0, 2], "supervise": "drawn", "clip": 1.0}


class Augmented(Dataset):
    """Flipped and noisy, drawn anew each time from torch, NumPy and Python."""

    def __init__(self):
        self.plain, self.flip = Shapes(IMAGES, SIZE), v2.RandomHorizontalFlip()

    def __len__(self):
        return len(self.plain)

    def __getitem__(self, index):
        image, mask = self.flip(*self.plain[index])
        image = add_noise(image, 0.3, torch.default_generator)
        return image * np.random.uniform(0.8, 1) * random.uniform(0.8, 1), mask


class Watch:
    """Ends its process, as the kernel would, when step *kill* begins; knows the steps that were taken."""

    def __init__(self, kill):
        self.kill, self.steps, self.step = kill, [], FeedbackModule.training_step
        FeedbackModule.training_step = lambda module, *batch: self(module, *batch)

    def __call__(self, module, *batch):
        if module.global_step == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps.append(module.global_step)
        return self.step(module, *batch)


def in_python(folder, name, *, resume, workers=0, val=True, clip=None, dynamics="decay", **training):
    torch.manual_seed(1)
    loop = smpf.Recurrent(steps=2, init_std=0.1, dynamics=dynamics)  # a random first state: drawn in each step
    model = smpf.create("Unet", ENCODER, None, classes=3, feedback=loop, **BASE)
    model.segmentation_head = nn.Sequential(nn.Dropout(0.3), model.segmentation_head)
    module = FeedbackModule(model, classes=3, **training)
    pairs = PairsModule(Augmented(), Shapes(2, SIZE) if val else None, batch_size=BATCH, workers=workers)
    how = {"progress": False, "accelerator": "cpu", "save_every": 1, "clip": clip}
    fit(module, pairs, steps=STEPS, seed=3, out=folder / name, resume=resume, **how)
    return module.state_dict()


def by_command(folder, name, *, resume, **_):
    loop = {"steps": 2, "init_std": 0.1}
    model = {"encoder": ENCODER, "encoder_weights": None, "feedback": loop, "arguments": BASE, "ema": 0.9}
    data = {"size": SIZE, "batch_size": BATCH, "images": IMAGES, "corruption": "rescaled_noise", "workers": 2}
    trainer = {"max_epochs": 3, "accelerator": "cpu", "enable_progress_bar": False}
    settings = {
        f"--{g}.{k}={v}" for g, of in (("model", model), ("data", data), ("trainer", trainer)) for k, v in of.items()
    }
    settings = {word.replace("=None", "=null") for word in settings}
    begin = ["--resume", str(folder / name)] if resume else [*settings, "--out", str(folder / name), "--save_every=1"]
    assert cli.main(["fit", *begin]) == 0
    kept = torch.load(folder / name / "last.ckpt", weights_only=True)
    best = torch.load(folder / name / "best.ckpt", weights_only=True)
    sides = {"average": kept["state_dict"], "now": kept["current_model_state"], "best": best["state_dict"]}
    return {f"{side}.{key}": value for side, of in sides.items() for key, value in of.items()}


def run(folder, name, start, *, kill=None, resume=False, **how):
    """One run in a process of its own; how it ended."""
    child = os.fork()
    if not child:
        log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        watch = Watch(kill)
        weights = start(folder, name, resume=resume, **how)
        torch.save({"weights": weights, "steps": watch.steps}, folder / f"{name}.pt")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


RUNS = {
    "plain": (in_python, [INSIDE], {}),
    "workers": (in_python, [INSIDE], {"workers": 2}),
    "per step": (in_python, [BETWEEN], {"backward": "per_step", "supervise": "increasing", "ema": 0.9, "val": False}),
    "plateau": (in_python, [BETWEEN], {"schedule": PLATEAU, "optimizer": SGD}),
    "segments": (in_python, [INSIDE], {**DRAWN, "segments": 2, "dynamics": "leaky", "ema": 0.9}),
    "progressive": (in_python, [BETWEEN], {"steps": [1, 3], "progressive": 0.5}),
    "command": (by_command, [BETWEEN, INSIDE], {}),
}


def main(folder, *names):
    torch.set_num_threads(1)
    for name in names:
        start, kills, how = RUNS[name]
        assert run(folder, name, start, **how) == 0, name
        for i, kill in enumerate(kills):
            killed = run(folder, f"{name} resumed", start, kill=kill, resume=i > 0, **how)
            assert killed == -signal.SIGKILL, (name, killed)
        assert run(folder, f"{name} resumed", start, resume=True, **how) == 0, name


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
