"""An architecture, a dynamics and a loss of your own: registered, trained for a few steps, saved and loaded.

python examples/write_a_plugin.py

Everything here would work the same in a package: its module implements ``register_architectures`` and the other hooks
of docs/plugins.md instead of calling the decorators.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

import smp_feedback as smpf
from smp_feedback.data import Shapes
from smp_feedback.dynamics import Dynamics, Rule
from smp_feedback.evaluation import evaluate
from smp_feedback.losses.pixels import PixelLoss, Pixels
from smp_feedback.testing import check_agreement, check_heard, check_lossless
from smp_feedback.training import FeedbackModule, PairsModule, fit


# 1. An architecture: a function of any of `encoder_name`, `encoder_weights`, `in_channels`, `classes`, and of keywords
#    of its own, that returns a module which says where it is opened: `forward_features` runs at every look.
class Pyramid(nn.Module):
    """Two convolutions at half the size, and scores at the image's."""

    def __init__(self, in_channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(in_channels, width, 3, stride=2, padding=1)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.scores = nn.Conv2d(width, classes, 1)

    def forward_features(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, H/2, W/2)."""
        return self.mix(self.down(image).relu()).relu()

    def forward_head(self, features: Tensor) -> Tensor:
        """(B, width, H/2, W/2) -> (B, classes, H, W)."""
        return nn.functional.interpolate(self.scores(features), scale_factor=2, mode="bilinear")

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes, H, W)."""
        return self.forward_head(self.forward_features(image))


@smpf.register_architecture("Pyramid", aliases=("pyramid-v1",))
def pyramid(in_channels: int = 3, classes: int = 1, width: int = 16) -> Pyramid:
    """The builder: what the caller does not give is its own default."""
    return Pyramid(in_channels, classes, width)


# 2. A dynamics: how the state answers what a look said. What does not depend on the step is done once, in `begin`.
@smpf.register_dynamics("harmonic")
class Harmonic(Dynamics):
    """Corrections that shrink as 1, 1/2, 1/3, ...: h + e / (t + 1)."""

    def begin(self, steps: int) -> Rule:
        """The rule of one call."""
        return lambda state, correction, t: state + correction / (t + 1)


# 3. A loss: `PixelLoss` takes care of shapes, ignored pixels and precision.
@smpf.register_loss("brier")
class Brier(PixelLoss):
    """The squared distance between the predicted probabilities and the truth."""

    def of(self, pixels: Pixels) -> Tensor:
        """The mean over the pixels that count."""
        squared = (pixels.logits.softmax(1) - pixels.one_hot).square().sum(1)
        return (squared * pixels.counted).sum() / pixels.counted.sum().clamp(min=1)


def main(argv: list[str] | None = None) -> None:
    """Create, hold to the promises, train, save, load."""
    parser = argparse.ArgumentParser(description="Writing a plugin.")
    parser.add_argument("--out", type=Path, default=Path("runs/write_a_plugin"), help="where the model goes")
    parser.add_argument("--train_steps", type=int, default=100, help="optimiser steps of 8 images")
    args = parser.parse_args(argv)

    print("mine:", smpf.list_architectures("pyr*"))
    torch.manual_seed(0)
    model = smpf.create("Pyramid", classes=3, feedback={"dynamics": "harmonic", "steps": 3})
    image = torch.rand(2, 3, 32, 32)
    check_lossless(Pyramid(3, 3, 16), image)  # each raises with the promise that is broken
    check_agreement(model, image)
    check_heard(model, image)

    train, test = Shapes(64, size=32), Shapes(32, size=32, seed=1)
    before = evaluate(model, test, classes=3).last.score
    module = FeedbackModule(model, classes=3, loss="brier", lr=1e-2)
    fit(module, PairsModule(train, batch_size=8), steps=args.train_steps)
    print(f"mIoU on shapes not seen: {100 * before:.1f} % before training, ", end="")
    print(f"{100 * evaluate(model, test, classes=3).last.score:.1f} % after {args.train_steps} steps")

    folder = model.save_pretrained(args.out)
    again = smpf.from_pretrained(folder).eval()
    with torch.no_grad():
        print(f"wrote {folder}; loaded, it answers the same: {torch.equal(again(image), model.eval()(image))}")


if __name__ == "__main__":
    main()
