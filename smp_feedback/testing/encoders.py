"""Encoders by name, for smp's architectures."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
import torch

from smp_feedback.errors import FeedbackError
from smp_feedback.factory import create
from smp_feedback.models.brought_encoders import check_features, lend
from smp_feedback.registry.public import catalogue
from smp_feedback.testing.promises import check_heard, check_lossless

SIZE = (64, 96)
SLIM = (16, 8, 8, 8, 8)


def check_encoder(name: str, *, depths: tuple[int, ...] = (3, 5), in_channels: tuple[int, ...] = (3, 1, 5)) -> None:
    """The encoder *name* is one for smp's architectures: a map for each stage, as wide and as large as it says.

    For every depth and number of channels that are asked for, and images that are no squares. A U-Net on it, closed
    into the recurrent loop, is the plain one until it is trained, and hears what is fed back.

    Args:
        name: A registered name.
        depths: Numbers of stages to try.
        in_channels: Channels of images to try.
    """
    _ = catalogue().encoders[name]
    try:
        lent = lend(name)
        for depth in depths:
            for channels in in_channels:
                check_stages(lent, depth, channels)
    except FeedbackError as error:
        raise AssertionError(str(error)) from error
    depth = min(depths)
    told: dict[str, Any] = {"encoder_depth": depth, "decoder_channels": SLIM[:depth], "encoder_weights": None}
    image = torch.rand(2, 3, *SIZE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = create("Unet", name, classes=2, feedback=False, **told)
        model = create("Unet", name, classes=2, feedback={"dynamics": "residual", "steps": 2}, **told)
        check_lossless(plain.eval(), image)
        check_heard(model, image)


@torch.no_grad()
def check_stages(name: str, depth: int, in_channels: int) -> None:
    """Its maps of an image are as :attr:`out_channels` says, and the same each time; nothing is kept."""
    try:
        encoder = smp.encoders.get_encoder(name, in_channels=in_channels, depth=depth, weights=None).eval()
        image = torch.rand(2, in_channels, *SIZE)
        features = encoder(image)
    except Exception as error:
        raise AssertionError(f"with depth={depth} and images of {in_channels} channels it fails: {error}") from error
    check_features(name, features, list(encoder.out_channels), SIZE)
    again = encoder(image)
    same = all(torch.equal(one, other) for one, other in zip(features, again, strict=True))
    assert same, "asked again, it answers otherwise"
