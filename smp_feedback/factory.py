"""The front door: create and wrap."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal, cast, overload

from torch import nn

from smp_feedback.base_norm import base_norm_of, check_base_norm, with_group_norm
from smp_feedback.builder import build_base
from smp_feedback.checks import check_whole
from smp_feedback.config import Feedback, LoopConfig, Recurrent, as_config
from smp_feedback.errors import InvalidType, InvalidValue, SurgeryError
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.plugins import catalogue


class _Default(str):
    """A default that can be told from the same word given by the caller."""


ENCODER = _Default("resnet34")


@overload
def create(
    arch: str,
    encoder_name: str = ...,
    encoder_weights: Any = ...,
    in_channels: int = ...,
    classes: int = ...,
    *,
    feedback: Literal[False] | None,
    encoder: str | None = ...,
    base_norm: Literal["group"] | None = ...,
    **kwargs: Any,
) -> nn.Module: ...
@overload
def create(
    arch: str,
    encoder_name: str = ...,
    encoder_weights: Any = ...,
    in_channels: int = ...,
    classes: int = ...,
    *,
    feedback: Feedback = ...,
    encoder: str | None = ...,
    base_norm: Literal["group"] | None = ...,
    **kwargs: Any,
) -> FeedbackModel: ...


def create(
    arch: str,
    encoder_name: str = ENCODER,
    encoder_weights: Any = "imagenet",
    in_channels: int = 3,
    classes: int = 1,
    *,
    feedback: Feedback = True,
    encoder: str | None = None,
    base_norm: Literal["group"] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """A model that looks again: ``smp.create_model`` with one more keyword.

    Args:
        arch: A name from :func:`list_architectures`, case-insensitive.
        encoder_name: A name from :func:`list_encoders`; "resnet34" as in smp.
        encoder_weights: As in smp; "imagenet" downloads, None is random.
        in_channels: Channels of the image.
        classes: Channels of the logits.
        feedback: True (the recurrent loop with its defaults), a loop's name, a config such as
            :class:`Recurrent`, its dict; False gives smp's own model.
        encoder: Alias of *encoder_name*.
        base_norm: ``group`` puts GroupNorm in the place of the base's BatchNorm, which needs no statistics per step
            and takes small batches; for training from random weights. None leaves the base as smp makes it.
        **kwargs: The architecture's own keywords.

    Returns:
        The base model, closed into a loop: still ``isinstance`` of its smp class, same keys, plus ``feedback.*``.

    Raises:
        UnknownName, UnknownKeyword: For a name or keyword that does not exist, with what was probably meant.
        InvalidType, InvalidValue: For a value outside its range.
        SurgeryError: If nothing in the base can read the feedback.

    >>> import torch, smp_feedback as smpf
    >>> model = smpf.create("Unet", encoder="resnet18", encoder_weights=None, classes=3, feedback=True)
    >>> model(torch.rand(1, 3, 64, 64), steps=2).shape
    torch.Size([1, 3, 64, 64])
    """
    config = as_config(feedback)
    chosen = _one_encoder(encoder_name, encoder)
    for name, value in (("in_channels", in_channels), ("classes", classes)):
        check_whole(name, value)
    check_base_norm(base_norm, encoder_weights)
    base = build_base(arch, chosen, encoder_weights, in_channels, classes, **kwargs)
    if base_norm is not None:
        base, kwargs = with_group_norm(base), {**kwargs, "base_norm": base_norm}
    if config is None:
        return base
    given = {"encoder_name": chosen, "encoder_weights": None, "in_channels": in_channels, "classes": classes, **kwargs}
    return close(base, config, {"architecture": catalogue().architectures.entry(arch).name, "arguments": given})


def wrap(model: nn.Module, feedback: Feedback = True) -> FeedbackModel:
    """A copy of a trained model that looks again; *model* is left as it was.

    Args:
        model: An smp model, or anything with ``forward_features`` and ``forward_head``.
        feedback: As in :func:`create`, except that True means ``Recurrent(dynamics="residual")``, which keeps
            every output of the trained model, for every number of steps, until it is trained further.

    Raises:
        InvalidType: If *model* is no module.
        InvalidValue: If it looks again already, or *feedback* is False.
        SurgeryError: If it cannot be cut.

    >>> import torch, segmentation_models_pytorch as smp, smp_feedback as smpf
    >>> plain = smp.Unet("resnet18", encoder_weights=None).eval()
    >>> image = torch.rand(1, 3, 64, 64)
    >>> torch.allclose(smpf.wrap(plain)(image, steps=5), plain(image), atol=1e-5)
    True
    """
    if not isinstance(model, nn.Module):
        raise InvalidType(f"model is a {type(model).__name__}: expected a torch.nn.Module, such as an smp model.")
    if isinstance(model, FeedbackModel):
        raise InvalidValue(f"This {type(model).__name__} looks again already; wrap the plain model.")
    config = as_config(feedback, default=Recurrent(dynamics="residual"))
    if config is None:
        raise InvalidValue(f"feedback={feedback!r}: wrap adds feedback; give True, a loop's name or a config.")
    return close(copy.deepcopy(model), config, _origin(model))


def close(base: nn.Module, config: LoopConfig, origin: Mapping[str, Any] | None) -> FeedbackModel:
    """Close *base* into the loop of *config*, in place; *origin* is how to build the base again."""
    loop = catalogue().loops[config.loop]
    if isinstance(base, FeedbackModel):
        who = origin["architecture"] if origin else type(base).__name__
        raise InvalidValue(f"{who}: this {type(base).__name__} looks again already; its builder must make a new one.")
    ours = {"feedback"}.union(*(vars(c) for c in loop.__mro__ if not issubclass(nn.Module, c)))
    taken = {*base._modules, *base._parameters, *base._buffers, *vars(base)} - {"config"}
    for name in sorted(ours & taken):
        raise SurgeryError(
            f"{type(base).__name__} has a part called {name!r}, and so has every looping model: rename it."
        )
    channels = origin["arguments"].get("in_channels") if origin else None
    model = cast(FeedbackModel, loop.close(base, config, in_channels=channels))
    model.feedback.origin = origin
    return model


def _one_encoder(encoder_name: Any, encoder: Any) -> str:
    if encoder is not None and encoder_name is not ENCODER:
        raise InvalidValue(f"encoder={encoder!r} and encoder_name={encoder_name!r} are one argument: give one of them.")
    chosen = encoder_name if encoder is None else encoder
    return str(chosen) if isinstance(chosen, str) else cast(str, chosen)


def _origin(model: nn.Module) -> dict[str, Any] | None:
    """How to build *model* again, if a registered architecture does and it kept its arguments (smp does)."""
    architectures, config = catalogue().architectures, getattr(model, "config", None)
    for name in architectures:
        if architectures.entry(name).target is type(model) and isinstance(config, dict):
            kept = {k: v for k, v in config.items() if not k.startswith("_")}
            norm = base_norm_of(model)
            kept |= {"encoder_weights": None} | ({} if norm is None else {"base_norm": norm})
            return {"architecture": name, "arguments": kept}
    return None
