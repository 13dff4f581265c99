"""Counts image by image: what each image is worth, and how sure a score is when other images might have been drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import SupportsIndex

import numpy as np
import torch
from torch import Tensor

from smp_feedback.data.items import checked_int
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.cells import Cells, count
from smp_feedback.evaluation.measures import Measure
from smp_feedback.evaluation.metrics import of_classes, of_whole
from smp_feedback.evaluation.named_metrics import SOLVED, Counts, NamedMetric
from smp_feedback.ops.reading import MULTILABEL

PARTS = 4
"""Hit, target, predicted and scored, as in `Counts`."""
LEVEL = 0.95
LEAST_DRAWS = 40
"""Of which one lies beyond each end of 95 %."""
AT_ONCE = 2**22
"""Weights that are in memory at once where images are drawn again."""


def image_counts(cells: Cells, classes: int, task: str) -> Tensor:
    """The counts of each image of a batch (B, 4, classes), whole numbers; nothing leaves the device.

    >>> from smp_feedback.evaluation.cells import cells_of
    >>> image_counts(cells_of(torch.tensor([[3.0, 0.0]]), torch.tensor([1]), 2, None), 2, "classification").tolist()
    [[[0, 0], [0, 1], [1, 0], [1, 1]]]
    """
    size, scored = len(cells.label), cells.scored
    if task == MULTILABEL:
        said, so = cells.said.bool() & scored, cells.label.bool() & scored
        return torch.stack([part.flatten(2).sum(2) for part in (said & so, so, said, scored)], 1)
    into = torch.zeros(PARTS, size * classes, dtype=torch.long, device=scored.device)
    first = classes * torch.arange(size, device=scored.device).view(-1, *(1,) * (scored.ndim - 1))
    for row, where, weight in zip(
        into, (cells.label, cells.label, cells.said), (scored & cells.right, scored, scored), strict=False
    ):
        count(row, where + first, weight)
    found = into.view(PARTS, size, classes).movedim(0, 1)
    found[:, 3] = found[:, 1].sum(1, keepdim=True)
    return found


def counts_in(rows: Tensor, task: str) -> Counts:
    """*rows* (..., 4, classes) as `Counts`."""
    hit, target, predicted, scored = rows.double().unbind(-2)
    return Counts(hit, target, predicted, scored, exclusive=task != MULTILABEL)


@dataclass(frozen=True)
class Images:
    """All images that were scored, on the CPU.

    Attributes:
        counts: (N, 4, classes), as `image_counts` has them.
        measured: What counts do not tell, such as ``hd95``, by name, of each class of each image (N, classes).
        task: What was answered.
        ignore_index: What does not count.
    """

    counts: Tensor
    measured: Mapping[str, Tensor]
    task: str
    ignore_index: int | None

    def of_classes(self, metric: NamedMetric) -> Tensor:
        """The metric of each class in each image (N, classes); NaN where a class does not count."""
        if metric.measured:
            return self.measured[metric.name].double()
        return of_classes(metric, counts_in(self.counts, self.task), self.ignore_index)

    def of_images(self, metric: NamedMetric) -> Tensor:
        """The metric of each image (N,); NaN of one in which nothing counts."""
        counts = counts_in(self.counts, self.task)
        if metric.name == SOLVED:
            share = counts.overall()
            return torch.where(share.isnan(), share, (share == 1).double())
        return self.of_classes(metric).nanmean(1) if metric.measured else of_whole(metric, counts, self.ignore_index)

    def intervals(self, metrics: list[NamedMetric], draws: int, seed: int = 0) -> Mapping[str, tuple[float, float]]:
        """The 95 % percentile interval of each metric of the whole, over *draws* drawings of as many images.

        Images are drawn with replacement, and their counts added up anew: what the score would have been, had other
        images of the kind been looked at. NaN where a drawing has no value.
        """
        drawn: dict[str, list[Tensor]] = {metric.name: [] for metric in metrics}
        kept = self._scored()
        rng, count = np.random.default_rng(seed), len(kept.counts)
        at_once = max(1, AT_ONCE // count)
        for begin in range(0, draws, at_once):
            size = min(at_once, draws - begin)
            weights = torch.from_numpy(rng.multinomial(count, np.full(count, 1 / count), size)).double()
            for metric in metrics:
                drawn[metric.name].append(kept._drawn(metric, weights))
        tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
        ends = {name: torch.cat(values).quantile(tails).tolist() for name, values in drawn.items()}
        return {name: (low, high) for name, (low, high) in ends.items()}

    def _scored(self) -> Images:
        """Those in which something is scored."""
        kept = self.counts[:, -1].sum(1) > 0
        return replace(self, counts=self.counts[kept], measured={k: part[kept] for k, part in self.measured.items()})

    def _drawn(self, metric: NamedMetric, weights: Tensor) -> Tensor:
        """The metric (R,) of the images with these *weights* (R, N)."""
        if metric.name == SOLVED:
            return _mean(weights, self.of_images(metric)[:, None])[:, 0]
        if metric.measured:
            return _mean(weights, self.of_classes(metric)).nanmean(1)
        summed = (weights @ self.counts.double().flatten(1)).view(len(weights), *self.counts.shape[1:])
        return of_whole(metric, counts_in(summed, self.task), self.ignore_index)


def check_draws(bootstrap: SupportsIndex) -> int:
    """*bootstrap*, how many drawings make an interval: 0 for none, or so many that it has two ends.

    Raises:
        InvalidType, InvalidValue: If it is something else.
    """
    draws = checked_int("bootstrap", bootstrap, least=0)
    if 0 < draws < LEAST_DRAWS:
        raise InvalidValue(
            f"bootstrap={draws}: a 95 % interval takes {LEAST_DRAWS} drawings at least, 1000 is usual; 0 draws none."
        )
    return draws


class EachImageTally:
    """Counts each image by itself, in the order in which they come; nothing leaves the device but what is measured.

    Args:
        classes: Number of classes.
        ignore_index: Label that is not counted.
        task: ``segmentation``, ``multilabel`` or ``classification``.
        measure: Measures what counts do not tell; None measures nothing.
    """

    def __init__(self, classes: int, ignore_index: int | None, task: str, measure: Measure | None = None) -> None:
        self.classes, self.ignore_index, self.task, self.measure = classes, ignore_index, task, measure
        self.counts: list[Tensor] = []
        self.measured: list[Mapping[str, Tensor]] = []

    def add(self, cells: Cells) -> None:
        """Count one batch."""
        self.counts.append(image_counts(cells, self.classes, self.task))
        if self.measure is not None:
            self.measured.append(self.measure(cells))

    def images(self) -> Images:
        """All that were counted."""
        names = self.measured[0] if self.measured else ()
        measured = {name: torch.cat([each[name] for each in self.measured]) for name in names}
        return Images(torch.cat(self.counts).cpu(), measured, self.task, self.ignore_index)


def means_of(measured: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of each class the mean over the images that have a value (classes,); NaN without any.

    >>> means_of({"hd95": torch.tensor([[1.0, math.nan], [3.0, math.nan]])})["hd95"].tolist()
    [2.0, nan]
    """
    return {name: part.double().nanmean(0) for name, part in measured.items()}


def _mean(weights: Tensor, values: Tensor) -> Tensor:
    """The weighted mean (R, K) of what is a number among *values* (N, K)."""
    there = values.isfinite().double()
    whole = weights @ there
    return torch.where(whole > 0, (weights @ values.nan_to_num(0.0)) / whole, math.nan)
