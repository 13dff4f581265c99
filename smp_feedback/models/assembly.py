"""Assembly: a base model is built from its arguments and closed into the loop of a config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from torch import nn

from smp_feedback.checks import check_whole
from smp_feedback.config.base import LoopConfig
from smp_feedback.config.parse import Feedback, as_config
from smp_feedback.errors import InvalidValue, SurgeryError
from smp_feedback.models.base_norm import check_base_norm, with_base_norm
from smp_feedback.models.builder import arguments_of, build_base
from smp_feedback.models.normalisation import built_config
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.cuts import answering_as_its_class, answering_logits
from smp_feedback.surgery.extension import ClosedLoop
from smp_feedback.surgery.hooks import check_unhooked, replaced_forward


def assemble(arch: str, given: dict[str, Any], feedback: Feedback, base_norm: str | None = None) -> nn.Module:
    """The base *arch*, made of the *given* arguments and closed into a loop; plain where *feedback* is False or None.

    Args, raises: As :func:`smp_feedback.create`.
    """
    entry = catalogue().architectures.entry(arch)
    config = as_config(feedback, usual=entry.feedback)
    for name in ("in_channels", "classes"):
        if name in given:
            check_whole(name, given[name])
    told = arguments_of(arch, _with_feedback_channels(arch, given, config))
    check_base_norm(base_norm, told.get("encoder_weights"))
    base = build_base(arch, told)
    data = built_config(arch, base, told)
    if base_norm is not None:
        base, told = with_base_norm(base, base_norm), {**told, "base_norm": base_norm}
    vars(base)["data_config"] = data
    if config is None:
        return answering_logits(base)
    origin = {"architecture": entry.name, "arguments": {**told, "encoder_weights": None}}
    with catalogue().architectures.noting(arch, "The base is"), _noting_encoder(told.get("encoder_name")):
        model = close(base, config, origin, in_channels=told.get("in_channels"))
        if "classes" in told and ("classes" in given or "classes" in signature_of(arch).parameters):
            _check_classes(entry.name, told["classes"], model.feedback)
    return model


def _noting_encoder(name: object) -> AbstractContextManager[None]:
    """An error raised inside is noted with who brought the encoder *name*, where it is one that a package brought."""
    encoders = catalogue().encoders
    return encoders.noting(name, "On") if isinstance(name, str) and encoders.is_here(name) else nullcontext()


def _check_classes(name: str, asked: int, feedback: Any) -> None:
    """The base answers as many classes as were *asked*; those that it has are in *feedback*."""
    found = getattr(feedback, "classes", None)
    if found is not None and found != asked:
        raise InvalidValue(
            f"{name}: classes={asked}, and the model that its builder made answers {found}: the builder must make its "
            f"head of as many as it is told, or not name `classes` in its signature; until then say classes={found}."
        )


def signature_of(arch: str) -> inspect.Signature:
    """Of the builder called *arch*."""
    return inspect.signature(catalogue().architectures[arch])


def _with_feedback_channels(arch: str, given: dict[str, Any], config: LoopConfig | None) -> dict[str, Any]:
    """*given*, and K for a builder that makes the fed-back channels itself."""
    if "feedback_channels" not in signature_of(arch).parameters:
        return given
    channels = 0 if config is None else config.state_channels_fed_back
    if given.get("feedback_channels", channels) not in (0, channels):  # 0: the loop makes a read-out of its own
        said = given["feedback_channels"]
        raise InvalidValue(
            f"feedback_channels={said}: the loop feeds back {channels} channels of the state; give "
            f"feedback={{'channels': {said}}} instead."
        )
    return {"feedback_channels": channels, **given}


def close(
    base: nn.Module, config: LoopConfig, origin: Mapping[str, Any] | None, in_channels: int | None = None
) -> ClosedLoop:
    """Close *base* into the loop of *config*, in place.

    Args:
        base: The base model.
        config: The loop's config.
        origin: How to build the base again; its channels and classes become those that the base turns out to have.
        in_channels: Channels of the image, where the base was made for so many; None asks its modules.

    Raises:
        SurgeryError: If it cannot be opened, or something acts when it is called that would not when it is opened.
        InvalidValue: If it is closed already.
    """
    base = answering_as_its_class(base)
    loop, inner = catalogue().loops[config.loop], getattr(config, "base", None)
    if inner is not None and not isinstance(base, ClosedLoop):
        base = close(base, inner, origin, in_channels)
    elif isinstance(base, ClosedLoop) and inner is None:
        who = origin["architecture"] if origin else type(base).__name__
        raise InvalidValue(f"{who}: this {type(base).__name__} looks again already; its builder must make a new one.")
    _check_open(base, loop, around=inner is not None)
    model = cast(ClosedLoop, loop.close(base, config, in_channels=in_channels))
    model.feedback.origin = origin if origin is None else _as_found(origin, model.feedback)
    return model


def _check_open(base: nn.Module, loop: type[ClosedLoop], *, around: bool) -> None:
    """Nothing of *base* itself would hide a part of *loop*, or be left out where the loop opens it."""
    name = type(base).__name__
    if replaced_forward(base):
        raise SurgeryError(
            f"The forward of this {name} was replaced on the object itself, which hides the loop's: define it in a "
            "class of its own."
        )
    check_unhooked(base, f"{name} is opened by a loop, look by look,")
    ours = {"feedback"}.union(*(vars(c) for c in loop.__mro__ if not issubclass(nn.Module, c)))
    taken = {*base._modules, *base._parameters, *base._buffers, *vars(base)} - {"config", "data_config"}
    taken -= {"feedback"} if around else set()
    for part in sorted(ours & taken):
        raise SurgeryError(f"{name} has a part called {part!r}, and so has every looping model: rename it.")


def _as_found(origin: Mapping[str, Any], feedback: Any) -> dict[str, Any]:
    """*origin*, where a first convolution or a head was replaced, with the channels and classes that are there."""
    arguments = dict(origin["arguments"])
    for key in ("in_channels", "classes"):
        if key in arguments and (found := getattr(feedback, key, None)) is not None:
            arguments[key] = found
    return {**origin, "arguments": arguments}
