"""Where each answer belongs in a confusion matrix: what was said, what is so, and whether it counts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from smp_feedback.data.batch import read_target
from smp_feedback.errors import InvalidInput
from smp_feedback.ops.reading import MULTILABEL, SEGMENTATION, answers_classes, labels_of


class Cells(NamedTuple):
    """Where each answer belongs in the confusion matrix; every part has the shape of the target.

    Attributes:
        scored: Whether it counts.
        label: What is right, 0 where nothing is scored.
        right: Whether that was said.
        cell: Its place in the flat matrix.
        strays: How many labels are neither a class nor ignored, ().
        said: What was said.
    """

    scored: Tensor
    label: Tensor
    right: Tensor
    cell: Tensor
    strays: Tensor
    said: Tensor

    def seen(self) -> Tensor:
        """Whether something is scored in each image, and whether something is wrong there (2, B)."""
        parts = self.scored, self.scored & ~self.right
        return torch.stack([part[:, None].flatten(1).any(1) for part in parts])

    def images(self) -> Tensor:
        """How many images have all right that is scored, and in how many something is (2,)."""
        return solved_of(self.seen())


def solved_of(seen: Tensor) -> Tensor:
    """How many images have all right that is scored, and in how many something is (2,), of what `Cells.seen` says.

    >>> solved_of(torch.tensor([[True, True, False], [False, True, False]])).tolist()
    [1, 2]
    """
    scored, missed = seen
    return torch.stack([(scored & ~missed).sum(), scored.sum()])


def cells_of(logits: Tensor, target: Tensor, classes: int, ignore_index: int | None, task: str = SEGMENTATION) -> Cells:
    """What *logits* say of *target*, as counts take it; nothing leaves the device.

    Whole numbers of the shape of *target* are the labels that were read off logits before.

    Raises:
        InvalidInput: If the shapes do not fit, or the channels do not tell *classes* classes.

    >>> cells_of(torch.tensor([[3.0], [-3.0]]), torch.tensor([1, 1]), 2, None).cell  # (1, 1), and (1, 0)
    tensor([3, 2])
    """
    target = read_target(target, task)
    labels = labels_in(classes, task)
    if logits.is_floating_point():
        _check_fit(logits, target, classes, task)
        prediction = labels_of(logits, task)
    else:
        prediction = logits.long()
    scored, label, strays = sort_labels(target, labels, ignore_index)
    cell = label * labels + prediction
    if task == MULTILABEL:
        which = torch.arange(classes, device=target.device).view(-1, *(1,) * (target.ndim - 2))
        cell = cell + which * labels**2
    return Cells(scored, label, prediction == label, cell, strays, prediction)


def masks_in(cells: Cells, classes: int, task: str) -> tuple[Tensor, Tensor]:
    """What was said and what is so, a mask a class (B, classes, H, W); both empty where nothing is scored."""
    if task == MULTILABEL:
        return cells.said.bool() & cells.scored, cells.label.bool() & cells.scored
    which = torch.arange(classes, device=cells.label.device).view(1, -1, 1, 1)
    scored = cells.scored[:, None]
    return (cells.said[:, None] == which) & scored, (cells.label[:, None] == which) & scored


def labels_in(classes: int, task: str) -> int:
    """The labels between which an answer chooses: the classes, or no and yes."""
    return 2 if task == MULTILABEL else classes


def shape_of(classes: int, task: str) -> tuple[int, ...]:
    """The shape of the counts: one matrix, or one a class."""
    return (classes, 2, 2) if task == MULTILABEL else (classes, classes)


def _check_fit(logits: Tensor, target: Tensor, classes: int, task: str) -> None:
    place = target.shape if task == MULTILABEL else (len(target), logits.shape[1], *target.shape[1:])
    if logits.shape == place and answers_classes(logits.shape[1], classes, task):
        return
    raise InvalidInput(
        f"logits of shape {tuple(logits.shape)} for a target of shape {tuple(target.shape)} and "
        f"{classes} classes: expected {(len(target), classes, *target.shape[1 + (task == MULTILABEL) :])}."
    )


def sort_labels(target: Tensor, classes: int, ignore_index: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Where *target* is scored, its labels there and 0 elsewhere, and how many are neither a class nor ignored.

    >>> scored, label, strays = sort_labels(torch.tensor([1, 255, 7]), classes=2, ignore_index=255)
    >>> scored.tolist(), label.tolist(), int(strays)
    ([True, False, False], [1, 0, 0], 1)
    """
    known = (target >= 0) & (target < classes)
    scored = known if ignore_index is None else known & (target != ignore_index)
    ignored = torch.zeros_like(known) if ignore_index is None else target == ignore_index
    return scored, torch.where(scored, target, 0), (~known & ~ignored).sum()


def check_strays(strays: Tensor, classes: int, ignore_index: int | None) -> None:
    """No label was neither a class nor ignored.

    Raises:
        InvalidInput: With how many were.
    """
    if number := int(strays):
        known = f"0 to {classes - 1}" + ("" if ignore_index is None else f", or {ignore_index}")
        raise InvalidInput(f"target: {number} labels are neither a class nor ignored; expected {known}.")


def count(into: Tensor, index: Tensor, weight: Tensor) -> None:
    """Add whole *weight* to *into* at *index*; exact, and nothing leaves the device."""
    into.index_add_(0, index.flatten(), weight.flatten().long())
