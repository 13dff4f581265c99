"""Scores of every look while a model is trained: those of `smp_feedback.evaluation`, over all processes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation.cells import check_strays, count, labels_in, shape_of, solved_of
from smp_feedback.evaluation.confusion import cells_in_parts
from smp_feedback.evaluation.metrics import Metrics, metrics_of
from smp_feedback.evaluation.scores import shares
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL, SEGMENTATION

MIOU, ACCURACY = "miou", "accuracy"
NAMES = {SEGMENTATION: MIOU, MULTILABEL: MIOU, CLASSIFICATION: ACCURACY}


class Scored(NamedTuple):
    """What came out.

    Attributes:
        name: ``miou`` or ``accuracy``.
        looks: The score of each look (T,), in [0, 1].
        per_class: IoU, or accuracy (recall), of each class (T, classes); NaN for a class that never came up.
        solved: Share of images in which all that is scored is right, after each look (T,); NaN where there are none.
        metrics: Of the last look, see `metrics_of`.
        confusion: Of the last look, see :meth:`LookMetric.compute`; on the CPU.
    """

    name: str
    looks: Tensor
    per_class: Tensor
    solved: Tensor
    metrics: Metrics = ({}, {})
    confusion: Tensor | None = None


class LookMetric(Metric):
    """MIoU of masks, or accuracy of labels (B,), and images solved, for each of T looks, over all processes.

    A confusion matrix for each look, of ``multilabel`` one for each class; that of torchmetrics asks the device, in
    every batch, how many pixels are not ignored. Beside it a count of the images in which all is right.

    Args:
        task: ``segmentation``, ``multilabel`` or ``classification``.
        classes: Number of classes; of two, one channel of logits tells both by its sign.
        steps: T.
        ignore_index: Label that is not scored.
        alone: Whether this process counts by itself, though there be others.

    >>> metric = LookMetric("segmentation", classes=2, steps=1)
    >>> logits = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]])  # class 0 everywhere
    >>> metric.update(0, logits, torch.tensor([[[0, 1]]]))
    >>> metric.scored().looks  # IoU 1/2 and 0
    tensor([0.2500])
    """

    tables: Tensor
    images: Tensor
    strays: Tensor

    def __init__(
        self, task: str, *, classes: int, steps: int, ignore_index: int | None = None, alone: bool = False
    ) -> None:
        super().__init__(sync_on_compute=not alone)
        self.task, self.classes, self.ignore_index = task, classes, ignore_index
        cells = math.prod(shape_of(classes, task))
        self.add_state("tables", torch.zeros(steps, cells, dtype=torch.long), "sum")
        self.add_state("images", torch.zeros(steps, 2, dtype=torch.long), "sum")
        self.add_state("strays", torch.zeros((), dtype=torch.long), "sum")

    def update(self, t: int, logits: Tensor, target: Tensor) -> None:
        """Count the answers of look *t*: its logits, or the labels that were read off them.

        Raises:
            InvalidInput: If the shapes do not fit.
        """
        seen = torch.zeros(2, len(target), dtype=torch.bool, device=target.device)
        for cells in cells_in_parts(logits, target, self.classes, self.ignore_index, self.task):
            count(self.tables[t], cells.cell, cells.scored)
            seen |= cells.seen()
            self.strays += cells.strays
        self.images[t] += solved_of(seen)

    def reset(self) -> None:
        """Begin anew, with counts that may be added to in any mode: Lightning validates in inference mode."""
        with torch.inference_mode(False):
            super().reset()

    def compute(self) -> tuple[Tensor, Tensor]:
        """Confusion matrices, and images: how many were solved, and how many there are, (T, 2).

        Matrices are (T, classes, classes), rows targets, columns predictions; ``multilabel``: (T, classes, 2, 2).

        Raises:
            InvalidInput: If labels were met that are neither a class nor ignored.
        """
        check_strays(self.strays, labels_in(self.classes, self.task), self.ignore_index)
        return self.tables.view(-1, *shape_of(self.classes, self.task)), self.images

    def scored(self) -> Scored:
        """The scores so far; as :meth:`compute`."""
        tables, images = self.compute()
        counted, solved = tables.cpu(), images[:, 0] / images[:, 1]
        found = [shares(table, self.task, self.ignore_index) for table in counted]
        looks = torch.tensor([score for score, _ in found], device=tables.device)
        rows = [[math.nan if one is None else one for one in each] for _, each in found]
        per_class = torch.tensor(rows, device=tables.device)
        last = metrics_of(counted[-1], float(solved[-1]), self.task, self.ignore_index)
        return Scored(NAMES[self.task], looks, per_class, solved, last, counted[-1])


def task_of(target: Tensor) -> str:
    """What a batch of targets asks for, by its rank: (B,), (B, H, W), or (B, C, H, W) of several channels.

    >>> task_of(torch.zeros(4, dtype=torch.long)), task_of(torch.zeros(4, 2, 8, 8, dtype=torch.long))
    ('classification', 'multilabel')
    """
    tasks = {1: CLASSIFICATION, 3: SEGMENTATION, 4: MULTILABEL}
    if target.ndim not in tasks:
        raise InvalidInput(
            f"target of shape {tuple(target.shape)}: expected labels (B,), masks (B, H, W), or (B, classes, H, W) "
            "where a pixel may have several labels."
        )
    return SEGMENTATION if target.ndim == 4 and target.shape[1] == 1 else tasks[target.ndim]
