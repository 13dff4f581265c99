"""Losses by name: the registry's, and every other loss of smp and torch by the name of its class."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import segmentation_models_pytorch.losses as smp_losses
from torch import nn

from smp_feedback.errors import InvalidType, InvalidValue, UnknownName, did_you_mean, suggestion
from smp_feedback.losses.maps import MapLoss
from smp_feedback.losses.mixture import LossMixture
from smp_feedback.losses.pixels import PixelLoss
from smp_feedback.models.keywords import unknown_keyword
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL, SEGMENTATION
from smp_feedback.registry.public import catalogue
from smp_feedback.training.apply_loss import is_smps
from smp_feedback.training.loss_arguments import Kind, as_tensors, with_class_weights
from smp_feedback.training.loss_terms import terms_of

Maker = Callable[..., nn.Module]
USUAL = "cross_entropy"
EXCLUSIVE = ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss", "SoftCrossEntropyLoss", "MCCLoss")
"""Of torch and smp, those of classes that exclude each other; and MCC is of one class."""

OF_LABELS = ("CrossEntropyLoss", "NLLLoss", "BCEWithLogitsLoss", "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss")
"""Of torch, those that can judge logits by labels."""
BINARY = ("bce", "bceloss", "bce_loss", "bce_with_logits", "binary_cross_entropy", "binary")
"""How others call the loss of one channel, in lower case."""


def build_loss(
    name: str | nn.Module,
    ignore_index: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    *,
    channels: int | None = None,
    classes: int | None = None,
    task: str = SEGMENTATION,
    class_weights: Sequence[float] | None = None,
) -> nn.Module:
    """The loss called *name*; :func:`smp_feedback.training.apply_loss.loss_of_look` calls it.

    Args:
        name: From the registry (``cross_entropy``, ``dice``, ...), or a class of ``segmentation_models_pytorch.losses``
            or ``torch.nn`` such as ``SoftCrossEntropyLoss``; ``mixture`` adds up several, each made here by its own
            name. A loss that is a module already is taken as it is. For
            ``multilabel``, ``cross_entropy`` is binary cross-entropy, of each class on its own.
        ignore_index: Label that is left out; only for losses that can.
        arguments: The loss's own; lists where it takes tensors become such. smp's are told ``mode`` unless it is among
            these: ``multilabel`` for that task, ``binary`` for one channel, else ``multiclass``.
        channels: How many the model answers; None stands for one for each class.
        classes: How many classes the data have, with which weights are compared; None compares nothing, and takes
            those losses of torch, too, that judge no labels, but images, say.
        task: ``segmentation``, ``multilabel`` or ``classification``.
        class_weights: One number >= 0 for each class, for losses that weigh classes; of a mixture, for each term that
            does.

    Raises:
        UnknownName, UnknownKeyword: With what was probably meant.
        InvalidType, InvalidValue: If the loss refuses its arguments, cannot leave out *ignore_index*, weigh classes or
            judge such a task; for what is neither a name nor a loss, for arguments of a loss that has its own, and for
            a loss that is a module and leaves out another label.

    >>> build_loss("dice", arguments={"smooth": 1.0}).smooth
    1.0
    >>> build_loss("cross_entropy", arguments={"weight": [1, 5]}).weight
    tensor([1., 5.])
    """
    if not isinstance(name, str):
        return _checked(name, ignore_index, arguments, class_weights)
    make = nn.BCEWithLogitsLoss if task == MULTILABEL and name == USUAL else _find(name)
    takes, kind = _takes(make), Kind(name, make, classes, task)
    if classes is not None:
        _check_fits(name, make, task)
    _check_task(name, make, task)
    given = _told(name, make, takes, ignore_index, channels, task)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    if make is LossMixture:
        about: dict[str, Any] = {"channels": channels, "classes": classes, "task": task}
        how: dict[str, Any] = {"ignore_index": ignore_index, "class_weights": class_weights, "weighed": []}
        terms = terms_of((arguments or {}).get("terms"), functools.partial(_term, **how, **about))
        arguments, class_weights = {**(arguments or {}), "terms": terms}, None if how["weighed"] else class_weights
    for key in arguments or {}:
        if key not in takes and not open_ended:
            raise unknown_keyword(f"The loss {name!r}", make, key)
    given |= as_tensors(kind, arguments or {})
    if class_weights is not None:
        given = with_class_weights(kind, given, class_weights)
    registered = name in catalogue().losses and make is not nn.BCEWithLogitsLoss
    build = functools.partial(catalogue().losses.make, name) if registered else make
    try:
        return build(**given)
    except (TypeError, ValueError, AssertionError) as error:
        raise InvalidType(f"loss={name!r} refuses {given}: {error}") from error


def _term(
    name: str,
    arguments: Mapping[str, Any] | None,
    *,
    ignore_index: int | None,
    class_weights: Sequence[float] | None,
    weighed: list[str],
    **about: Any,
) -> nn.Module:
    """A loss of a mixture; *weighed* notes its name if it is one that weighs classes, by *class_weights*."""
    if class_weights is not None and _weighs(name, **about):
        weighed.append(name)
    else:
        class_weights = None
    return build_loss(name, ignore_index, arguments, class_weights=class_weights, **about)


def _weighs(name: str, *, channels: int | None, classes: int | None, task: str) -> bool:
    """Whether the loss called *name* weighs classes, of a model of so many *channels*."""
    make = nn.BCEWithLogitsLoss if task == MULTILABEL and name == USUAL else _find(name)
    binary = _told(name, make, _takes(make), None, channels, task).get("mode") == "binary"
    return Kind(name, make, classes, task).weighs_by is not None and not binary


def _told(
    name: str, make: Maker, takes: Mapping[str, Any], ignore_index: int | None, channels: int | None, task: str
) -> dict[str, Any]:
    """What a loss is told of the data and the model, where it asks."""
    told: dict[str, Any] = {}
    if "mode" in takes and is_smps(make):
        told["mode"] = MULTILABEL if task == MULTILABEL else "binary" if channels == 1 else "multiclass"
    if make is smp_losses.SoftCrossEntropyLoss:
        told["smooth_factor"] = 0.0  # whose own default it cannot compute with
    if ignore_index is None or make is nn.BCEWithLogitsLoss:  # which is told what not to count pixel by pixel
        return told
    if "ignore_index" not in takes:
        raise InvalidValue(f"loss={name!r} cannot leave out ignore_index={ignore_index}: choose another loss.")
    return {**told, "ignore_index": ignore_index}


def _check_fits(name: str, make: Maker, task: str) -> None:
    own = getattr(make, "__name__", "")
    if own in OF_LABELS or _losses(nn).get(own) is not make or (own == "MultiMarginLoss" and task == CLASSIFICATION):
        return
    fit = "cross_entropy, dice or, for a model of one channel, BCEWithLogitsLoss"
    raise InvalidValue(f"loss={name!r} cannot judge logits by labels as they are here; take {fit}.")


def _check_task(name: str, make: Maker, task: str) -> None:
    if task == CLASSIFICATION and isinstance(make, type) and issubclass(make, MapLoss):
        raise InvalidValue(f"loss={name!r} is of maps, and labels of images are none; take cross_entropy.")
    if task != MULTILABEL:
        return
    ours = isinstance(make, type) and issubclass(make, PixelLoss)
    if ours or getattr(make, "__name__", "") in EXCLUSIVE:
        own = [key for key, made in catalogue().losses.items() if is_smps(made) and "mode" in _takes(made)]
        fit = ", ".join([USUAL, *own, "BCEWithLogitsLoss"])
        raise InvalidValue(f"loss={name!r} is of classes that exclude each other; multilabel masks take {fit}.")


def _takes(make: Maker) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(make).parameters


def _checked(
    loss: nn.Module,
    ignore_index: int | None,
    arguments: Mapping[str, Any] | None,
    class_weights: Sequence[float] | None,
) -> nn.Module:
    if not callable(loss):
        raise InvalidType(f"loss={loss!r}: expected a name, or a torch.nn.Module.")
    if arguments:
        raise InvalidValue(f"loss_arguments={dict(arguments)}: a loss that is a module has its arguments already.")
    if class_weights is not None:
        raise InvalidValue("class_weights: a loss that is a module has its weights already; give its name instead.")
    own = getattr(loss, "ignore_index", ignore_index)
    if ignore_index is not None and own != ignore_index and not isinstance(loss, nn.BCEWithLogitsLoss):
        raise InvalidValue(
            f"ignore_index={ignore_index}, and the loss {type(loss).__name__} leaves out ignore_index={own}: it would "
            f"learn what does not count; make it with ignore_index={ignore_index}, or give its name instead."
        )
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
    if name.lower() in BINARY:
        usual = suggestion(["BCEWithLogitsLoss"], [])
    hint = f"Other losses of smp and torch.nn go by their class. {catalogue().left_out()}"
    raise UnknownName("loss", name, every, hint, why=usual)


def _losses(module: object) -> dict[str, Maker]:
    found = {key: value for key, value in vars(module).items() if key.endswith("Loss")}
    return {key: value for key, value in found.items() if isinstance(value, type) and issubclass(value, nn.Module)}
