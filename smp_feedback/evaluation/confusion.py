"""What one look got right, how sure it was, and whether it knew: counted batch by batch, on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation.cells import Cells, cells_of, check_strays, count, labels_in, shape_of
from smp_feedback.ops.reading import MULTILABEL, SEGMENTATION, per_class

BINS = 15
"""Bins of confidence, of equal width over [0, 1] (Guo et al. 2017, arXiv 1706.04599)."""
RANKS = 4096
"""Steps in which uncertainty is ranked; what falls into one step counts as a tie."""
QUESTIONS = 2**20
"""That are counted at once where a map is counted in parts."""
UNIT = 2**24
"""Confidence is summed in these parts, whole numbers: exact, in any order, on any device."""


@dataclass(frozen=True)
class Reliability:
    """Pixels by the confidence of their prediction; a confidence of exactly 1 has the last bin to itself.

    That bin is torchmetrics' doing, and kept so that both give one ECE.

    Attributes:
        confidence: Mean confidence in each bin (16,), 0 in an empty one.
        accuracy: Share of right predictions in each bin (16,), 0 in an empty one.
        share: Each bin's part of all pixels (16,), summing to 1.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    share: tuple[float, ...]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean of |accuracy - confidence| over all pixels."""
        rows = zip(self.confidence, self.accuracy, self.share, strict=True)
        return sum(part * abs(right - sure) for sure, right, part in rows)


