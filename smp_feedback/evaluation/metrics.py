"""The metrics by name: what each makes of counts, which way is better, and what a class that is nowhere does to it.

As torchmetrics has them. A class counts where it is in the target or in the answer; of one that is there, a share of
nothing is 0 (the precision of a class that was never said, the recall of one that was only said). A class that is in
neither has no value and is in no mean; neither is one that is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from smp_feedback.ops.reading import MULTILABEL, SEGMENTATION, TASKS

MAX, MIN = "max", "min"
MAPS = (SEGMENTATION, MULTILABEL)


class Counts(NamedTuple):
    """Pixels by class, each part (..., classes); of ``classification``, images.

    Attributes:
        hit: Said and so.
        target: So.
        predicted: Said.
        scored: Asked: of ``multilabel`` one question a class, else one for all classes together.
        exclusive: Whether a pixel is of one class alone.
    """

    hit: Tensor
    target: Tensor
    predicted: Tensor
    scored: Tensor
    exclusive: bool

    @property
    def right(self) -> Tensor:
        """Rightly answered (..., classes): a class's own pixels, or, of several labels, its yes and no."""
        return self.hit if self.exclusive else self.scored - self.target - self.predicted + 2 * self.hit

    @property
    def asked(self) -> Tensor:
        """Of how many :attr:`right` is the part."""
        return self.target if self.exclusive else self.scored

    def overall(self) -> Tensor:
        """The share of all answers that are right (...,)."""
        whole = self.scored[..., 0] if self.exclusive else self.scored.sum(-1)
        return self.right.sum(-1) / whole


@dataclass(frozen=True)
class NamedMetric:
    """One of `METRICS`.

    Attributes:
        name: Of the whole, as in ``val_miou``.
        of_class: Of one class, as in ``val_iou/sky``; None where a class has none.
        title: In tables.
        best: ``max`` or ``min``: what is better.
        shares: Parts of a class and their wholes, each (..., classes); None where pixels alone do not tell.
        tasks: Those that it is for.
        overall: Taken over all pixels alike; else it is the mean of the classes.
        distance: Whether it is a distance in pixels, which MONAI measures (extra ``distances``).
    """

    name: str
    of_class: str | None
    title: str
    best: str = MAX
    shares: Callable[[Counts], tuple[Tensor, Tensor]] | None = None
    tasks: tuple[str, ...] = TASKS
    overall: bool = False
    distance: bool = False


SOLVED = "solved"
METRICS: Mapping[str, NamedMetric] = {
    metric.name: metric
    for metric in (
        NamedMetric("miou", "iou", "IoU", shares=lambda n: (n.hit, n.target + n.predicted - n.hit), tasks=MAPS),
        NamedMetric("dice", "dice", "Dice (F1)", shares=lambda n: (2 * n.hit, n.target + n.predicted)),
        NamedMetric("precision", "precision", "precision", shares=lambda n: (n.hit, n.predicted)),
        NamedMetric("recall", "recall", "recall", shares=lambda n: (n.hit, n.target)),
        NamedMetric("accuracy", "accuracy", "accuracy", shares=lambda n: (n.right, n.asked), overall=True),
        NamedMetric(SOLVED, None, "solved", overall=True),
        NamedMetric("hd95", "hd95", "Hausdorff 95", MIN, tasks=MAPS, distance=True),
        NamedMetric("asd", "asd", "surface distance", MIN, tasks=MAPS, distance=True),
    )
}
"""Mean intersection over union; Dice, which is F1; precision; recall, of a class its accuracy; accuracy over all
pixels; images without an error; 95th percentile of the Hausdorff distance, and average surface distance, in pixels."""
DISTANCES = tuple(name for name, metric in METRICS.items() if metric.distance)


def metrics_for(task: str, *, distances: bool = False) -> list[NamedMetric]:
    """Those of *task*, with the distances where they are measured.

    >>> [metric.name for metric in metrics_for("classification")]
    ['dice', 'precision', 'recall', 'accuracy', 'solved']
    """
    return [one for one in METRICS.values() if task in one.tasks and (distances or not one.distance)]


def counts_of(table: Tensor, task: str) -> Counts:
    """The counts that a confusion matrix holds.

    Args:
        table: (..., classes, classes), rows targets, columns predictions; of ``multilabel`` (..., classes, 2, 2).
        task: What is answered.

    >>> counts_of(torch.tensor([[3, 1], [0, 2]]), "segmentation").predicted.tolist()
    [3.0, 3.0]
    """
    table = table.double()
    if task == MULTILABEL:
        yes = table[..., 1, 1], table[..., 1, :].sum(-1), table[..., :, 1].sum(-1)
        return Counts(*yes, table.sum((-1, -2)), exclusive=False)
    hit, target = table.diagonal(dim1=-2, dim2=-1), table.sum(-1)
    return Counts(hit, target, table.sum(-2), target.sum(-1, keepdim=True).expand_as(hit), exclusive=True)


def of_classes(metric: NamedMetric, counts: Counts, ignore_index: int | None) -> Tensor:
    """The value of each class (..., classes), NaN for one that does not count.

    >>> counts = counts_of(torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]]), "segmentation")
    >>> of_classes(METRICS["precision"], counts, None)
    tensor([1.0000, 0.6667,    nan], dtype=torch.float64)
    """
    assert metric.shares is not None
    part, whole = metric.shares(counts)
    share = part / whole.clamp_min(1)
    there = counts.target + counts.predicted > 0
    if not counts.exclusive:  # a no is an answer, too
        there = counts.scored > 0 if metric.overall else there
    elif ignore_index is not None and 0 <= ignore_index < share.shape[-1]:
        there[..., ignore_index] = False
    return torch.where(there, share, math.nan)


def of_whole(metric: NamedMetric, counts: Counts, ignore_index: int | None) -> Tensor:
    """The metric of all classes together (...,); NaN where there is nothing to score."""
    return counts.overall() if metric.overall else of_classes(metric, counts, ignore_index).nanmean(-1)


Metrics = tuple[dict[str, float], dict[str, tuple[float | None, ...]]]
"""Of the whole by name, NaN where nothing was scored; and, by name, of each class, None where it does not count."""


def metrics_of(
    table: Tensor, solved: float, task: str, ignore_index: int | None, distances: Tensor | None = None
) -> Metrics:
    """Every metric of what was counted.

    Args:
        table: Confusion matrix, as `counts_of` takes it; on the CPU.
        solved: The share of images without an error.
        task: What was answered.
        ignore_index: A class that does not count, or any other label.
        distances: Of each class (classes, 2), in pixels, NaN where it has none; None where they were not measured.

    >>> whole, each = metrics_of(torch.tensor([[3, 1], [0, 4]]), 0.5, "segmentation", None)
    >>> round(whole["dice"], 3), [round(value, 3) for value in each["precision"]]
    (0.873, [1.0, 0.8])
    """
    counts, whole, each = counts_of(table, task), {SOLVED: solved}, {}
    for metric in metrics_for(task, distances=distances is not None):
        if metric.name == SOLVED:
            continue
        if metric.distance:
            assert distances is not None
            values = distances[:, DISTANCES.index(metric.name)]
        else:
            values = of_classes(metric, counts, ignore_index)
        whole[metric.name] = float(counts.overall() if metric.overall else values.nanmean())
        each[metric.name] = tuple(None if math.isnan(value) else value for value in values.tolist())
    return {name: whole[name] for name in METRICS if name in whole}, each
