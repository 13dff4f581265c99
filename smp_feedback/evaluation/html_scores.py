"""Scores as a small table in a notebook: a row a look, an answer or an image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from smp_feedback.loops.html_tables import table_html


class _Scored(Protocol):
    """What of a look's score is shown; see :class:`smp_feedback.evaluation.LookScore`."""

    @property
    def score(self) -> float: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def solved(self) -> float: ...
    @property
    def ece(self) -> float: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...


def scores_html(
    scores: Iterable[tuple[object, _Scored]],
    first: str,
    title: str = "",
    more: Sequence[tuple[str, Sequence[float]]] = (),
) -> str:
    """A row for each of *scores*, in per cent.

    Args:
        scores: What each is of, such as its number of looks, and what it is.
        first: The name of that column.
        title: Above the table.
        more: Further columns, name and values.
    """
    scores = list(scores)
    measure = "mIoU" if scores and "miou" in scores[0][1].metrics else "score"
    head = [first, f"{measure} (%)", "accuracy (%)", "solved (%)", "calibration error (%)", *(name for name, _ in more)]
    rows = [
        [name, *map(per_cent, (one.score, one.accuracy, one.solved, one.ece)), *(values[i] for _, values in more)]
        for i, (name, one) in enumerate(scores)
    ]
    return table_html(rows, head, title)


def per_cent(share: float | None) -> float | None:
    """*share* in per cent, to a tenth; None of nothing.

    >>> per_cent(0.12345), per_cent(None)
    (12.3, None)
    """
    return None if share is None or math.isnan(share) else round(100 * share, 1)
