"""Settings that follow from the data, with the reason for each."""

from __future__ import annotations

from statistics import median
from typing import Any, NamedTuple

from smp_feedback.data.files import by
from smp_feedback.data.inspection.problems import TRAIN, percent
from smp_feedback.data.inspection.report import DataReport, Size, SplitReport
from smp_feedback.data.inspection.summary import size_range

DIVISOR = 32  # most encoders halve an image five times
UNEVEN = 10  # how many times as frequent as the rarest the most frequent class is, from where weights help


class Suggestion(NamedTuple):
    """One setting.

    Attributes:
        key: Its name in the data's group.
        value: What to set.
        why: One line.
    """

    key: str
    value: Any
    why: str


def suggestions(report: DataReport, *, size: Any, batch_size: int, crop: int | None) -> list[Suggestion]:
    """What to set so that training can begin.

    Args:
        report: What was found.
        size: As it is set.
        batch_size: As it is set.
        crop: As it is set.

    >>> split = SplitReport(items=3, looked=3, sizes={(50, 70): 3})
    >>> found = suggestions(DataReport(splits={"train": split}), size=None, batch_size=8, crop=None)
    >>> [(one.key, one.value) for one in found]
    [('size', [64, 64]), ('batch_size', 3)]
    """
    found = []
    if size is None and (one := _size(report, crop)):
        found.append(one)
    train = report.splits.get(TRAIN)
    if train is not None and train.items < batch_size:
        found.append(Suggestion("batch_size", train.items, f"all {train.items} training images"))
    return found


def _size(report: DataReport, crop: int | None) -> Suggestion | None:
    """One size for all images, if they have several, or one that most models do not take."""
    sizes: dict[Size, int] = {}
    for split in report.splits.values():
        for one, times in split.sizes.items():
            sizes[one] = sizes.get(one, 0) + times
    fits = all(side % DIVISOR == 0 for one in sizes for side in one)
    if not sizes or (fits and (len(sizes) == 1 or crop is not None)):
        return None
    middle = [median(one[axis] for one, times in sizes.items() for _ in range(times)) for axis in (0, 1)]
    value = [max(DIVISOR, round(side / DIVISOR) * DIVISOR) for side in middle]
    median_size = f", in the middle {by([round(side) for side in middle])}" if len(sizes) > 1 else ""
    why = f"images are {size_range(sizes)}{median_size}; models take multiples of {DIVISOR}"
    return Suggestion("size", value, why)


def class_weights(split: SplitReport) -> tuple[str, list[float]] | None:
    """Weights of the classes that make up for how often they are, and why; None where they are about even.

    As in median frequency balancing (Eigen & Fergus 2015), over the whole split: the median share over each class's
    own, at most 50, and 1 for a class that never occurs.

    >>> from smp_feedback.data.inspection.report import ClassFacts
    >>> rows = [ClassFacts(name=n, pixels=1, images=1, share=s, image_share=1.0) for n, s in (("a", 0.95), ("b", 0.05))]
    >>> class_weights(SplitReport(items=1, looked=1, classes=tuple(rows)))
    ('from 5.0 % (b) to 95.0 % (a) of the pixels', [0.526, 10.0])
    """
    met = sorted((row for row in split.classes if row.share), key=lambda row: row.share)
    if split.task == "multilabel" or len(met) < 2 or met[-1].share < UNEVEN * met[0].share:
        return None
    middle = median(row.share for row in met)
    weights = [min(50.0, float(f"{middle / row.share:.3g}")) if row.share else 1.0 for row in split.classes]
    unit = "labels" if split.task == "classification" else "pixels"
    ends = f"from {percent(met[0].share)} ({met[0].name}) to {percent(met[-1].share)} ({met[-1].name})"
    return f"{ends} of the {unit}", weights
