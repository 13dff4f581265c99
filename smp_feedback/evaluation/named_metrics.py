"""The metrics by name, ours and those that plugins bring: what each makes of counts, and which way is better."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue, PluginWarning, one_line
from smp_feedback.evaluation.connectivity_names import CONNECTIVITY
from smp_feedback.evaluation.connectivity_names import MAX as MAX
from smp_feedback.evaluation.connectivity_names import MIN as MIN
from smp_feedback.hookspecs import Register, hookimpl
from smp_feedback.ops.reading import MULTILABEL, SEGMENTATION, TASKS
from smp_feedback.registry.public import catalogue

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
        best: ``max`` or ``min``: what is better; ``neither`` of what is told of the answer or the truth alone.
        shares: Parts of a class and their wholes, each (..., classes); None where pixels alone do not tell.
        tasks: Those that it is for.
        overall: Taken over all pixels alike; else it is the mean of the classes.
        distance: Whether it is a distance in pixels, which MONAI measures (extra ``distances``).
        topology: Whether it is one of connectivity, of which scikit-image counts the parts (extra ``topology``).
        of_all: Of all classes together (...,), where that is neither.
    """

    name: str
    of_class: str | None
    title: str
    best: str = MAX
    shares: Callable[[Counts], tuple[Tensor, Tensor]] | None = None
    tasks: tuple[str, ...] = TASKS
    overall: bool = False
    distance: bool = False
    topology: bool = False
    of_all: Callable[[Counts], Tensor] | None = None

    @property
    def measured(self) -> bool:
        """Whether it is measured image by image, where it is asked for, as counts do not tell it."""
        return self.distance or self.topology


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
        *(
            NamedMetric(name, name, one.title, one.best, tasks=MAPS, topology=True)
            for name, one in CONNECTIVITY.items()
        ),
    )
}
"""Mean intersection over union; Dice, which is F1; precision; recall, of a class its accuracy; accuracy over all
pixels; images without an error; 95th percentile of the Hausdorff distance, and average surface distance, in pixels;
centre-line Dice, errors of the Betti numbers 0 and 1, breaks for 1000 pixels of the truth's centre line, and the Betti
numbers themselves: connected components and loops of the answer and of the truth."""
OTHER_WORDS = {
    "dice": ("f1",),
    "miou": ("iou", "jaccard"),
    "accuracy": ("acc",),
    "recall": ("sensitivity",),
    "hd95": ("hausdorff",),
    "cldice": ("centerline_dice",),
}
"""What others call them."""
DISTANCES = tuple(name for name, metric in METRICS.items() if metric.distance)
TOPOLOGY = tuple(CONNECTIVITY)
MEASURED = (*DISTANCES, *TOPOLOGY)
"""Those that are taken image by image, and are a mean over images."""


@hookimpl
def register_metrics(register: Register) -> None:
    """Ours, and what others call them."""
    for name in METRICS:
        register(name, METRICS[name], aliases=OTHER_WORDS.get(name, ()))


def every_metric() -> dict[str, NamedMetric]:
    """All by name: ours, then what plugins and scripts registered, each under the name that it was registered by.

    Warns:
        PluginWarning: Of one that cannot be had, and is left out.
    """
    found = dict(METRICS)
    for entry in catalogue().metrics.entries():
        try:
            found.setdefault(entry.name, metric_called(entry.name))
        except FeedbackError as error:
            warnings.warn(f"metric {entry.name!r} of {entry.origin} is left out: {error}", PluginWarning, stacklevel=3)
    return found


