"""Metrics by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from smp_feedback.errors import FeedbackError
from smp_feedback.evaluation.metrics import counts_of, metrics_of, of_whole
from smp_feedback.evaluation.named_metrics import MAX, Counts, NamedMetric, metric_called
from smp_feedback.evaluation.trial import made_up, tried
from smp_feedback.ops.reading import MULTILABEL

ORDER = [2, 0, 1]


def check_metric(name: str) -> None:
    """The metric *name* is a pure function of counts, best where all is right, and knows no order of the classes.

    It takes the counts of one set of images and of many at once, as intervals ask for, gives no infinity where a class
    is in neither answer nor target, and is scored beside the others.

    Args:
        name: A registered name.

    >>> check_metric("dice")
    """
    try:
        metric = metric_called(name)
    except FeedbackError as error:
        if isinstance(error, KeyError):
            raise
        raise AssertionError(str(error)) from error
    if metric.shares is None and metric.of_all is None:  # ours, which other things than counts tell
        return
    for task in metric.tasks:
        counts = made_up(task)
        value = check_numbers(metric, counts)
        check_many(metric, counts, value)
        check_classes(metric, counts, value)
        check_best(metric, counts)
        check_absent(metric, task)


def check_numbers(metric: NamedMetric, counts: Counts) -> Tensor:
    """Finite numbers, a share between 0 and 1, the same each time; the counts are left as they were."""
    before = [part.clone() for part in counts[:4]]
    try:
        value = tried(metric, counts)
    except Exception as error:
        raise AssertionError(f"of counts that are all there it fails: {error}") from error
    assert value.isfinite().all(), f"where every class is there it is {value.tolist()}"
    unchanged = all(torch.equal(now, then) for now, then in zip(counts[:4], before, strict=True))
    assert unchanged, "it wrote into the counts"
    assert torch.equal(tried(metric, counts), value), "computed twice, it is another"
    if metric.shares is not None:
        part, whole = metric.shares(counts)
        assert bool((part >= 0).all() and (part <= whole).all()), "a part is less than nothing, or more than its whole"
    return value


def check_many(metric: NamedMetric, counts: Counts, value: Tensor) -> None:
    """Of counts with a further axis before the classes it is that of each."""
    twice = _each(counts, lambda part: torch.stack([part, 3 * part]))
    try:
        found = tried(metric, twice)
    except Exception as error:
        raise AssertionError(f"of counts (2, classes) it fails: {error}") from error
    torch.testing.assert_close(found[0], value, msg="of counts (2, classes) it is another than of each")


def check_classes(metric: NamedMetric, counts: Counts, value: Tensor) -> None:
    """With the classes in another order its values are in that order, and that of all is the same."""
    turned = tried(metric, _each(counts, lambda part: part[..., ORDER]))
    expected = value if metric.of_all is not None else value[..., ORDER]
    torch.testing.assert_close(turned, expected, msg="it depends on the order of the classes")


def check_best(metric: NamedMetric, counts: Counts) -> None:
    """Where every answer is right it is better than where some are wrong, by its own ``best``."""
    right = Counts(counts.target, counts.target, counts.target, counts.scored, counts.exclusive)
    best, worse = (float(of_whole(metric, each, None)) for each in (right, counts))
    better = best > worse if metric.best == MAX else best < worse
    assert better, f"best={metric.best!r}, and where all is right it is {best:.4g}, where some is wrong {worse:.4g}"


def check_absent(metric: NamedMetric, task: str) -> None:
    """Where a class is nowhere it is no infinity, and beside the others it is named."""
    table = torch.zeros(3, 3) if task != MULTILABEL else torch.zeros(3, 2, 2)
    table[0, 0], table[0, 1] = (9, 3) if task != MULTILABEL else (torch.tensor([9.0, 1.0]), torch.tensor([2.0, 7.0]))
    value = of_whole(metric, counts_of(table, task), None)
    assert not value.isinf(), "where a class is nowhere it is infinite"
    assert metric.name in metrics_of(table, 0.0, task, None)[0], "it is not scored beside the others"


def _each(counts: Counts, change: Callable[[Tensor], Tensor]) -> Counts:
    hit, target, predicted, scored = (change(part) for part in counts[:4])
    return Counts(hit, target, predicted, scored, counts.exclusive)
