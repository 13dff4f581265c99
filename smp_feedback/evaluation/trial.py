"""A metric tried on counts made up for it, before a run takes its word for what is best."""

from __future__ import annotations

import torch
from torch import Tensor

from smp_feedback.errors import InvalidValue, one_line
from smp_feedback.evaluation.metrics import counts_of
from smp_feedback.evaluation.named_metrics import Counts, NamedMetric, tried_of_all, tried_parts
from smp_feedback.ops.reading import MULTILABEL
from smp_feedback.registry.public import catalogue


def try_out(metric: NamedMetric, task: str) -> None:
    """*metric*, a plugin's, gives numbers for counts of *task* in which each class is said, and mistaken.

    Raises:
        InvalidValue: If it does not, with whose it is and why.
    """
    try:
        values = tried(metric, made_up(task))
        if not values.isfinite().all():
            raise InvalidValue(f"it is {values.flatten().tolist()} where every class is there: expected numbers.")
    except Exception as error:  # a stranger's function may raise anything
        who = f"metric {metric.name!r} of {catalogue().metrics.origin(metric.name)}"
        raise InvalidValue(f"val_{metric.name}: {who} cannot be watched: {one_line(error)}") from error


def tried(metric: NamedMetric, counts: Counts) -> Tensor:
    """What *metric* makes of *counts*: of all classes together where it says so, else of each."""
    if metric.of_all is not None:
        return tried_of_all(metric, counts)
    part, whole = tried_parts(metric, counts)
    return part / whole


def made_up(task: str) -> Counts:
    """Counts of three classes, each of them right more often than not."""
    table = torch.tensor([[50, 3, 2], [4, 30, 1], [2, 5, 20]])
    if task == MULTILABEL:
        table = torch.tensor([[[50, 3], [4, 60]], [[70, 7], [10, 30]], [[80, 9], [8, 20]]])
    return counts_of(table, task)