def metric_called(name: str) -> NamedMetric:
    """The metric called *name*, of whoever brought it.

    Raises:
        UnknownName: If there is none.
        InvalidType, InvalidValue: If what was registered is none.

    >>> metric_called("F1").name
    'dice'
    """
    if name in METRICS:
        return METRICS[name]
    metric, entry = catalogue().metrics[name], catalogue().metrics.entry(name)
    if entry.is_ours:
        return METRICS[entry.name]
    who = f"metric {entry.name!r} of {entry.origin}"
    if not isinstance(metric, NamedMetric):
        raise InvalidType(f"{who} is {metric!r:.60}: expected a smp_feedback.evaluation.metrics.NamedMetric.")
    if metric.shares is None and metric.of_all is None:
        raise InvalidValue(f"{who} has neither shares= nor of_all=: expected a function of Counts.")
    if metric.best not in (MAX, MIN) or not {*metric.tasks} <= {*TASKS} or metric.measured:
        raise InvalidValue(
            f"{who}: expected best='max' or 'min', tasks among {', '.join(TASKS)}, and neither distance=True nor "
            "topology=True."
        )
    if "/" in entry.name or entry.name == "loss":
        raise InvalidValue(f"{who}: val_{entry.name} is another score; give it another name, without a slash.")
    return replace(metric, name=entry.name, of_class=None if metric.shares is None else entry.name)


def metrics_for(task: str, *, measured: Collection[str] = ()) -> list[NamedMetric]:
    """Those of *task* that counts tell, and of the others those that were *measured*.

    >>> [metric.name for metric in metrics_for("classification") if metric.name in METRICS]
    ['dice', 'precision', 'recall', 'accuracy', 'solved']
    """
    return [one for one in every_metric().values() if task in one.tasks and (one.name in measured or not one.measured)]


def parts_of(metric: NamedMetric, counts: Counts) -> tuple[Tensor, Tensor]:
    """Of each class the part and the whole (..., classes) that *metric* is the share of.

    One of a plugin that fails is NaN, whatever else is scored beside it.

    Warns:
        PluginWarning: With its name, and why it has no value.
    """
    assert metric.shares is not None
    if metric.name in METRICS:
        return metric.shares(counts)
    try:
        return tried_parts(metric, counts)
    except Exception as error:  # nobody need have asked for it
        _say_valueless(metric, error)
        nothing = torch.full_like(counts.hit, math.nan)
        return nothing, nothing


def all_of(metric: NamedMetric, counts: Counts) -> Tensor:
    """What *metric* makes of all classes together (...,); as `parts_of`."""
    try:
        return tried_of_all(metric, counts)
    except Exception as error:
        _say_valueless(metric, error)
        return torch.full_like(counts.hit[..., 0], math.nan)


def tried_parts(metric: NamedMetric, counts: Counts) -> tuple[Tensor, Tensor]:
    """As `parts_of`; raises what it raises, and if it gives something else than two tensors of the counts' shape."""
    assert metric.shares is not None
    found = metric.shares(counts)
    if not isinstance(found, tuple) or len(found) != 2 or not all(isinstance(one, Tensor) for one in found):
        raise InvalidType(f"shares gives {_kind(found)}: expected two tensors, a part and a whole of each class.")
    for one in found:
        if one.shape != counts.hit.shape:
            shapes = f"{tuple(one.shape)}, of {tuple(counts.hit.shape)}"
            raise InvalidValue(f"shares gives the shape {shapes}: expected a value for each class.")
    return found


def tried_of_all(metric: NamedMetric, counts: Counts) -> Tensor:
    """As `all_of`; raises what it raises, and if it gives something else than one number for all classes."""
    assert metric.of_all is not None
    found = metric.of_all(counts)
    if not isinstance(found, Tensor):
        raise InvalidType(f"of_all gives {_kind(found)}: expected a tensor.")
    if found.shape != counts.hit.shape[:-1]:
        shapes = f"{tuple(found.shape)}, of {tuple(counts.hit.shape)}"
        raise InvalidValue(f"of_all gives the shape {shapes}: expected one value for all classes, the last axis gone.")
    return found.double()


def _kind(found: Any) -> str:
    return f"{len(found)} parts" if isinstance(found, tuple) else f"a {type(found).__name__}"


def _say_valueless(metric: NamedMetric, error: Exception) -> None:
    who = f"metric {metric.name!r} of {catalogue().metrics.origin(metric.name)}"
    warnings.warn(f"{who} has no value: {one_line(error)}", PluginWarning, stacklevel=5)
