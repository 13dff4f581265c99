"""Scores as tables that any program reads: one row a class, one row an image, and the confusion matrix."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from smp_feedback.evaluation.by_image import Images
from smp_feedback.evaluation.metrics import Metrics
from smp_feedback.evaluation.named_metrics import metric_called, metrics_for
from smp_feedback.ops.reading import MULTILABEL
from smp_feedback.saving.files import replace_file

CLASSES, IMAGES, CONFUSION = "classes.csv", "images.csv", "confusion.csv"


def write_scores(
    folder: Path,
    classes: Sequence[str],
    task: str,
    metrics: Metrics,
    confusion: Sequence[Any],
    images: Images | None = None,
    names: Iterable[str] = (),
) -> list[Path]:
    """Write ``classes.csv``, ``confusion.csv`` and, of *images*, ``images.csv`` to *folder*; each whole or not at all.

    Shares are in [0, 1], distances in pixels, breaks for 1000 pixels of centre line; a cell is empty where a class does
    not count.

    Args:
        folder: Where to.
        classes: Their names.
        task: What was answered.
        metrics: Of the whole and of each class.
        confusion: Rows targets, columns predictions; of ``multilabel`` one of no and yes a class.
        images: What was counted in each.
        names: Theirs, in order.

    Returns:
        The files.
    """
    written = [_write(folder / CLASSES, class_rows(classes, metrics))]
    written.append(_write(folder / CONFUSION, confusion_rows(classes, task, confusion)))
    if images is not None:
        written.append(write_images(folder, classes, images, names))
    return written


def write_images(folder: Path, classes: Sequence[str], images: Images, names: Iterable[str]) -> Path:
    """Write ``images.csv`` of *images* to *folder*, whole or not at all, and say where; see `write_scores`."""
    return _write(folder / IMAGES, image_rows(classes, images, names))


def class_rows(classes: Sequence[str], metrics: Metrics) -> list[list[Any]]:
    """One row a class, and one of all.

    >>> class_rows(["sky", "car"], ({"miou": 0.5, "solved": 0.0}, {"miou": (0.5, None)}))
    [['class', 'iou', 'solved'], ['sky', 0.5, None], ['car', None, None], ['all', 0.5, 0.0]]
    """
    whole, each = metrics
    heads = [metric_called(name).of_class or name for name in whole]
    none: Sequence[float | None] = [None] * len(classes)
    rows = [[one, *(each.get(name, none)[k] for name in whole)] for k, one in enumerate(classes)]
    return [["class", *heads], *rows, ["all", *whole.values()]]


def confusion_rows(classes: Sequence[str], task: str, confusion: Sequence[Any]) -> list[list[Any]]:
    """One row a class of the target, with the pixels that were said to be of each class; of yes and no, one a class.

    >>> confusion_rows(["sky", "car"], "segmentation", [[3, 1], [0, 2]])
    [['target', 'sky', 'car'], ['sky', 3, 1], ['car', 0, 2]]
    """
    if task == MULTILABEL:
        heads = ["class", "true negative", "false positive", "false negative", "true positive"]
        return [heads, *([one, *no, *yes] for one, (no, yes) in zip(classes, confusion, strict=True))]
    return [["target", *classes], *([one, *row] for one, row in zip(classes, confusion, strict=True))]


def image_rows(classes: Sequence[str], images: Images, names: Iterable[str]) -> list[list[Any]]:
    """One row an image: its name, every metric, and every metric of each class, such as ``dice/sky``."""
    metrics = metrics_for(images.task, measured=images.measured)
    heads, columns = ["image"], [list(names)]
    for metric in metrics:
        heads.append(metric.name)
        columns.append(images.of_images(metric).tolist())
    for metric in metrics:
        if metric.of_class is not None:
            heads += [f"{metric.of_class}/{one}" for one in classes]
            columns += images.of_classes(metric).T.tolist()
    return [heads, *map(list, zip(*columns, strict=True))]


def _write(path: Path, rows: list[list[Any]]) -> Path:
    def write(draft: Path) -> None:
        with draft.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_cell(value) for value in row] for row in rows)

    return replace_file(path, write)


def _cell(value: Any) -> Any:
    """A number to six places; nothing for NaN and None."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value
