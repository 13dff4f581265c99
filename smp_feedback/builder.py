"""Base models by name, and where each is cut into body and head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, cast

import segmentation_models_pytorch as smp
import timm
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.modules import Activation
from torch import Tensor, nn

from smp_feedback.errors import (
    InvalidType,
    InvalidValue,
    SurgeryError,
    UnknownName,
)
from smp_feedback.hookspecs import Register, hookimpl
from smp_feedback.keywords import check_keywords, is_smp, takes_encoder_keywords, unknown_keyword
from smp_feedback.plugins import catalogue


@dataclass(frozen=True)
class Cut:
    """A base model in two parts, each a function of the model: ``head(body(image))`` is its answer.

    Attributes:
        body: ``(model, image) -> (output (B, S, h, w), features or None)``: runs at every step.
        head: ``(model, output) -> logits``.
        labels: ``(model, features) -> labels`` where the base has a classification head.
        check: ``(model, image)``: raises if the base cannot take an image of this size.
    """

    body: Callable[[Any, Tensor], tuple[Tensor, Tensor | None]]
    head: Callable[[Any, Tensor], Tensor]
    labels: Callable[[Any, Tensor], Tensor]
    check: Callable[[Any, Tensor], None]


def _smp_body(model: Any, image: Tensor) -> tuple[Tensor, Tensor | None]:
    encoded = model.encoder(image)
    # DPT's encoder gives (features, prefix tokens) and its decoder takes both; all others a list
    features, *more = encoded if isinstance(encoded, tuple) else (encoded,)
    output = model.decoder(features, *more)
    return output, None if model.classification_head is None else features[-1]


SMP_CUT = Cut(
    body=_smp_body,
    head=lambda model, output: cast(Tensor, model.segmentation_head(output)),
    labels=lambda model, features: cast(Tensor, model.classification_head(features)),
    check=lambda model, image: model.check_input_shape(image),
)
"""Encoder and decoder | segmentation head."""

FEATURES_CUT = Cut(
    body=lambda model, image: (model.forward_features(image), None),
    head=lambda model, output: cast(Tensor, model.forward_head(output)),
    labels=lambda model, features: features,
    check=lambda model, image: None,
)
"""``forward_features`` | ``forward_head``, as timm calls them."""


def cut_of(model: nn.Module) -> Cut:
    """Where *model* is cut.

    Raises:
        SurgeryError: If it is neither an smp model nor has ``forward_features`` and ``forward_head``.
    """
    if isinstance(model, SegmentationModel):
        return SMP_CUT
    if callable(getattr(model, "forward_features", None)) and callable(getattr(model, "forward_head", None)):
        return FEATURES_CUT
    raise SurgeryError(
        f"{type(model).__name__} cannot be cut into body and head. Give it forward_features(image) -> "
        "(B, S, h, w) and forward_head(features) -> logits, or make it an smp SegmentationModel with encoder, "
        "decoder and segmentation_head."
    )


def behind_head(cut: Cut) -> Cut:
    """The same base, cut behind its head instead of before it: the head runs at every step."""

    def body(model: Any, image: Tensor) -> tuple[Tensor, Tensor | None]:
        output, features = cut.body(model, image)
        return cut.head(model, output), features

    return replace(cut, body=body, head=lambda model, output: output)


def build_base(
    arch: str, encoder_name: str, encoder_weights: Any, in_channels: int, classes: int, **kwargs: Any
) -> nn.Module:
    """The plain base model, every name and keyword checked before any work.

    Raises:
        UnknownName: For an architecture or encoder that does not exist.
        UnknownKeyword: For a keyword that the architecture does not take (smp swallows some).
    """
    builder = catalogue().architectures[arch]
    name = catalogue().architectures.entry(arch).name
    if is_smp(builder):
        encoder_name = checked_encoder(encoder_name)
    check_keywords(name, builder, kwargs, open_ended=takes_encoder_keywords(builder, encoder_name))
    try:
        base = builder(
            encoder_name=encoder_name,
            encoder_weights=encoder_weights,
            in_channels=in_channels,
            classes=classes,
            **kwargs,
        )
    except TypeError as error:  # timm's encoders check theirs as they are built
        wrong = [k for k in kwargs if "unexpected keyword" in str(error) and repr(k) in str(error)]
        if not wrong or not is_smp(builder):
            raise
        raise unknown_keyword(f"{name} with encoder {encoder_name!r}", builder, wrong[0]) from error
    if not isinstance(base, nn.Module):
        raise InvalidType(f"{name}: its builder returned a {type(base).__name__}, expected a torch.nn.Module.")
    return base


def check_reads_logits(base: nn.Module, setting: str) -> None:
    """A *setting* (``"projection='entropy'"``) that reads logits is not fed what an activation has made of them."""
    for module in getattr(base, "segmentation_head", nn.Identity()).modules():
        if isinstance(module, Activation) and not isinstance(module.activation, nn.Identity):
            raise InvalidValue(
                f"{setting} reads logits, and the head's activation {module.activation} turns them "
                "into something else: make the base with activation=None."
            )


def checked_encoder(name: str) -> str:
    """The encoder's name as smp spells it.

    Raises:
        UnknownName: If neither smp nor (``tu-...``) timm has it.
    """
    if not isinstance(name, str):
        raise InvalidType(f"encoder {name!r}: expected a name (str), got {type(name).__name__}.")
    lower = {known.lower(): known for known in smp.encoders.encoders}
    if name.lower() in lower:
        return cast(str, lower[name.lower()])
    source, _, model = name.lower().partition("-")
    if source == "timm" and smp.encoders.is_equivalent_to_timm_universal(name.lower()):  # deprecated; smp maps them
        model = f"tf_{model}" if "mobilenetv3" in model else model
        source = "tu"
    if source == "tu" and timm.is_model(model):
        return name.lower()
    raise UnknownName("encoder", name, list_encoders(), _encoder_hint(name))


def _encoder_hint(name: str) -> str:
    return f"timm's are spelled 'tu-{name}'." if timm.is_model(name) else ""


def list_encoders(pattern: str = "*") -> list[str]:
    """smp's encoders, then timm's with their prefix ``tu-``, that match *pattern* with or without it.

    >>> list_encoders("resnet1?[12]")
    ['resnet101', 'resnet152', 'tu-resnet101', 'tu-resnet152']
    """
    pattern = pattern.lower()
    own = [name for name in sorted(smp.encoders.encoders) if fnmatchcase(name.lower(), pattern)]
    return own + [f"tu-{m}" for m in timm.list_models() if fnmatchcase(m, pattern) or fnmatchcase(f"tu-{m}", pattern)]


@hookimpl
def register_architectures(register: Register) -> None:
    """Whatever smp has, found in smp: a thirteenth architecture appears by itself."""
    for model in vars(smp).values():
        if isinstance(model, type) and issubclass(model, SegmentationModel):
            register(model.__name__, model)
