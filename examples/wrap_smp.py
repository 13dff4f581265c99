"""A trained smp model looks again: its answers are kept, and a few more steps of training teach it to use what it saw.

python examples/wrap_smp.py

Here the "trained" model is trained for a moment on synthetic shapes; with one of yours, begin at ``wrap``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import nn

import smp_feedback as smpf
from smp_feedback.data import Corrupted, Shapes
from smp_feedback.evaluation import evaluate
from smp_feedback.training import FeedbackModule, PairsModule, fit

NOISE = ("gaussian_noise", 4)
SMALL = {"encoder_weights": None, "classes": 3, "encoder_depth": 3, "decoder_channels": (32, 16, 8)}


def scores(model: nn.Module, count: int) -> str:
    """MIoU after each number of looks, on noisy shapes that no training has seen."""
    pairs = Corrupted(Shapes(count, size=32, seed=1), *NOISE)
    found = evaluate(model, pairs, classes=3, looks=(1, 2, 4, 8))
    return ", ".join(f"{100 * score.score:.1f} ({score.looks})" for score in found)


def train(model: nn.Module, steps: int, lr: float) -> None:
    """Some steps on noisy shapes; what is frozen stays as it is."""
    pairs = Corrupted(Shapes(64, size=32), *NOISE, fresh=True)
    fit(FeedbackModule(model, classes=3, supervise="last", lr=lr), PairsModule(pairs, batch_size=8), steps=steps)


def main(argv: list[str] | None = None) -> None:
    """Train plain, wrap, compare, train further, go back."""
    parser = argparse.ArgumentParser(description="Wrapping a trained smp model.")
    parser.add_argument("--out", type=Path, default=Path("runs/wrap_smp"), help="where the model goes")
    parser.add_argument("--train_steps", type=int, default=150, help="optimiser steps, each of the two times")
    parser.add_argument("--images", type=int, default=32, help="images that are scored")
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    trained = smp.Unet("resnet18", **SMALL)
    trained.data_config = smpf.DataConfig()  # images as they are; left out, they are normalised as smp does
    train(trained, args.train_steps, lr=2e-3)
    print("trained smp model, mIoU in per cent (looks):", scores(trained, args.images))

    model = smpf.wrap(trained)  # a copy; `trained` is left as it was
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        moved = float((model(image, steps=8) - trained(image)).abs().max())
    print(f"wrapped, eight looks: the largest difference of any logit is {moved:.1e}")

    model.freeze_encoder()  # the decoder and all that reads the feedback go on learning
    train(model, args.train_steps, lr=1e-3)
    print("trained further as a loop:                  ", scores(model, args.images))
    longer = smp.Unet("resnet18", **SMALL)
    longer.data_config = trained.data_config
    longer.load_state_dict(trained.state_dict())
    longer.freeze_encoder()
    train(longer, args.train_steps, lr=1e-3)
    print("trained further as it was, for comparison:  ", scores(longer, args.images))

    trained.load_state_dict(model.feedforward_state_dict())  # back to smp, strictly: smp's keys are smp's
    print(f"wrote {model.save_pretrained(args.out)}")


if __name__ == "__main__":
    main()
