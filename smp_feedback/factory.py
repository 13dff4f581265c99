"""The front door: create, wrap and from_pretrained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, ParamSpec, cast, overload

from torch import Tensor, nn

from smp_feedback.config.base import LoopConfig
from smp_feedback.config.parse import Feedback, as_config
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import InvalidType, InvalidValue, SurgeryError
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.models.assembly import assemble, close
from smp_feedback.models.base_norm import base_norm_of
from smp_feedback.registry.public import catalogue
from smp_feedback.saving import loading
from smp_feedback.surgery.extension import InParts
from smp_feedback.surgery.hooks import replaced_forward

P = ParamSpec("P")


class _Word(str):
    """A default that can be told from the same word given by the caller."""


class _Number(int):
    """A default that can be told from the same number given by the caller."""


ENCODER, WEIGHTS, CHANNELS, CLASSES = USUAL = _Word("resnet34"), _Word("imagenet"), _Number(3), _Number(1)


@overload
def create(
    arch: str,
    encoder_name: str = ...,
    encoder_weights: Any = ...,
    in_channels: int = ...,
    classes: int = ...,
    *,
    feedback: Literal[False] | None,
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
    base_norm: Literal["group", "pixel"] | None = ...,
    **kwargs: Any,
) -> FeedbackModel: ...


def create(
    arch: str,
    encoder_name: str = ENCODER,
    encoder_weights: Any = WEIGHTS,
    in_channels: int = CHANNELS,
    classes: int = CLASSES,
    *,
    feedback: Feedback = True,
    encoder: str | None = None,
    base_norm: Literal["group", "pixel"] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """A model that looks again: ``smp.create_model`` with one more keyword.

    Args:
        arch: A name from :func:`list_architectures`, case-insensitive: smp's own, ``timm/<name>`` for a classifier of
            timm, ``torchvision/<name>`` for a segmentation model of torchvision, a recipe or a plugin's.
        encoder_name: A name from :func:`list_encoders`; "resnet34" as in smp.
        encoder_weights: As in smp; "imagenet" downloads, None is random. Where it is not given, timm's and
            torchvision's models begin at random, as they do there; so with *classes*, 1000 and 21.
        in_channels: Channels of the image.
        classes: Channels of the logits.
        feedback: True (the architecture's usual loop: the recurrent one with its defaults, those of Deep Feedback
            Models, arXiv 2509.15905, if it has no other), a loop's or a preset's name (:func:`list_presets`), a config
            such as :class:`Recurrent`, or its dict, which changes the fields it names, of a preset
            ``{"preset": "anytime", "steps": 8}``; False gives the plain model, for smp's architectures smp's own. Where
            problems may be larger, or looks more, than in training, take ``"anytime"``: the published loop's
            corrections fade from look to look and are normalised over the image, and neither carries over. For a model
            that is trained already, :func:`wrap`, which keeps its outputs.
        encoder: Alias of *encoder_name*.
        base_norm: ``group`` puts GroupNorm in the place of the base's BatchNorm, which needs no statistics per step
            and takes small batches; ``pixel`` a normalisation over the channels of each pixel, which does not know how
            large the image is, either, in the place of every norm over space. For training from random weights. None
            leaves the base as it is made.
        **kwargs: The architecture's own keywords.

    Returns:
        The base model, closed into a loop: still ``isinstance`` of its class, same keys, plus ``feedback.*``.

    Raises:
        UnknownName, UnknownKeyword: For a name or keyword that does not exist, with what was probably meant.
        InvalidType, InvalidValue: For a value outside its range.
        SurgeryError: If nothing in the base can read the feedback.

    >>> import torch, smp_feedback as smpf
    >>> model = smpf.create("Unet", encoder="resnet18", encoder_weights=None, classes=3, feedback=True)
    >>> model(torch.rand(1, 3, 64, 64), steps=2).shape
    torch.Size([1, 3, 64, 64])
    >>> smpf.create("timm/resnet18", classes=10)(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    given = _given(encoder_name, encoder_weights, in_channels, classes, encoder)
    return assemble(arch, given | kwargs, feedback, base_norm)


def _given(encoder_name: Any, encoder_weights: Any, in_channels: Any, classes: Any, encoder: Any) -> dict[str, Any]:
    """Those of the standard arguments that the caller gave."""
    said = {"in_channels": in_channels, "classes": classes, "encoder_weights": encoder_weights}
    given = {name: value for name, value in said.items() if not any(value is usual for usual in USUAL)}
    if encoder is not None and encoder_name is not ENCODER:
        raise InvalidValue(f"encoder={encoder!r} and encoder_name={encoder_name!r} are one argument: give one of them.")
    if encoder is not None or encoder_name is not ENCODER:
        given["encoder_name"] = encoder_name if encoder is None else encoder
    return given


def wrap(model: nn.Module, feedback: Feedback = True) -> FeedbackModel:
    """A copy of a trained model that looks again; *model* is left as it was.

    Args:
        model: An smp model, torchvision's for segmentation, anything with ``forward_features`` and ``forward_head``,
            or of a class whose cut is registered.
        feedback: As in :func:`create`, except that True means ``Recurrent(dynamics="residual")``, which keeps
            every output of the trained model, for every number of steps, until it is trained further; an
            architecture's own loop (a plugin's, say) with those dynamics, if it has one.

    Raises:
        InvalidType: If *model* is no module, or a model in windows.
        InvalidValue: If it looks again already and *feedback* is no loop around another, or *feedback* is False.
        SurgeryError: If it cannot be cut, or does more when it is called than its parts do (a forward of its own that
            normalises, hooks): the loop opens it, and would leave that out.

    >>> import torch, segmentation_models_pytorch as smp, smp_feedback as smpf
    >>> plain = smp.Unet("resnet18", encoder_weights=None).eval()
    >>> image = torch.rand(1, 3, 64, 64)
    >>> torch.allclose(smpf.wrap(plain)(image, steps=5), plain(image), atol=1e-5)
    True
    """
    if not isinstance(model, nn.Module):
        raise InvalidType(f"model is a {type(model).__name__}: expected a torch.nn.Module, such as an smp model.")
    if isinstance(model, InParts):
        raise InvalidType(f"model is a {type(model).__name__}: wrap the model in it, and put that in windows.")
    if isinstance(model, FeedbackModel):
        return cast(FeedbackModel, close(_copied(model), _around(model, feedback), model.feedback.origin))
    origin = _origin(model)
    usual = catalogue().architectures.entry(origin["architecture"]).feedback if origin else None
    config = as_config(feedback, default=Recurrent(dynamics="residual"), usual=_keeping_outputs(usual))
    if config is None:
        raise InvalidValue(f"feedback={feedback!r}: wrap adds feedback; give True, a loop's name or a config.")
    return cast(FeedbackModel, close(_copied(model), config, origin))


def _copied(model: nn.Module) -> nn.Module:
    """A copy of *model* that shares nothing with it.

    Raises:
        SurgeryError: If a part was given another forward on the object, which in a copy would go on calling the part of
            the original, or if torch cannot copy it.
    """
    for name, part in model.named_modules():
        if name and replaced_forward(part):
            raise SurgeryError(
                f"The forward of {name} ({type(part).__name__}) was replaced on the object itself, and in a copy would "
                f"go on calling this {type(model).__name__}'s own: define it in a class of its own."
            )
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        held = (
            (name, key) for name, part in model.named_modules() for key, value in vars(part).items() if _made(value)
        )
        name, key = next(held, ("", ""))
        where = f": {name}.{key} is computed from other parameters (old weight_norm, pruning)" if name else ""
        raise SurgeryError(
            f"This {type(model).__name__} cannot be copied{where}. Make it plain first (remove_weight_norm, "
            "prune.remove), or use torch.nn.utils.parametrizations, and wrap that."
        ) from error


def _made(value: Any) -> bool:
    """Whether *value* is a tensor that was computed with gradients, which torch does not copy."""
    return isinstance(value, Tensor) and not value.is_leaf


def _around(model: FeedbackModel, feedback: Feedback) -> LoopConfig:
    """*feedback* as a loop around that of *model*."""
    config, own = as_config(feedback), model.loop_config
    if config is None or not hasattr(config, "base") or hasattr(own, "base"):
        raise InvalidValue(
            f"This {type(model).__name__} looks again already: wrap the plain model, or a recurrent one by "
            "feedback='score', which refines its last look, 'repair' or 'restoration'."
        )
    if config.base not in (None, own):
        raise InvalidValue(f"base={config.base}: this model's own loop is {own}; leave base=None.")
    return cast(LoopConfig, replace(cast(Any, config), base=own))


def _keeping_outputs(usual: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """An architecture's own recurrent loop, by the dynamics that keep a trained model's outputs."""
    if usual is None or str(usual.get("loop", Recurrent.loop)).lower() != Recurrent.loop:
        return None
    return {**usual, "dynamics": "residual"}


def _origin(model: nn.Module) -> dict[str, Any] | None:
    """How to build *model* again, if a registered architecture does and it kept its arguments (smp does)."""
    config = getattr(model, "config", None)
    name = catalogue().architectures.name_of(type(model)) if isinstance(config, dict) else None
    if name is None or config is None:
        return None
    kept = {k: v for k, v in config.items() if not k.startswith("_")}
    norm = base_norm_of(model)
    kept |= {"encoder_weights": None} | ({} if norm is None else {"base_norm": norm})
    return {"architecture": name, "arguments": kept}


def _of_models(load: Callable[P, Any]) -> Callable[P, FeedbackModel]:
    """*load*, typed: saving lies below the loops, and cannot name what it gives."""
    return load


from_pretrained = _of_models(loading.from_pretrained)
"""A saved model, from a folder or the hub, as :func:`smp_feedback.saving.loading.from_pretrained` says."""
