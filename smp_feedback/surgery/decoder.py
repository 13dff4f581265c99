"""Entering a base between encoder and decoder: which module is its encoder, and which of its features hear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.config.places import DECODER
from smp_feedback.errors import InvalidType, SurgeryError
from smp_feedback.ops.maps import size_of
from smp_feedback.surgery.after_module import deaf_mixture
from smp_feedback.surgery.cuts import Cut
from smp_feedback.surgery.encoder_once import EncodesOnce, Level
from smp_feedback.surgery.extension import calls_of, extend, full_name, hooked, plain_class
from smp_feedback.surgery.feature_layout import Layout
from smp_feedback.surgery.feature_tree import places_in, put_together, taken_apart
from smp_feedback.surgery.insertion_point import BeforeDecoder
from smp_feedback.surgery.layout_runs import map_of, tokens_of

ATTRIBUTE = "feedback_encoder"
MAPS = ("segmentation_models_pytorch.", "torchvision.")
"""Whose encoders are known to give maps (B, C, h, w): no dry run is spent on them."""


def encoder_of_base(base: nn.Module, cut: Cut) -> str | None:
    """The name of the encoder that *base* or its *cut* declares; None if neither does.

    Raises:
        InvalidType: If it is no name.
    """
    said = getattr(base, ATTRIBUTE, None) or cut.encoder
    if said is not None and not isinstance(said, str):
        raise InvalidType(
            f"{type(base).__name__}: its encoder is {said!r:.80}: expected the name of a module, as in "
            f"{ATTRIBUTE} = 'encoder'."
        )
    return said or None


def enter_decoder(
    base: nn.Module, cut: Cut, places: Sequence[str], image: Tensor, channels: int
) -> tuple[BeforeDecoder, nn.ModuleList]:
    """Let *channels* of feedback be added to what the encoder of *base* gives, in place.

    Args:
        base: The base model, evaluating.
        cut: Where it is opened.
        places: ``decoder`` for all that the decoder reads, or ``decoder:k`` for the k-th feature, and more of them.
        image: (1, C, H, W), of a size it takes.
        channels: K.

    Returns:
        The place, and what reads the feedback, the finest feature first (weights zero).

    Raises:
        SurgeryError: If nothing says which module is the encoder, it does not run once on the image itself, or the
            decoder does not read such a feature.
    """
    name = _encoder_name(base, cut, places[0])
    encoder = base.get_submodule(name)
    form, features = taken_apart(_gave(base, cut, name, image), image)
    read = _maps_among(features, _read(base, cut, encoder, form, features, image))
    numbers = {k: index for k, index in places_in(form).items() if index in read}
    levels = [
        Level(numbers[k], _layout(encoder, f"insert='{DECODER}:{k}': {name}", numbers[k], features[numbers[k]], image))
        for k in _chosen(places, numbers, f"the decoder of this {type(base).__name__}")
    ]
    levels.sort(key=lambda level: math.prod(level.grid(features, size_of(image))), reverse=True)
    widths = [level.layout.to_state(features[level.number]).shape[1] for level in levels]
    once = extend(encoder, EncodesOnce)
    once.fed_form, once.fed_levels = form, tuple(levels)
    return BeforeDecoder(encoder=name, finest=levels[0]), nn.ModuleList(
        deaf_mixture(channels, width, image) for width in widths
    )


def _encoder_name(base: nn.Module, cut: Cut, place: str) -> str:
    """The whole name of the encoder of *base*."""
    who, said = type(base).__name__, encoder_of_base(base, cut)
    if said is None:
        raise SurgeryError(
            f"insert={place!r}: nothing says which module of this {who} is its encoder. Name it in the class, "
            f"{ATTRIBUTE} = 'encoder', or in its cut, smp_feedback.Cut(..., encoder='encoder'); 'input' needs none."
        )
    return full_name(base, said, f"insert={place!r}: the encoder {said!r}")


def _gave(base: nn.Module, cut: Cut, name: str, image: Tensor) -> Any:
    """What the encoder *name* of *base* gives for *image*.

    Raises:
        SurgeryError: If it does not run once, on the image itself.
    """
    with calls_of(base.get_submodule(name)) as calls, torch.no_grad():
        cut.body(base, image)
    if len(calls) != 1 or len(calls[0][0]) != 1 or calls[0][0][0] is not image:
        raise SurgeryError(
            f"insert={DECODER!r}: {name} is not called once, with the image itself and nothing else, so it cannot run "
            "once per image. Name the module that is (pad or normalise images inside of it), or take 'input'."
        )
    return calls[0][1]


def _read(
    base: nn.Module, cut: Cut, encoder: nn.Module, form: Any, features: tuple[Tensor, ...], image: Tensor
) -> set[int]:
    """Which of the encoder's *features* what the head reads is made of: those through which it has a gradient."""
    with torch.inference_mode(False), torch.enable_grad():
        shown = image.clone()
        asked = {i: x.detach().clone().requires_grad_() for i, x in enumerate(features) if x.is_floating_point()}
        told = [asked[i].clone() if i in asked else x for i, x in enumerate(features)]
        with hooked([encoder.register_forward_hook(lambda *_: put_together(form, told, shown))]):
            output, _ = cut.body(base, shown)
        if not output.requires_grad:
            return set()
        gradients = torch.autograd.grad(output.sum(), [*asked.values()], allow_unused=True)
    return {i for i, gradient in zip(asked, gradients, strict=True) if gradient is not None}


def _maps_among(features: tuple[Tensor, ...], read: set[int]) -> set[int]:
    """Those of the *features* that are *read* to which feedback can be added: maps, or tokens where there is no map."""
    there = {i for i in read if features[i].numel()}
    maps = {i for i in there if features[i].ndim == 4}
    return maps or {i for i in there if features[i].ndim == 3}


def _chosen(places: Sequence[str], numbers: Mapping[int, int], who: str) -> list[int]:
    """The numbers of the features that *places* name, of those that there are."""
    there = ", ".join(f"'{DECODER}:{k}'" for k in numbers)
    if not numbers:
        raise SurgeryError(f"insert={places[0]!r}: {who} reads no map of its encoder: expected maps (B, C, h, w).")
    if DECODER in places:
        return [*numbers]
    for place in places:
        if int(place.removeprefix(f"{DECODER}:")) not in numbers:
            raise SurgeryError(
                f"insert={place!r}: {who} reads no such feature. Possible here: {there}, or {DECODER!r}."
            )
    return [int(place.removeprefix(f"{DECODER}:")) for place in places]


def _layout(encoder: nn.Module, who: str, index: int, feature: Tensor, image: Tensor) -> Layout:
    """How *encoder* lays out its *feature* of that *index*."""
    if feature.ndim == 4 and f"{plain_class(encoder).__module__}.".startswith(MAPS):
        return Layout()

    def ask(given: Tensor) -> Tensor:
        return taken_apart(encoder(given), given)[1][index]

    with torch.no_grad():
        return (map_of if feature.ndim == 4 else tokens_of)(who, encoder, ask, image, feature)
