"""What an item has to be before a model learns from it, and how one that is not is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from smp_feedback.data.batch import read_target
from smp_feedback.data.items import beyond_unit, item_name
from smp_feedback.data.masks.hints import also_ignored, strange_in, wrong_labels
from smp_feedback.errors import InvalidInput

MULTILABEL = "multilabel"  # a mask has one channel a class, of 0 and 1


def wrong_image(image: Any) -> str | None:
    """What is wrong with an image, or None."""
    if not isinstance(image, Tensor) or not image.is_floating_point():
        return f"an image of {getattr(image, 'dtype', type(image).__name__)}, expected a floating-point tensor."
    if image.ndim != 3 or 0 in image.shape:
        return f"an image of shape {tuple(image.shape)}, expected (C, H, W)."
    return beyond_unit(image)


def read_whole(target: Any, multilabel: bool = False) -> Any:
    """One *target* as training reads it: whole numbers of any type as int64, (1, H, W) as (H, W).

    >>> read_whole(torch.ones(1, 2, 2, dtype=torch.uint8))
    tensor([[1, 1],
            [1, 1]])
    """
    if not isinstance(target, (Tensor, int)) and getattr(getattr(target, "dtype", None), "kind", "O") not in "biuf":
        return target
    return read_target(torch.as_tensor(target)[None], MULTILABEL if multilabel else None)[0]


def wrong_target(
    image: Tensor, target: Any, classes: int | None, ignored: object, *, multilabel: bool = False
) -> str | None:
    """What is wrong with a mask or a label, or None."""
    if not isinstance(target, Tensor) or target.dtype != torch.int64:
        return f"a target of {getattr(target, 'dtype', type(target).__name__)}, expected torch.int64."
    if multilabel:
        return _wrong_channels(image, target, classes, ignored)
    if target.ndim and target.shape != image.shape[1:]:
        return f"a target of shape {tuple(target.shape)}, expected {tuple(image.shape[1:])}, as its image, or ()."
    return None if classes is None else wrong_labels(target, classes, ignored)


def _wrong_channels(image: Tensor, target: Tensor, classes: int | None, ignored: object) -> str | None:
    """As `wrong_target`, of a mask with one channel a class."""
    if target.ndim != 3 or target.shape[1:] != image.shape[1:] or target.shape[0] != (classes or target.shape[0]):
        wanted = (classes or "classes", *image.shape[1:])
        return f"a target of shape {tuple(target.shape)}, expected {wanted}, one channel a class."
    if strange := strange_in(target, 2, ignored):
        return f"values {strange}; expected 0 and 1{also_ignored(ignored)}."
    return None


@contextmanager
def naming(dataset: Any, index: int) -> Iterator[None]:
    """Whatever fails inside says which item it was."""
    try:
        yield
    except InvalidInput:  # it names the file itself
        raise
    except Exception as error:  # a stranger's dataset may raise anything
        raise InvalidInput(f"{item_name(dataset, index)}: {type(error).__name__}: {error}") from error
