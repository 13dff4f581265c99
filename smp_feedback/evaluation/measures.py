"""What is measured of each image, where it is asked for, as counts do not tell it: distances and connectivity."""

from __future__ import annotations

from torch import Tensor

from smp_feedback.errors import InvalidValue, require
from smp_feedback.evaluation.cells import Cells
from smp_feedback.evaluation.distances import distances_of
from smp_feedback.evaluation.named_metrics import DISTANCES
from smp_feedback.evaluation.topology import Topology
from smp_feedback.ops.reading import CLASSIFICATION

LIBRARIES = {"distances": ("monai", "scipy"), "topology": ("skimage", "scipy")}
"""What measures, by the extra that brings it."""


def check_measurable(task: str, *, distances: bool = False, topology: bool = False) -> None:
    """What is asked for can be measured.

    Raises:
        InvalidValue: If *task* has no outlines, and nothing that could be connected.
        MissingExtra: If what measures is not there.

    >>> check_measurable("classification", topology=True)
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: topology=True: labels have nothing that is connected; expected maps of labels.
    """
    missing = {"distances": "no outlines", "topology": "nothing that is connected"}
    for extra in _asked(distances, topology):
        if task == CLASSIFICATION:
            raise InvalidValue(f"{extra}=True: labels have {missing[extra]}; expected maps of labels.")
        for library in LIBRARIES[extra]:
            require(library, extra=extra)


class Measure:
    """Measures the answers of one batch after another, those of several looks and models, too.

    Args:
        classes: Number of classes.
        ignore_index: A class that is not measured, or any other label.
        task: ``segmentation`` or ``multilabel``.
        distances: Whether to measure distances.
        topology: Whether to measure connectivity.
    """

    def __init__(
        self, classes: int, ignore_index: int | None, task: str, *, distances: bool = False, topology: bool = False
    ) -> None:
        self.about = classes, ignore_index, task
        self.distances, self.topology = distances, Topology(*self.about) if topology else None

    def __call__(self, cells: Cells) -> dict[str, Tensor]:
        """By the name of a metric, the value of each class in each image (B, classes), NaN where it has none."""
        found: dict[str, Tensor] = {}
        if self.distances:
            values = distances_of(cells, *self.about)
            found |= {name: values[..., k] for k, name in enumerate(DISTANCES)}
        return found if self.topology is None else {**found, **self.topology.of(cells)}


def measure_of(
    classes: int, ignore_index: int | None, task: str, *, distances: bool = False, topology: bool = False
) -> Measure | None:
    """A `Measure`; None where nothing is to be measured.

    >>> measure_of(3, None, "segmentation") is None
    True
    """
    if not distances and not topology:
        return None
    return Measure(classes, ignore_index, task, distances=distances, topology=topology)


def _asked(distances: bool, topology: bool) -> list[str]:
    return [name for name, asked in (("distances", distances), ("topology", topology)) if asked]
