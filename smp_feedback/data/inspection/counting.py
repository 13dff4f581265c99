"""How often each class is, for losses that weigh them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from smp_feedback.checks import check_bool, check_whole
from smp_feedback.data.draws import draws_undone
from smp_feedback.data.inspection.contract import MULTILABEL, naming
from smp_feedback.data.items import inherited, item_name
from smp_feedback.data.masks.hints import wrong_labels
from smp_feedback.data.progress import progress_bar
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue


def count_classes(
    dataset: Any, classes: int | None = None, ignore_index: int | None = None, *, progress: bool = False
) -> list[int]:
    """The pixels of each class in all masks of *dataset*, or the images of each class where its targets are labels.

    Each item is read once, augmentation included; global random numbers end up where they were.

    Args:
        dataset: Map-style, of (image, target): a mask (H, W) or a label (), whole numbers, as tensors or NumPy's, or,
            where its ``task`` is ``multilabel``, a mask (classes, H, W) of 0 and 1. May be wrapped.
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
    total, several = torch.zeros(count, dtype=torch.int64), inherited(dataset, "task") == MULTILABEL
    bar = progress_bar("counting classes", len(dataset), wanted=progress)
    with draws_undone(), bar as advance:
        for i in range(len(dataset)):
            target = _target(dataset, i)
            if wrong := wrong_labels(target, 2 if several else count, ignored):
                raise InvalidInput(f"{item_name(dataset, i)}: {wrong}")
            total += occurrences(target, count, ignored, multilabel=several)
            advance()
    return [int(number) for number in total]


def _how_many(dataset: Any, classes: int | None) -> int:
    if classes is not None:
        return check_whole("classes", classes)
    names = inherited(dataset, "classes")
    if not isinstance(names, (tuple, list)) or not names:
        raise InvalidValue("classes=None, and the dataset has no list of its classes: say how many there are.")
    return len(names)


def occurrences(target: Tensor, classes: int, ignored: object, *, multilabel: bool = False) -> Tensor:
    """How often each class is in *target*, (classes,); of channels (classes, H, W), how often each is 1.

    >>> occurrences(torch.tensor([[0, 2], [9, 2]]), 3, 9)
    tensor([1, 0, 2])
    >>> occurrences(torch.tensor([[[1, 1]], [[0, 9]]]), 2, 9, multilabel=True)
    tensor([2, 0])
    """
    if multilabel:
        return ((target == 1) & (target != ignored)).flatten(1).sum(1)
    labels = target.flatten()
    return (labels[labels != ignored] if isinstance(ignored, int) else labels).bincount(minlength=classes)


def _target(dataset: Any, index: int) -> Tensor:
    """The target of an item, whole numbers."""
    with naming(dataset, index):
        target = dataset[index][1]
    target = torch.as_tensor(target) if isinstance(target, (int, np.ndarray, np.integer)) else target
    if not isinstance(target, Tensor) or target.is_floating_point() or target.is_complex():
        kind = getattr(target, "dtype", type(target).__name__)
        raise InvalidInput(f"{item_name(dataset, index)}: a target of {kind}, expected class indices (torch.int64).")
    return target.long()
