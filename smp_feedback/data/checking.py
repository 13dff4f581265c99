"""Every item of a dataset, looked at once, before a model learns from it: what is wrong, and how often a class is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smp_feedback.checks import check_bool, check_whole
from smp_feedback.data.items import inherited, item_name
from smp_feedback.data.progress import progress_bar
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue

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
    bar = progress_bar("checking the dataset", len(dataset), wanted=progress)
    with torch.random.fork_rng(devices=[]), bar as advance:
        for i in range(len(dataset)):
            if problem := _problem(dataset, i, count, ignored):
                bad.append(problem)
            advance()
    if bad:
        more = [f"... and {len(bad) - MOST} more."] if len(bad) > MOST else []
        raise InvalidInput("\n".join([f"{len(bad)} of {len(dataset)} items cannot be used:", *bad[:MOST], *more]))


def _problem(dataset: Any, index: int, classes: int | None, ignored: object) -> str | None:
    """What is wrong with an item, or None."""
    try:
        with _naming(dataset, index):
            image, target = dataset[index]
    except InvalidInput as error:
        return str(error)
    wrong = wrong_image(image) or wrong_target(image, target, classes, ignored)
    return f"{item_name(dataset, index)}: {wrong}" if wrong else None


@contextmanager
def _naming(dataset: Any, index: int) -> Iterator[None]:
    """Whatever fails inside says which item it was."""
    try:
        yield
    except InvalidInput:  # it names the file itself
        raise
    except Exception as error:  # a stranger's dataset may raise anything
        raise InvalidInput(f"{item_name(dataset, index)}: {type(error).__name__}: {error}") from error


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
    return None if classes is None else wrong_labels(target, classes, ignored)


def wrong_labels(labels: Tensor, classes: int, ignored: object) -> str | None:
    """Those that are neither a class nor *ignored*, or None."""
    strange = ((labels < 0) | (labels >= classes)) & (labels != ignored if isinstance(ignored, int) else True)
    if not strange.any():
        return None
    also = "" if ignored is None else f" or {ignored} (ignored)"
    return f"labels {sorted(set(labels[strange].tolist()))}, expected 0 to {classes - 1} (the classes){also}."


def count_classes(
    dataset: Any, classes: int | None = None, ignore_index: int | None = None, *, progress: bool = False
) -> list[int]:
    """The pixels of each class in all masks of *dataset*, or the images of each class where its targets are labels.

    Each item is read once, augmentation included; torch's global random numbers end up where they were.

    Args:
        dataset: Map-style, of (image, target): a mask (H, W) or a label (), whole numbers, as tensors or NumPy's. May
            be wrapped.
        classes: How many there are; None asks *dataset*, or the dataset that it wraps, for its ``classes``.
        ignore_index: Label that is not counted; None asks likewise, and counts all where nobody says.
        progress: Whether to show a progress bar (with rich, if that is installed).

    Returns:
        One number for each class, 0 for one that does not occur.

    Raises:
        InvalidValue: If there are no items, or nobody says how many classes there are.
        InvalidInput: If an item cannot be read or has another label, naming it.

    >>> from smp_feedback.data import Shapes
    >>> count_classes(Shapes(2, size=32))
    [1581, 94, 373]
    >>> count_classes([(None, torch.tensor(2)), (None, torch.tensor(0))], classes=4)
    [1, 0, 1, 0]
    """
    if not hasattr(dataset, "__len__"):
        raise InvalidType(f"dataset={dataset!r:.80}: expected a map-style dataset, with a length.")
    if not len(dataset):
        raise InvalidValue("dataset: expected items, found none.")
    check_bool("progress", progress)
    count = _how_many(dataset, classes)
    ignored = inherited(dataset, "ignore_index") if ignore_index is None else ignore_index
    ignored = None if ignored is None else check_whole("ignore_index", ignored, least=-(2**63))
    total = torch.zeros(count, dtype=torch.int64)
    bar = progress_bar("counting classes", len(dataset), wanted=progress)
    with torch.random.fork_rng(devices=[]), bar as advance:
        for i in range(len(dataset)):
            labels = _labels(dataset, i)
            if wrong := wrong_labels(labels, count, ignored):
                raise InvalidInput(f"{item_name(dataset, i)}: {wrong}")
            total += (labels if ignored is None else labels[labels != ignored]).bincount(minlength=count)
            advance()
    return [int(number) for number in total]


def _how_many(dataset: Any, classes: int | None) -> int:
    if classes is not None:
        return check_whole("classes", classes)
    names = inherited(dataset, "classes")
    if not isinstance(names, (tuple, list)) or not names:
        raise InvalidValue("classes=None, and the dataset has no list of its classes: say how many there are.")
    return len(names)


def _labels(dataset: Any, index: int) -> Tensor:
    """The target of an item, flat."""
    with _naming(dataset, index):
        target = dataset[index][1]
    target = torch.as_tensor(target) if isinstance(target, (int, np.ndarray, np.integer)) else target
    if not isinstance(target, Tensor) or target.is_floating_point() or target.is_complex():
        kind = getattr(target, "dtype", type(target).__name__)
        raise InvalidInput(f"{item_name(dataset, index)}: a target of {kind}, expected class indices (torch.int64).")
    return target.long().flatten()
