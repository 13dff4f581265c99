"""Base models by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, cast

import segmentation_models_pytorch as smp
import timm
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.modules import Activation
from torch import nn

from smp_feedback.checks import check_weights
from smp_feedback.errors import InvalidType, InvalidValue, UnknownKeyword, UnknownName
from smp_feedback.hookspecs import Register, hookimpl
from smp_feedback.models.brought_encoders import has_weights, lend, smps_own
from smp_feedback.models.keywords import check_keywords, is_smp, is_smps_own, takes_encoder_keywords, unknown_keyword
from smp_feedback.registry.public import catalogue

STANDARD = {"encoder_name": "resnet34", "encoder_weights": "imagenet", "in_channels": 3, "classes": 1}
"""What every builder may be told, and smp's defaults."""
AT_RANDOM = "Without network, encoder_weights=None begins at random (for a command: --model.encoder_weights null)."


def arguments_of(arch: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that *arch* is built with: those *given*, else the builder's own defaults, else smp's.

    Raises:
        UnknownName: For an architecture or encoder that does not exist.
        UnknownKeyword: For a keyword that the architecture does not take (smp swallows some).
    """
    builder, entry = catalogue().architectures[arch], catalogue().architectures.entry(arch)
    parameters = inspect.signature(builder).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    told = {key: value for key, value in given.items() if value is not None or key not in STANDARD or key in parameters}
    for key, usual in STANDARD.items():
        if key in parameters:
            own = parameters[key].default
            told.setdefault(key, usual if own is inspect.Parameter.empty or is_smps_own(builder) else own)
        elif takes_all and entry.member is None:
            told.setdefault(key, usual)
    if entry.member is not None and not told.keys() & STANDARD.keys() <= parameters.keys():
        raise UnknownKeyword(f"{entry.name} takes no 'encoder_name': its own name says all.")
    if is_smp(builder):
        told["encoder_name"] = checked_encoder(told["encoder_name"])
    elif isinstance(name := told.get("encoder_name"), str) and catalogue().encoders.is_here(name):
        lend(name)  # who builds on smp's encoders finds it there
    if "encoder_weights" not in given and not has_weights(told.get("encoder_name")):
        told = {key: None if key == "encoder_weights" else value for key, value in told.items()}
    further = {k: v for k, v in told.items() if k not in STANDARD or not (k in parameters or takes_all)}
    open_ended = takes_encoder_keywords(builder, str(told.get("encoder_name")))
    check_keywords(entry.name, builder, further, open_ended=open_ended)
    return {key: told[key] for key in (*(k for k in STANDARD if k in told), *(k for k in told if k not in STANDARD))}


def build_base(arch: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The plain base model of *arguments* from :func:`arguments_of`."""
    builder, name = catalogue().architectures[arch], catalogue().architectures.entry(arch).name
    try:
        with _encoder_explained(arguments):
            base = catalogue().architectures.make(arch, **arguments)
    except TypeError as error:  # timm's encoders check theirs as they are built
        wrong = [k for k in arguments if "unexpected keyword" in str(error) and repr(k) in str(error)]
        if not wrong or not is_smp(builder):
            raise
        encoder = arguments["encoder_name"]
        raise unknown_keyword(f"{name} with encoder {encoder!r}", builder, wrong[0]) from error
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
    lower = {known.lower(): known for known in smps_own()}
    if name.lower() in lower:
        return lower[name.lower()]
    source, _, model = name.lower().partition("-")
    if source == "timm" and smp.encoders.is_equivalent_to_timm_universal(name.lower()):  # deprecated; smp maps them
        model = f"tf_{model}" if "mobilenetv3" in model else model
        source = "tu"
    if source == "tu" and timm.is_model(model):
        return name.lower()
    if name in catalogue().encoders:
        return lend(name)
    hint = " ".join(filter(None, (_encoder_hint(name), catalogue().left_out())))
    raise UnknownName("encoder", name, list_encoders(), hint)


@contextmanager
def _encoder_explained(told: Mapping[str, Any]) -> Iterator[None]:
    """What smp and timm say of an encoder or weights that they do not have, in words of ours."""
    try:
        yield
    except (KeyError, RuntimeError) as error:
        said, name, weights = str(error), told.get("encoder_name"), told.get("encoder_weights")
        if isinstance(name, str) and ("Wrong encoder name" in said or "Unknown model" in said):
            checked_encoder(name)
        if name in smp.encoders.encoders and "Wrong pretrained weights" in said:
            check_weights(str(name), weights, smp.encoders.encoders[name]["pretrained_settings"])
        raise
    except OSError as error:
        if (weights := told.get("encoder_weights")) is not None:
            error.add_note(f"encoder_weights={weights!r} are downloaded. {AT_RANDOM}")
        raise


def _encoder_hint(name: str) -> str:
    return f"timm's are spelled 'tu-{name}'." if timm.is_model(name) else ""


def list_encoders(pattern: str = "*") -> list[str]:
    """smp's encoders and those that were registered here, then timm's with their prefix ``tu-``.

    Those that match *pattern* (shell wildcards, case-insensitive), timm's with or without their prefix.

    >>> list_encoders("resnet1?[12]")
    ['resnet101', 'resnet152', 'tu-resnet101', 'tu-resnet152']
    """
    pattern = pattern.lower()
    known = sorted([*smps_own(), *catalogue().encoders])
    own = [name for name in known if fnmatchcase(name.lower(), pattern)]
    return own + [f"tu-{m}" for m in timm.list_models() if fnmatchcase(m, pattern) or fnmatchcase(f"tu-{m}", pattern)]


@hookimpl
def register_architectures(register: Register) -> None:
    """Whatever smp has, found in smp: a thirteenth architecture appears by itself; ours; and others' families."""
    for model in vars(smp).values():
        if isinstance(model, type) and issubclass(model, SegmentationModel):
            register(model.__name__, model)
    register("PlainConv", "smp_feedback.models.plain_conv:PlainConv")
    register("timm/*", "smp_feedback.models.timm_torchvision:timm_classifier", members=timm.list_models)
    register("torchvision/*", "smp_feedback.models.timm_torchvision:torchvision_segmenter", members=torchvision_names)


def torchvision_names() -> list[str]:
    """torchvision's models for segmentation."""
    from torchvision.models import list_models, segmentation

    return cast("list[str]", list_models(module=segmentation))
