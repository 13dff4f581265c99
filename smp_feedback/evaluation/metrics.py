"""The metrics by name: what each makes of counts, which way is better, and what a class that is nowhere does to it.

As torchmetrics has them. A class counts where it is in the target or in the answer; of one that is there, a share of
nothing is 0 (the precision of a class that was never said, the recall of one that was only said). A class that is in
neither has no value and is in no mean; neither is one that is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from smp_feedback.evaluation.named_metrics import (
    SOLVED,
    Counts,
    NamedMetric,
    all_of,
    metrics_for,
    parts_of,
)
from smp_feedback.ops.reading import MULTILABEL


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
    >>> from smp_feedback.evaluation.named_metrics import METRICS
    >>> of_classes(METRICS["precision"], counts, None)
    tensor([1.0000, 0.6667,    nan], dtype=torch.float64)
    """
    assert metric.shares is not None
    part, whole = parts_of(metric, counts)
    share = part / whole.clamp_min(1)
    there = counts.target + counts.predicted > 0
    if not counts.exclusive:  # a no is an answer, too
        there = counts.scored > 0 if metric.overall else there
    elif ignore_index is not None and 0 <= ignore_index < share.shape[-1]:
        there[..., ignore_index] = False
    return torch.where(there, share, math.nan)


def of_whole(metric: NamedMetric, counts: Counts, ignore_index: int | None) -> Tensor:
    """The metric of all classes together (...,); NaN where there is nothing to score."""
    if metric.of_all is not None:
        return all_of(metric, counts)
    return counts.overall() if metric.overall else of_classes(metric, counts, ignore_index).nanmean(-1)


Metrics = tuple[dict[str, float], dict[str, tuple[float | None, ...]]]
"""Of the whole by name, NaN where nothing was scored; and, by name, of each class, None where it does not count."""


def metrics_of(
    table: Tensor, solved: float, task: str, ignore_index: int | None, measured: Mapping[str, Tensor] | None = None
) -> Metrics:
    """Every metric of what was counted.

    Args:
        table: Confusion matrix, as `counts_of` takes it; on the CPU.
        solved: The share of images without an error.
        task: What was answered.
        ignore_index: A class that does not count, or any other label.
        measured: Of each class (classes,), NaN where it has none, what was measured, by name; None is nothing.

    >>> whole, each = metrics_of(torch.tensor([[3, 1], [0, 4]]), 0.5, "segmentation", None)
    >>> round(whole["dice"], 3), [round(value, 3) for value in each["precision"]]
    (0.873, [1.0, 0.8])
    """
    counts, whole, each = counts_of(table, task), {SOLVED: solved}, {}
    measured = measured or {}
    metrics = metrics_for(task, measured=measured)
    for metric in metrics:
        if metric.name == SOLVED:
            continue
        if metric.of_class is None:
            whole[metric.name] = float(of_whole(metric, counts, ignore_index))
            continue
        values = measured[metric.name] if metric.measured else of_classes(metric, counts, ignore_index)
        whole[metric.name] = float(of_whole(metric, counts, None) if _is_of_all(metric) else values.nanmean())
        each[metric.name] = tuple(None if math.isnan(value) else value for value in values.tolist())
    return {metric.name: whole[metric.name] for metric in metrics}, each


def _is_of_all(metric: NamedMetric) -> bool:
    return metric.overall or metric.of_all is not None
