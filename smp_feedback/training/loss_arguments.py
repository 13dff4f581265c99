"""Arguments of losses as people write them: lists where a tensor is meant, and one weight for each class."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.losses.iterative import checked_weights
from smp_feedback.losses.mixture import LossMixture
from smp_feedback.ops.reading import MULTILABEL
from smp_feedback.registry.public import catalogue

EXCLUSIVE = ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
"""Those of torch whose ``weight`` is one of classes."""
BINARY = ("BCEWithLogitsLoss", "SoftBCEWithLogitsLoss")
"""Those whose ``weight`` and ``pos_weight`` are of channels."""


class Kind(NamedTuple):
    """A loss that is about to be made.

    Attributes:
        name: What it was asked for by.
        make: Makes it.
        classes: Of the data; None if nobody knows.
        task: ``segmentation``, ``multilabel`` or ``classification``.
    """

    name: str
    make: Any
    classes: int | None
    task: str

    @property
    def takes(self) -> Mapping[str, inspect.Parameter]:
        """Its parameters."""
        return inspect.signature(self.make).parameters

    @property
    def weighs_by(self) -> str | None:
        """What it calls its weights of classes; None if it has none."""
        if "class_weights" in self.takes:
            return "class_weights"
        made = getattr(self.make, "__name__", "")
        weighs = made in EXCLUSIVE or (made == BINARY[0] and self.task == MULTILABEL)
        return "weight" if weighs and "weight" in self.takes else None

    @property
    def numbers_of(self) -> dict[str, tuple[int, ...]]:
        """The arguments that are weights, each with how many numbers it may have, if somebody knows."""
        if getattr(self.make, "__name__", "") in BINARY:
            channels = self.classes if self.task == MULTILABEL else 1
            return dict.fromkeys(("weight", "pos_weight"), () if channels is None else (1, channels))
        one = () if self.classes is None else (self.classes,)
        return {} if self.weighs_by is None else {self.weighs_by: one}

    def takes_tensor(self, key: str) -> bool:
        """Whether argument *key* is a tensor."""
        return key in self.takes and "Tensor" in str(self.takes[key].annotation)


def as_tensors(kind: Kind, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """*arguments* in which lists and numbers are tensors of float32 where the loss takes tensors.

    Raises:
        InvalidType, InvalidValue: If weights are not one number >= 0 for each class.

    >>> as_tensors(Kind("cross_entropy", torch.nn.CrossEntropyLoss, 2, "segmentation"), {"weight": [1, 5]})
    {'weight': tensor([1., 5.])}
    """
    return {key: _argument(kind, key, value) for key, value in arguments.items()}


def with_class_weights(kind: Kind, given: Mapping[str, Any], weights: Sequence[float]) -> dict[str, Any]:
    """*given*, and the weights of the classes as this loss calls them.

    Raises:
        InvalidValue: If it weighs no classes, naming those that do, or both are given.
    """
    key = kind.weighs_by
    if key is None:
        fit = ", ".join(weighing())
        what = "no term of this mixture weighs" if kind.make is LossMixture else f"the loss {kind.name!r} weighs no"
        raise InvalidValue(f"class_weights: {what} classes; those that do are {fit}.")
    if given.get("mode") == "binary":
        raise InvalidValue(
            f"class_weights: the loss {kind.name!r} of one channel weighs no classes; cross_entropy does, and so does "
            "this one with loss_arguments={'mode': 'multiclass'}, for background and foreground."
        )
    if key in given:
        raise InvalidValue(f"class_weights and loss_arguments.{key} are the same thing: give one of them.")
    return {**given, key: _argument(kind, key, checked_class_weights("class_weights", weights, kind.classes))}


def weighing() -> list[str]:
    """The registered losses that weigh classes."""
    makers = catalogue().losses.items()
    return [name for name, make in makers if Kind(name, make, None, "").weighs_by]


def checked_class_weights(name: str, weights: Sequence[float], classes: int | None) -> list[float]:
    """*weights*, one number >= 0 for each class.

    Raises:
        InvalidType, InvalidValue: If they are not.

    >>> checked_class_weights("class_weights", [1, 5], classes=2)
    [1.0, 5.0]
    """
    checked = checked_weights(name, weights)
    if classes is not None and len(checked) != classes:
        raise InvalidValue(
            f"{name} has {len(checked)} numbers, the data have {classes} classes: expected one number "
            "for each, 0 for one that does not count."
        )
    return list(checked)


def _argument(kind: Kind, key: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if not isinstance(value, Tensor) and kind.takes_tensor(key):
        try:
            value = torch.as_tensor(np.atleast_1d(np.asarray(value, dtype=np.float32)))
        except (TypeError, ValueError):
            raise InvalidType(f"loss_arguments.{key}={value!r}: the loss {kind.name!r} takes numbers there.") from None
    if (many := kind.numbers_of.get(key)) is not None and (not isinstance(value, Tensor) or value.ndim == 1):
        _check_weights(f"loss_arguments.{key} of {kind.name!r}", value, many)
    return value


def _check_weights(name: str, value: Any, many: tuple[int, ...]) -> None:
    """*value* has so many numbers >= 0."""
    numbers = checked_weights(name, value)
    if many and len(numbers) not in many:
        wanted = " or ".join(map(str, sorted(set(many))))
        raise InvalidValue(f"{name} has {len(numbers)} numbers: expected {wanted}, one for each class or channel.")
