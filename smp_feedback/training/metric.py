"""Scores of every look while a model is trained: those of `smp_feedback.evaluation`, over all processes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation.confusion import check_strays, count, sort_labels
from smp_feedback.evaluation.scores import shares

MIOU, ACCURACY = "miou", "accuracy"
NAMES = {"segmentation": MIOU, "classification": ACCURACY}


class Scored(NamedTuple):
    """What came out.

    Attributes:
        name: ``miou`` or ``accuracy``.
        looks: The score of each look (T,), in [0, 1].
        per_class: IoU, or accuracy (recall), of each class (T, classes); NaN for a class that never came up.
    """

    name: str
    looks: Tensor
    per_class: Tensor


class LookMetric(Metric):
    """MIoU of masks (B, H, W), or accuracy of labels (B,), for each of T looks, over all processes.

    A confusion matrix for each look; that of torchmetrics asks the device, in every batch, how many pixels are not
    ignored.

    Args:
        task: ``segmentation`` or ``classification``.
        classes: Number of classes.
        steps: T.
        ignore_index: Label that is not scored.

    >>> metric = LookMetric("segmentation", classes=2, steps=1)
    >>> logits = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]])  # class 0 everywhere
    >>> metric.update(0, logits, torch.tensor([[[0, 1]]]))
    >>> metric.scored().looks  # IoU 1/2 and 0
    tensor([0.2500])
    """

    tables: Tensor
    strays: Tensor

    def __init__(self, task: str, *, classes: int, steps: int, ignore_index: int | None = None) -> None:
        super().__init__()
        self.task, self.classes, self.ignore_index = task, classes, ignore_index
        self.add_state("tables", torch.zeros(steps, classes * classes, dtype=torch.long), "sum")
        self.add_state("strays", torch.zeros((), dtype=torch.long), "sum")

    def update(self, t: int, logits: Tensor, target: Tensor) -> None:
        """Count the answers of look *t*."""
        scored, label, strays = sort_labels(target, self.classes, self.ignore_index)
        count(self.tables[t], label * self.classes + logits.argmax(1), scored)
        self.strays += strays

    def reset(self) -> None:
        """Begin anew, with counts that may be added to in any mode: Lightning validates in inference mode."""
        with torch.inference_mode(False):
            super().reset()

    def compute(self) -> Tensor:
        """The matrices (T, classes, classes): rows are targets, columns predictions.

        Raises:
            InvalidInput: If labels were met that are neither a class nor ignored.
        """
        check_strays(self.strays, self.classes, self.ignore_index)
        return self.tables.view(-1, self.classes, self.classes)

    def scored(self) -> Scored:
        """The scores so far; as :meth:`compute`."""
        tables = self.compute()
        found = [shares(table, self.task, self.ignore_index) for table in tables.cpu()]
        looks = [score for score, _ in found]
        per_class = [[math.nan if one is None else one for one in each] for _, each in found]
        return Scored(NAMES[self.task], *(torch.tensor(rows, device=tables.device) for rows in (looks, per_class)))


def task_of(target: Tensor) -> str:
    """What a batch of targets asks for, by its rank: (B,) or (B, H, W).

    >>> task_of(torch.zeros(4, dtype=torch.long))
    'classification'
    """
    if target.ndim not in (1, 3):
        raise InvalidInput(f"target of shape {tuple(target.shape)}: expected labels (B,) or masks (B, H, W).")
    return "classification" if target.ndim == 1 else "segmentation"