class Tally:
    """The counts of one look over any number of batches; nothing leaves the device until they are read.

    torchmetrics asks the device for the valid pixels in every batch, and its calibration error keeps every
    pixel's confidence; the tests hold both to the same values. Multilabel answers count as one question of yes or no
    a class and pixel.

    Args:
        classes: Number of classes, >= 2, or >= 1 for ``multilabel``.
        ignore_index: Label that is not counted.
        device: Where to count.
        task: ``segmentation``, ``multilabel`` or ``classification``.
        each: Called with what every batch says, for what counts beside.

    >>> tally = Tally(2, None, torch.device("cpu"))
    >>> tally.add(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
    >>> tally.table().tolist()  # rows: target; columns: prediction
    [[1, 0], [1, 0]]
    """

    def __init__(
        self,
        classes: int,
        ignore_index: int | None,
        device: torch.device,
        task: str = SEGMENTATION,
        each: Callable[[Cells], object] | None = None,
    ) -> None:
        self.classes, self.ignore_index, self.task, self.each = classes, ignore_index, task, each
        self.confusion = torch.zeros(math.prod(shape_of(classes, task)), dtype=torch.long, device=device)
        self.bins = torch.zeros(3, BINS + 1, dtype=torch.long, device=device)  # pixels, right ones, confidence
        self.ranks = torch.zeros(2 * RANKS, dtype=torch.long, device=device)  # wrong pixels, then right ones
        self.images = torch.zeros(2, dtype=torch.long, device=device)  # solved, and all that count
        self.strays = torch.zeros((), dtype=torch.long, device=device)
        self.edges = torch.linspace(0, 1, BINS + 1, device=device)
        self.sums: list[Tensor] = []

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Count one batch.

        Args:
            logits: (B, classes, ...); one channel stands for two classes, as smp's binary models give it.
            target: Labels (B, ...), or (B, classes, ...) of 0 and 1 for ``multilabel``; of any type of whole numbers.

        Raises:
            InvalidInput: If the shapes do not fit.
        """
        logits = logits.float()
        cells = cells_of(logits, target, self.classes, self.ignore_index, self.task)
        self.strays += cells.strays
        self.images += cells.images()
        count(self.confusion, cells.cell, cells.scored)
        confidence, entropy, surprise = _doubts(logits, cells.label, self.task)
        self._calibrate(confidence, cells.right, cells.scored)
        self._rank(entropy, cells.right, cells.scored)
        parts = self._parts(surprise, entropy, cells.right, cells.scored)
        self.sums.append(torch.stack([part.sum() for part in parts]))
        if self.each is not None:
            self.each(cells)

    def table(self) -> Tensor:
        """Confusion matrix (classes, classes): rows are targets, columns predictions; on the CPU.

        For ``multilabel`` one of 2 x 2 for each class: (classes, 2, 2).

        Raises:
            InvalidInput: If labels were met that are neither a class nor ignored, or nothing was scored.
        """
        check_strays(self.strays, labels_in(self.classes, self.task), self.ignore_index)
        table = self.confusion.view(shape_of(self.classes, self.task)).cpu()
        if not int(table.sum()):
            raise InvalidInput(f"target: every label is ignored (ignore_index={self.ignore_index}).")
        return table

    def solved(self) -> float:
        """The share of images in which all that is scored is right; NaN without any."""
        solved, images = self.images.tolist()
        return solved / images if images else math.nan

    def reliability(self) -> Reliability:
        """Confidence against accuracy."""
        count, right, confidence = self.bins.cpu().double()
        filled = count.clamp_min(1)
        rows = confidence / UNIT / filled, right / filled, count / count.sum()
        return Reliability(*(tuple(row.tolist()) for row in rows))

    def means(self) -> tuple[float, float | None, float | None]:
        """Negative log-likelihood in nats, and uncertainty of right and of wrong pixels (None where there are none)."""
        surprise, of_right, of_wrong = torch.stack(self.sums).cpu().double().sum(0).tolist()
        table = self.table()
        count, right = int(table.sum()), int(table.diagonal(dim1=-2, dim2=-1).sum())
        wrong = count - right
        return surprise / count, of_right / right if right else None, of_wrong / wrong if wrong else None

    def auroc(self) -> float | None:
        """The chance that a wrong pixel is less certain than a right one, ties counted half; None without either.

        0.5 says nothing about errors, 1 finds them all. Ranked in `RANKS` steps of the entropy's fourth root,
        which are finest where models are surest.
        """
        wrong, right = self.ranks.view(2, RANKS).cpu().double()
        if not wrong.any() or not right.any():
            return None
        below = right.cumsum(0) - right / 2
        return float((wrong * below).sum() / (wrong.sum() * right.sum()))

    def _calibrate(self, confidence: Tensor, right: Tensor, scored: Tensor) -> None:
        bins = torch.bucketize(confidence, self.edges, right=True) - 1
        for row, weight in zip(self.bins, (scored, scored & right, scored * (confidence * UNIT).round()), strict=True):
            count(row, bins, weight)

    def _rank(self, entropy: Tensor, right: Tensor, scored: Tensor) -> None:
        part = (entropy / math.log(labels_in(self.classes, self.task))).clamp(0, 1) ** 0.25
        rank = (part * (RANKS - 1)).round().long()
        count(self.ranks, rank + RANKS * right, scored)

    @staticmethod
    def _parts(surprise: Tensor, entropy: Tensor, right: Tensor, scored: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        nothing = torch.zeros_like(entropy)
        return (
            torch.where(scored, surprise, nothing),
            torch.where(scored & right, entropy, nothing),
            torch.where(scored & ~right, entropy, nothing),
        )


def _doubts(logits: Tensor, label: Tensor, task: str) -> tuple[Tensor, Tensor, Tensor]:
    """Confidence, entropy in nats, and ``-log p`` of what is right, of every question that *label* answers."""
    if task == MULTILABEL:
        chances = torch.nan_to_num(torch.stack([(-logits).sigmoid(), logits.sigmoid()], 1))
        surprise = F.binary_cross_entropy_with_logits(logits, label.to(logits), reduction="none")
    else:
        logits = per_class(logits)
        chances, surprise = torch.nan_to_num(logits.softmax(1)), F.cross_entropy(logits, label, reduction="none")
    return chances.amax(1), torch.special.entr(chances).sum(1), surprise


def cells_in_parts(
    answer: Tensor, target: Tensor, classes: int, ignore_index: int | None, task: str = SEGMENTATION
) -> Iterator[Cells]:
    """The same as :func:`cells_of`, of a few million questions at a time: some rows of all images.

    What is made of a large map to count it is several times as large as its logits.
    """
    if target.ndim < 3 or answer.shape[-2:] != target.shape[-2:]:
        yield cells_of(answer, target, classes, ignore_index, task)
        return
    height = target.shape[-2]
    rows = max(1, QUESTIONS * height // max(1, target.numel()))
    for top in range(0, height, rows):
        said, so = (part[..., top : top + rows, :] for part in (answer, target))
        yield cells_of(said, so, classes, ignore_index, task)
