"""Weights of classes as they occur in the training data: counted once, before a loss learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.data.batch import pair_of
from smp_feedback.data.inspection.checking import count_classes
from smp_feedback.errors import InvalidValue
from smp_feedback.losses.balance import class_balanced_weights
from smp_feedback.ops.reading import MULTILABEL, SEGMENTATION
from smp_feedback.training.loss_arguments import checked_class_weights
from smp_feedback.training.sampling import drawing

BALANCED = "balanced"
ClassWeights = Sequence[float] | str | None


def check_class_weights(weights: ClassWeights, classes: int) -> list[float] | None:
    """*weights* as numbers; None for none, and for ``balanced``, which are to be counted.

    Raises:
        InvalidType, InvalidValue: For another word, or numbers that do not fit.

    >>> check_class_weights([1, 2], classes=2), check_class_weights("balanced", classes=2)
    ([1.0, 2.0], None)
    """
    if weights is None or (isinstance(weights, str) and weights == BALANCED):
        return None
    if isinstance(weights, str):
        raise InvalidValue(f"class_weights={weights!r}: expected {BALANCED!r}, a list, or None.")
    return checked_class_weights("class_weights", weights, classes)


def balanced_weights(
    labelled: Any, classes: int, ignore_index: int | None, task: str = SEGMENTATION, *, normalise: bool = False
) -> list[float]:
    """The weights of the classes as they occur in *labelled*: rare ones up to 7.8 times as much as frequent ones.

    As published: :func:`~smp_feedback.losses.balance.class_balanced_weights` of ``samples="log"``. What the pairs
    draw at random is drawn alike each time, so that a resumed run finds the same weights.

    Args:
        labelled: Map-style pairs of image and target.
        classes: Number of classes.
        ignore_index: Label that is not counted.
        task: For ``multilabel``, a class counts wherever it is said to be.
        normalise: Whether their mean is to be 1.
    """
    pairs = Targets(labelled, task)
    known = task != MULTILABEL and ignore_index is not None and 0 <= ignore_index < classes
    with drawing(0):
        counts = _yes(pairs, classes) if task == MULTILABEL else count_classes(pairs, classes, ignore_index)
    own = ignore_index if known else None
    return class_balanced_weights(counts, samples="log", ignore_index=own, normalise=normalise)


class Targets(Dataset[tuple[None, Tensor]]):
    """The targets of any pairs, int64, without their images.

    >>> Targets([{"image": torch.zeros(3, 2, 2), "mask": torch.ones(2, 2).byte()}], "segmentation")[0][1].tolist()
    [[1, 1], [1, 1]]
    """

    def __init__(self, dataset: Any, task: str) -> None:
        self.dataset, self.task = dataset, task

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[None, Tensor]:
        item = self.dataset[index]
        parts = {k: _batched(v) for k, v in item.items()} if isinstance(item, dict) else [_batched(v) for v in item[:2]]
        return None, pair_of(parts, self.task)[1][0]


def _batched(part: Any) -> Any:
    """A batch of one."""
    return torch.as_tensor(part)[None] if not isinstance(part, (str, bytes)) and part is not None else part


def _yes(pairs: Targets, classes: int) -> list[int]:
    """How often each class is said to be."""
    total = torch.zeros(classes, dtype=torch.int64)
    for i in range(len(pairs)):
        total += (pairs[i][1] == 1).flatten(1).sum(1)
    return total.tolist()
