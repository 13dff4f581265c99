"""Encoders that plugins and scripts register, for smp's architectures: they stand in smp's own table of encoders."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import segmentation_models_pytorch as smp
from torch import nn

from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue
from smp_feedback.registry.catalogue import LENT
from smp_feedback.registry.public import catalogue

WEIGHTS = "pretrained_settings"
NEEDED = ("out_channels", "output_stride", "set_in_channels")
"""What smp's architectures ask of an encoder; its ``EncoderMixin`` has them."""
PLACE = ("repo_id", "revision")
"""What says where weights are."""


def smps_own() -> list[str]:
    """The encoders that came with smp, whoever has put others among them through us."""
    return [name for name, told in smp.encoders.encoders.items() if LENT not in told]


def lend(name: str) -> str:
    """Put the encoder registered as *name* where smp looks for encoders, and nothing in its place; its name there.

    So ``smp.Unet(name)`` finds it, too, once it was asked for here.

    Raises:
        InvalidType: If its weights are not named as smp's are.
    """
    part, entry = catalogue().encoders[name], catalogue().encoders.entry(name)
    weights = getattr(part, WEIGHTS, {})
    named = isinstance(weights, Mapping) and all(
        isinstance(one, Mapping) and {*PLACE} <= one.keys() for one in weights.values()
    )
    if not named:
        raise InvalidType(
            f"encoder {entry.name!r} of {entry.origin} has {WEIGHTS}={weights!r:.60}: expected a dict such as "
            "{'imagenet': {'repo_id': 'owner/name', 'revision': 'main'}}, a repository with smp's config.json and "
            "model.safetensors, or none."
        )
    told = {"encoder": functools.partial(made, entry.name), WEIGHTS: dict(weights), "params": {}, LENT: entry.origin}
    smp.encoders.encoders[entry.name] = told
    return entry.name


def has_weights(name: object) -> bool:
    """Whether the usual weights of an encoder can be had; only of one registered here this may be false."""
    told = smp.encoders.encoders.get(name, {}) if isinstance(name, str) else {}
    return LENT not in told or "imagenet" in told[WEIGHTS]


def made(name: str, **told: Any) -> nn.Module:
    """The encoder registered as *name*, told those of smp's ``depth`` and ``output_stride`` that it takes.

    Raises:
        InvalidType: If it has not what smp's architectures ask for.
        InvalidValue: If it has not a number of channels for the image and each of *depth* stages.
    """
    encoders, who = catalogue().encoders, f"encoder {name!r} of {catalogue().encoders.origin(name)}"
    takes = inspect.signature(encoders[name]).parameters
    takes_all = any(one.kind is one.VAR_KEYWORD for one in takes.values())
    encoder = encoders.make(name, **{key: value for key, value in told.items() if takes_all or key in takes})
    if not isinstance(encoder, nn.Module):
        raise InvalidType(f"{who} is a {type(encoder).__name__}: expected a torch.nn.Module.")
    vars(encoder).setdefault(
        "_output_stride", told["output_stride"]
    )  # which smp's mixin sets in its own __init__ alone
    for need in NEEDED:
        try:
            getattr(encoder, need)
        except AttributeError as error:
            raise InvalidType(
                f"{who} has no {need} ({error}): expected a subclass of torch.nn.Module and "
                "segmentation_models_pytorch.encoders._base.EncoderMixin that sets _depth, _in_channels and "
                "_out_channels."
            ) from None
    _check_channels(encoder, told["depth"], who)
    return encoder


def _check_channels(encoder: Any, depth: int, who: str) -> None:
    channels = encoder.out_channels
    if not isinstance(channels, (list, tuple)) or not all(isinstance(one, int) for one in channels):
        raise InvalidType(f"{who} has out_channels={channels!r:.60}: expected whole numbers, the image's first.")
    if len(channels) != depth + 1:
        raise InvalidValue(
            f"{who} has {len(channels)} out_channels for depth={depth}: expected {depth + 1}, of the image and of each "
            "stage; an encoder takes depth= and sets _depth."
        )


def check_features(name: str, features: Any, channels: list[int], size: tuple[int, int]) -> None:
    """What an encoder made of an image of *size* is a map for each of *channels*, each half as large as the one before.

    Raises:
        FeedbackError: If it is not, with the first that is not.
    """
    if not isinstance(features, (list, tuple)) or len(features) != len(channels):
        found = f"{len(features)} maps" if isinstance(features, (list, tuple)) else f"a {type(features).__name__}"
        raise FeedbackError(f"encoder {name!r} gives {found}: expected {len(channels)}, the image itself first.")
    for k, (feature, wide) in enumerate(zip(features, channels, strict=True)):
        expected = (wide, *(-(-side // 2**k) for side in size))
        if tuple(feature.shape[1:]) not in (expected, (0, *expected[1:])):
            raise FeedbackError(
                f"encoder {name!r}: map {k} of an image of {size[0]} x {size[1]} is {tuple(feature.shape[1:])}: "
                f"expected {expected}, the channels of out_channels and the sides over {2**k}."
            )
