"""What one model is worth, look by look, read from its counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch  # noqa: F401  (doctests)
from torch import Tensor

from smp_feedback.config.stopping import UntilSettled
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.by_image import Images, means_of
from smp_feedback.evaluation.confusion import Reliability, Tally
from smp_feedback.evaluation.html_scores import scores_html
from smp_feedback.evaluation.metrics import metrics_of
from smp_feedback.evaluation.named_metrics import metric_called
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL


@dataclass(frozen=True)
class LookScore:
    """What one model is worth after some number of looks. Pixels are images where images are classified.

    In ``multilabel`` an answer is one of yes or no, and there is one for each pixel and class.

    Attributes:
        looks: How often it had looked; at most, where images stop by themselves.
        score: Mean intersection over union, or, in classification, accuracy; in [0, 1].
        per_class: Intersection over union, or recall, of each class; None for one that is in neither
            prediction nor target (recall: not in the target), and does not count.
        accuracy: Share of pixels that are right.
        solved: Share of images in which every pixel that is scored is right, of those that have one; in ``multilabel``
            every pixel of every class.
        ece: Expected calibration error, 15 bins, mean of |accuracy - confidence|.
        nll: Negative log-likelihood in nats per pixel.
        uncertainty_right: Mean entropy of the prediction on right pixels, in nats; None without any.
        uncertainty_wrong: The same on wrong pixels.
        auroc: How well uncertainty tells wrong pixels from right ones, see :meth:`Tally.auroc`.
        reliability: Confidence against accuracy.
        mean_looks: How often it had looked at an image on average.
        settled: Equal answers in succession after which an image stopped; None where none was asked to.
        metrics: Every metric of `METRICS` that was taken, by name: ``miou``, ``dice``, ``precision``, ``recall``,
            ``accuracy``, ``solved``, ``hd95`` and ``asd`` in pixels, ``cldice`` and the others of connectivity.
        class_metrics: The same of each class; None of one that does not count.
        confusion: Confusion matrix, rows targets, columns predictions; of ``multilabel`` one of no and yes a class.
        intervals: 95 % bootstrap intervals of *metrics* over images, where they were asked for.
        images: What was counted in each image, where that was asked for.
    """

    looks: int
    score: float
    per_class: tuple[float | None, ...]
    accuracy: float
    solved: float
    ece: float
    nll: float
    uncertainty_right: float | None
    uncertainty_wrong: float | None
    auroc: float | None
    reliability: Reliability
    mean_looks: float | None = None
    settled: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict, repr=False)
    class_metrics: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict, repr=False)
    confusion: Any = field(default=(), repr=False)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict, repr=False)
    images: Images | None = field(default=None, repr=False)

    def _repr_html_(self) -> str:
        return LookScores([self])._repr_html_()

    def row(self) -> dict[str, Any]:
        """As results keep it, a row of a table: all but what is of every class or image."""
        return {name: value for name, value in asdict(replace(self, images=None)).items() if name not in WHOLE}


WHOLE = ("metrics", "class_metrics", "confusion", "intervals", "images")
"""What of a `LookScore` is no part of a table's row."""


class LookScores(tuple[LookScore, ...]):
    """A model's scores, fewest looks first."""

    @property
    def last(self) -> LookScore:
        """The score after the most looks."""
        return self[-1]

    def at(self, looks: int | UntilSettled) -> LookScore:
        """The score after *looks* looks, or of that rule.

        Raises:
            InvalidValue: If that was not scored.
        """
        for score in self:
            if (score.looks, score.settled) == _numbers(looks):
                return score
        scored = [_asked(score) for score in self]
        raise InvalidValue(f"looks={looks}: scored were {', '.join(map(str, scored))}.")

    def _repr_html_(self) -> str:
        return scores_html([(_asked(score), score) for score in self], "looks")


def _asked(score: LookScore) -> int | UntilSettled:
    """The number of looks, or the rule, that was scored."""
    return score.looks if score.settled is None else UntilSettled(score.settled, score.looks)


def _numbers(looks: int | UntilSettled) -> tuple[int, int | None]:
    """The most looks, and equal answers in succession."""
    return (looks.at_most, looks.looks) if isinstance(looks, UntilSettled) else (looks, None)


def score_of(
    tally: Tally,
    looks: int | UntilSettled,
    task: str,
    mean_looks: float | None = None,
    images: Images | None = None,
    draws: int = 0,
) -> LookScore:
    """What the counts say; *mean_looks* is the mean over images, which are drawn *draws* times for intervals."""
    most, settled = _numbers(looks)
    table, reliability = tally.table(), tally.reliability()
    score, per_class = shares(table, task, tally.ignore_index)
    nll, of_right, of_wrong = tally.means()
    measured = None if images is None else means_of(images.measured)
    whole, each = metrics_of(table, tally.solved(), task, tally.ignore_index, measured)
    drawn = {} if images is None or not draws else images.intervals([metric_called(name) for name in whole], draws)
    return LookScore(
        looks=most,
        score=score,
        per_class=per_class,
        accuracy=float(table.diagonal(dim1=-2, dim2=-1).sum() / table.sum()),
        solved=tally.solved(),
        ece=reliability.error,
        nll=nll,
        uncertainty_right=of_right,
        uncertainty_wrong=of_wrong,
        auroc=tally.auroc(),
        reliability=reliability,
        mean_looks=mean_looks,
        settled=settled,
        metrics=whole,
        class_metrics=each,
        confusion=_nested(table.tolist()),
        intervals=drawn,
        images=images,
    )


def _nested(rows: Any) -> Any:
    return tuple(map(_nested, rows)) if isinstance(rows, list) else rows


def shares(table: Tensor, task: str, ignore_index: int | None) -> tuple[float, tuple[float | None, ...]]:
    """Mean intersection over union and that of each class; in classification, accuracy and each class's recall.

    Args:
        table: Confusion matrix (classes, classes): rows are targets, columns predictions; on the CPU. For
            ``multilabel`` one of no and yes for each class, (classes, 2, 2), of which the yes counts.
        task: ``segmentation``, ``multilabel`` or ``classification``.
        ignore_index: A class that does not count, or any other label.

    Returns:
        In [0, 1]; NaN for an empty table, None for a class that is in neither prediction nor target (recall: not in
        the target).

    >>> shares(torch.tensor([[1, 0], [1, 0]]), "segmentation", None)
    (0.25, (0.5, 0.0))
    >>> shares(torch.tensor([[[5, 1], [0, 1]], [[7, 0], [0, 0]]]), "multilabel", None)  # nobody said, or is, the second
    (0.5, (0.5, None))
    """
    table = table.double()
    recall = task == CLASSIFICATION
    if task == MULTILABEL:
        hit, target, predicted = table[:, 1, 1], table[:, 1].sum(1), table[:, :, 1].sum(1)
        ignore_index = None  # a label, 0 or 1, not a class
    else:
        hit, target, predicted = table.diagonal(), table.sum(1), table.sum(0)
    whole = target if recall else target + predicted - hit
    counts = [bool(n) and k != ignore_index for k, n in enumerate(whole)]
    per_class = tuple(float(h / n) if c else None for h, n, c in zip(hit, whole, counts, strict=True))
    present = [value for value in per_class if value is not None]
    if not present:
        return math.nan, per_class
    return float(hit.sum() / table.sum()) if recall else sum(present) / len(present), per_class
