"""Losses by name: the registry's, and every other loss of smp and torch by the name of its class."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

import segmentation_models_pytorch.losses as smp_losses
from torch import Tensor, nn

from smp_feedback.errors import InvalidType, InvalidValue, UnknownName, did_you_mean, suggestion
from smp_feedback.models.keywords import unknown_keyword
from smp_feedback.registry.public import catalogue

Maker = Callable[..., nn.Module]


def build_loss(
    name: str | nn.Module, ignore_index: int | None = None, arguments: Mapping[str, Any] | None = None
) -> nn.Module:
    """The loss called *name*, called as ``loss(logits, target)``.

    Args:
        name: From the registry (``cross_entropy``, ``dice``, ...), or a class of ``segmentation_models_pytorch.losses``
            or ``torch.nn`` such as ``SoftCrossEntropyLoss``. A loss that is a module already is taken as it is.
        ignore_index: Label that is left out; only for losses that can.
        arguments: The loss's own; smp's are told that there are several classes unless they say ``mode``.

    Raises:
        UnknownName, UnknownKeyword: With what was probably meant.
        InvalidType, InvalidValue: If the loss refuses its arguments, or cannot leave out *ignore_index*; for what is
            neither a name nor a loss, and for arguments of a loss that has its own.

    >>> build_loss("dice", arguments={"smooth": 1.0}).smooth
    1.0
    """
    if not isinstance(name, str):
        return _checked(name, arguments)
    make = _find(name)
    takes = inspect.signature(make).parameters
    given: dict[str, Any] = {"mode": "multiclass"} if "mode" in takes and _is_smps(make) else {}
    if ignore_index is not None:
        if "ignore_index" not in takes:
            raise InvalidValue(f"loss={name!r} cannot leave out ignore_index={ignore_index}: choose another loss.")
        given["ignore_index"] = ignore_index
    open_ended = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    for key in arguments or {}:
        if key not in takes and not open_ended:
            raise unknown_keyword(f"The loss {name!r}", make, key)
    given.update(arguments or {})
    build = functools.partial(catalogue().losses.make, name) if name in catalogue().losses else make
    try:
        return build(**given)
    except (TypeError, ValueError, AssertionError) as error:
        raise InvalidType(f"loss={name!r} refuses {given}: {error}") from error


def loss_of_look(loss: nn.Module, logits: Tensor, target: Tensor, look: int) -> Tensor:
    """The loss of one look's logits, which is told which look it is if it asks: ``reads_steps = True``.

    Args:
        loss: Called as ``loss(logits, target)``, or as ``loss(logits, target, step=look)``.
        logits: (B, C, H, W), or (B, C).
        target: Class indices (B, H, W), or (B,).
        look: t, counted from 0.

    Returns:
        A scalar.
    """
    told = {"step": look} if getattr(loss, "reads_steps", False) else {}
    return cast(Tensor, loss(logits, target, **told))


def _checked(loss: nn.Module, arguments: Mapping[str, Any] | None) -> nn.Module:
    if not callable(loss):
        raise InvalidType(f"loss={loss!r}: expected a name, or a torch.nn.Module.")
    if arguments:
        raise InvalidValue(f"loss_arguments={dict(arguments)}: a loss that is a module has its arguments already.")
    return loss


def _find(name: str) -> Maker:
    registry = catalogue().losses
    if name in registry:
        make: Maker = registry[name]
        return make
    classes = _losses(nn) | _losses(smp_losses)
    if name in classes:
        return classes[name]
    every = [*registry, *classes]
    usual = "" if did_you_mean(name, every) else suggestion([], list(registry))
    hint = f"Other losses of smp and torch.nn go by their class. {catalogue().left_out()}"
    raise UnknownName("loss", name, every, hint, why=usual)


def _losses(module: object) -> dict[str, Maker]:
    found = {key: value for key, value in vars(module).items() if key.endswith("Loss")}
    return {key: value for key, value in found.items() if isinstance(value, type) and issubclass(value, nn.Module)}


def _is_smps(make: Maker) -> bool:
    return make.__module__.startswith("segmentation_models_pytorch")
