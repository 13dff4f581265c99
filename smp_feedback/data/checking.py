"""Every item of a dataset, looked at once: all that is wrong with it, before a model learns from it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from smp_feedback.data.items import inherited, item_name
from smp_feedback.errors import InvalidInput, InvalidValue

MOST = 20  # lines of an error


def check_dataset(dataset: Any, *, progress: bool = False) -> None:
    """Touch every item and name all that cannot be used, at once.

    An item is to be an image, floating point (C, H, W), finite and in [0, 1], with a mask, int64 (H, W), or a label,
    an int64 scalar, whose values are classes or ``ignore_index``. Files that cannot be read, sizes that differ and
    labels out of range are named by their file. Augmentation runs, too; torch's global random numbers end up where
    they were.

    Args:
        dataset: Map-style; ``classes``, ``ignore_index`` and ``name(index)`` are used if it has them.
        progress: Whether to show a progress bar (with rich, if that is installed).

    Raises:
        InvalidValue: If there are no items.
        InvalidInput: If an item cannot be used; one line per item.

    >>> from smp_feedback.data import Shapes
    >>> check_dataset(Shapes(4))
    >>> check_dataset([(torch.zeros(3, 4, 4), torch.zeros(4, 5).long())])
    Traceback (most recent call last):
    smp_feedback.errors.InvalidInput: 1 of 1 items cannot be used:
    item 0: a target of shape (4, 5), expected (4, 4), as its image, or ().
    """
    if not len(dataset):
        raise InvalidValue("dataset: expected items, found none.")
    classes, ignored = inherited(dataset, "classes"), inherited(dataset, "ignore_index")
    count = len(classes) if isinstance(classes, tuple | list) else None
    bad = []
    with torch.random.fork_rng(devices=[]):
        for i in shown(len(dataset), progress, "checking the dataset"):
            if problem := _problem(dataset, i, count, ignored):
                bad.append(problem)
    if bad:
        more = [f"... and {len(bad) - MOST} more."] if len(bad) > MOST else []
        raise InvalidInput("\n".join([f"{len(bad)} of {len(dataset)} items cannot be used:", *bad[:MOST], *more]))


def _problem(dataset: Any, index: int, classes: int | None, ignored: object) -> str | None:
    """What is wrong with an item, or None."""
    try:
        image, target = dataset[index]
    except InvalidInput as error:  # it names the file itself
        return str(error)
    except Exception as error:  # a stranger's dataset may raise anything
        return f"{item_name(dataset, index)}: {type(error).__name__}: {error}"
    wrong = wrong_image(image) or wrong_target(image, target, classes, ignored)
    return f"{item_name(dataset, index)}: {wrong}" if wrong else None


def wrong_image(image: Any) -> str | None:
    """What is wrong with an image, or None."""
    if not isinstance(image, Tensor) or not image.is_floating_point():
        return f"an image of {getattr(image, 'dtype', type(image).__name__)}, expected a floating-point tensor."
    if image.ndim != 3 or 0 in image.shape:
        return f"an image of shape {tuple(image.shape)}, expected (C, H, W)."
    if not (image >= 0).all() or not (image <= 1).all():  # every comparison with NaN is false
        return f"an image with values {image.min():.4g} to {image.max():.4g}, expected 0 to 1."
    return None


def wrong_target(image: Tensor, target: Any, classes: int | None, ignored: object) -> str | None:
    """What is wrong with a mask or a label, or None."""
    if not isinstance(target, Tensor) or target.dtype != torch.int64:
        return f"a target of {getattr(target, 'dtype', type(target).__name__)}, expected torch.int64."
    if target.ndim and target.shape != image.shape[1:]:
        return f"a target of shape {tuple(target.shape)}, expected {tuple(image.shape[1:])}, as its image, or ()."
    if classes is None:
        return None
    strange = ((target < 0) | (target >= classes)) & (target != ignored if isinstance(ignored, int) else True)
    if strange.any():
        also = "" if ignored is None else f" or {ignored} (ignored)"
        return f"labels {sorted(set(target[strange].tolist()))}, expected 0 to {classes - 1} (the classes){also}."
    return None


def shown(count: int, progress: bool, what: str) -> Iterable[int]:
    """The numbers below *count*, with a progress bar that says *what* if one is wanted and rich is installed."""
    if progress:
        with suppress(ImportError):
            from rich.progress import track

            return track(range(count), what)
    return range(count)
