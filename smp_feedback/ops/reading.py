"""What logits say: the one place where labels and chances are read off them.

Several channels are classes that exclude each other, and the largest wins. One channel, smp's default ``classes=1``,
stands for two classes: its sign tells foreground (class 1) from background (class 0). Multilabel answers are as many
questions of yes or no as there are channels, each answered by its sign.
"""

from __future__ import annotations

import torch
from torch import Tensor

SEGMENTATION, MULTILABEL, CLASSIFICATION = "segmentation", "multilabel", "classification"
TASKS = (SEGMENTATION, MULTILABEL, CLASSIFICATION)


def reading_of(channels: int, task: str = SEGMENTATION) -> str:
    """How an answer of *channels* channels is read: ``argmax``, ``sign`` or ``multilabel``.

    >>> reading_of(3), reading_of(1), reading_of(3, "multilabel")
    ('argmax', 'sign', 'multilabel')
    """
    if task == MULTILABEL:
        return MULTILABEL
    return "sign" if channels == 1 else "argmax"


def per_class(logits: Tensor) -> Tensor:
    """*logits* (B, classes, ...); a single channel x, as smp's binary models give it, becomes the two of [0, x].

    >>> per_class(torch.tensor([[3.0]]))  # sigmoid(x) is the softmax of [0, x]
    tensor([[0., 3.]])
    """
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def labels_of(logits: Tensor, task: str = SEGMENTATION) -> Tensor:
    """The labels that *logits* (B, C, ...) give: int64 (B, ...), or (B, C, ...) of 0 and 1 for ``multilabel``.

    >>> labels_of(torch.tensor([[-1.0, 2.0]])), labels_of(torch.tensor([[3.0]])), labels_of(torch.tensor([[-3.0]]))
    (tensor([1]), tensor([1]), tensor([0]))
    >>> labels_of(torch.tensor([[3.0, 2.0]]), "multilabel")
    tensor([[1, 1]])
    """
    if task == MULTILABEL:
        return (logits > 0).long()
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def chances_of(logits: Tensor, task: str = SEGMENTATION) -> Tensor:
    """How probable each class is (B, classes, ...): of one channel both classes, for ``multilabel`` each on its own.

    >>> chances_of(torch.tensor([[0.0]])), chances_of(torch.tensor([[0.0, 0.0, 0.0]]), "multilabel")
    (tensor([[0.5000, 0.5000]]), tensor([[0.5000, 0.5000, 0.5000]]))
    """
    return logits.sigmoid() if task == MULTILABEL else per_class(logits).softmax(1)


def answers_classes(channels: int, classes: int, task: str = SEGMENTATION) -> bool:
    """Whether *channels* channels can tell *classes* classes: as many, or one channel for two.

    >>> answers_classes(3, 3), answers_classes(1, 2), answers_classes(1, 3), answers_classes(1, 2, "multilabel")
    (True, True, False, False)
    """
    return channels == classes or (channels == 1 and classes == 2 and task != MULTILABEL)
