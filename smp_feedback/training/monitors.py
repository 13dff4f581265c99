"""What a run may watch, by name: every metric of its validation images, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from smp_feedback.errors import UnknownName, did_you_mean
from smp_feedback.evaluation.connectivity_names import MAX, MIN, NEITHER
from smp_feedback.evaluation.metrics import Metrics
from smp_feedback.evaluation.named_metrics import MEASURED, METRICS, SOLVED, TOPOLOGY, metric_called, metrics_for
from smp_feedback.evaluation.trial import try_out
from smp_feedback.models.normalisation import given_config
from smp_feedback.registry.public import catalogue

VAL, LOSS = "val_", "loss"


class Monitor(NamedTuple):
    """What is watched.

    Attributes:
        name: As it is logged, such as ``val_dice/sky``.
        mode: ``max`` or ``min``: what is better.
    """

    name: str
    mode: str = MAX

    @property
    def distances(self) -> bool:
        """Whether distances must be measured for it."""
        metric = _metric(self.name)
        return metric in METRICS and METRICS[metric].distance

    @property
    def topology(self) -> bool:
        """Whether connectivity must be measured for it."""
        metric = _metric(self.name)
        return metric in METRICS and METRICS[metric].topology

    @property
    def of_look(self) -> bool:
        """Whether it is of one look."""
        return "/look_" in self.name


def monitor_of(name: str, task: str, classes: Sequence[str], looks: int, *, films: bool = False) -> Monitor:
    """The monitor called *name*.

    Args:
        name: With or without ``val_``: ``val_loss``, ``val_`` and a metric of `METRICS`, of one class with its name
            behind a slash, or the task's score, or connectivity, after a look, ``val_miou/look_1``.
        task: Of the data.
        classes: Their names.
        looks: T, how often a model looks.
        films: Whether films are scored, which have one look a frame, no distances and no connectivity.

    Raises:
        UnknownName: If there is none, with the names nearest to it.
        InvalidValue: If it is a plugin's, and fails when it is tried.

    >>> monitor_of("dice/sky", "segmentation", ["sky", "car"], 1), monitor_of("val_loss", "segmentation", ["sky"], 1)
    (Monitor(name='val_dice/sky', mode='max'), Monitor(name='val_loss', mode='min'))
    """
    known = {VAL + LOSS: MIN}
    judged = [one for one in metrics_for(task, measured=() if films else MEASURED) if one.best != NEITHER]
    for metric in judged:
        known[VAL + metric.name] = metric.best
        if metric.of_class is not None:
            known |= {f"{VAL}{metric.of_class}/{one}": metric.best for one in classes}
    score = "accuracy" if task == "classification" else "miou"
    for metric in judged if looks > 1 and not films else ():
        if metric.name in (score, SOLVED, *TOPOLOGY):
            known |= {f"{VAL}{metric.name}/look_{t + 1}": metric.best for t in range(looks)}
    asked = name if name.startswith(VAL) else VAL + name
    if asked in known:
        if (watched := _metric(asked)) in catalogue().metrics and watched not in METRICS:
            try_out(metric_called(watched), task)
        return Monitor(asked, known[asked])
    word, _, of_class = asked.removeprefix(VAL).partition("/")
    other = catalogue().metrics.entry(word).name if word in catalogue().metrics else ""
    meant = VAL + other + (f"/{of_class}" if of_class else "")
    why = f"Did you mean {meant!r}?" if meant in known else ""
    if not why and not did_you_mean(asked, known):
        whole = ", ".join(name for name in known if "/" not in name)
        why = f"There is: {whole}; of one class val_dice/{classes[0]}, and of one look val_{score}/look_1."
    raise UnknownName("score to monitor", asked, known, why=why)


def direction(name: str) -> str:
    """Which way is better for what is logged as *name*; ``max`` for what nobody here knows.

    >>> direction("val_loss"), direction("val_hd95/sky"), direction("val_iou/sky"), direction("base_miou")
    ('min', 'min', 'max', 'max')
    """
    metric = _metric(name)
    if metric == LOSS:
        return MIN
    return metric_called(metric).best if metric in METRICS or metric in catalogue().metrics else MAX


def class_names(model: nn.Module, classes: int) -> tuple[str, ...]:
    """The names of the classes that *model* was told of; their numbers, where that are others or none.

    >>> class_names(nn.Identity(), 2)
    ('0', '1')
    """
    told = given_config(model).config.classes
    return told if len(told) == classes else tuple(map(str, range(classes)))


def named_metrics(metrics: Metrics, classes: Sequence[str], stage: str) -> dict[str, float]:
    """*metrics* by the names that they are logged by; NaN for a class that does not count.

    >>> named_metrics(({"miou": 0.5}, {"miou": (0.5, None)}), ["sky", "car"], "val")
    {'val_miou': 0.5, 'val_iou/sky': 0.5, 'val_iou/car': nan}
    """
    whole, each = metrics
    named = {f"{stage}_{name}": value for name, value in whole.items()}
    for name, values in each.items():
        for one, value in zip(classes, values, strict=True):
            named[f"{stage}_{metric_called(name).of_class}/{one}"] = math.nan if value is None else value
    return named


def _metric(name: str) -> str:
    """The metric that is logged as *name*, or of which that is one class or look; a plugin's has one name for both."""
    word = name.removeprefix(VAL).partition("/")[0]
    return next((metric.name for metric in METRICS.values() if word == metric.of_class), word)


def title_of(monitor: str) -> str:
    """What *monitor* is called in a line.

    >>> title_of("val_miou"), title_of("val_dice/sky"), title_of("val_cldice"), title_of("val_loss")
    ('mIoU', 'Dice sky', 'clDice', 'val loss')
    """
    word, _, rest = monitor.removeprefix(VAL).partition("/")
    named = {"miou": "mIoU", "iou": "IoU", "dice": "Dice", "hd95": "HD95", "asd": "ASD", LOSS: "val loss"}
    named |= {name: METRICS[name].title for name in TOPOLOGY}
    return " ".join(part for part in (named.get(word, word), rest.replace("_", " ") if rest else "") if part)


def in_words(monitor: str, value: float) -> str:
    """A *value* of *monitor*: shares in per cent, all else as it is.

    >>> in_words("val_dice/sky", 0.6124), in_words("val_hd95", 12.345), in_words("val_miou", -math.inf)
    ('61.2', '12.3', '-')
    """
    if not math.isfinite(value):
        return "-"
    return f"{100 * value:.1f}" if direction(monitor) == MAX else f"{value:.3g}"
