"""What connectivity is called, and which way is better. Imports no torch: a report needs none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

MAX, MIN, NEITHER = "max", "min", "neither"
PER_LENGTH = 1000
"""Pixels of the truth's centre line for which breaks are told."""


class ConnectivityName(NamedTuple):
    """How one is shown.

    Attributes:
        title: In tables.
        best: ``max`` or ``min``; ``neither`` of what is told of the answer or the truth alone.
    """

    title: str
    best: str


CONNECTIVITY = {
    "cldice": ConnectivityName("clDice", MAX),
    "betti0_error": ConnectivityName("Betti 0 error", MIN),
    "betti1_error": ConnectivityName("Betti 1 error", MIN),
    "breaks": ConnectivityName("breaks", MIN),
    "components": ConnectivityName("components", NEITHER),
    "loops": ConnectivityName("loops", NEITHER),
    "true_components": ConnectivityName("of the truth", NEITHER),
    "true_loops": ConnectivityName("of the truth", NEITHER),
}
JUDGED = tuple(name for name, one in CONNECTIVITY.items() if one.best != NEITHER)


def connectivity_in(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of *metrics* that are of connectivity.

    >>> connectivity_in({"miou": 0.5, "cldice": 0.75})
    {'cldice': 0.75}
    """
    return {name: metrics[name] for name in CONNECTIVITY if name in metrics}
