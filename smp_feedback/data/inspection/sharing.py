"""Images that two splits have in common, as problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smp_feedback.data.folders.duplicates import Twins
from smp_feedback.data.folders.sharing import ALLOW, REFUSE, WARN, pairs, sentence
from smp_feedback.data.inspection.report import ERROR, WARNING, Problem

TEST = "test"


def shared_images(datasets: Mapping[str, Any], shared: str = WARN) -> list[Problem]:
    """One problem for each two splits that have images in common, and each way they do.

    Args:
        datasets: By the names of their splits.
        shared: As fit is told: ``warn`` takes one file in two splits for an error (one of ``test`` for a warning, as
            fit does not open it) and equal files for a warning, ``refuse`` both for errors, ``allow`` neither for a
            problem.
    """
    if shared == ALLOW:
        return []
    return [_problem(found, len(datasets[found[0].split]), shared) for found in pairs(datasets)]


def _problem(found: Sequence[Twins], images: int, shared: str) -> Problem:
    first = found[0]
    wrong = "scores will be too good" if first.what == "images" else "a mask belongs to one image"
    words = (
        f"{sentence(found, images)}, such as {first.path} = {first.twin}: {wrong}; leave them out of one, or set "
        "data.shared: allow if that is meant."
    )
    stops_fit = shared == REFUSE or (first.same and TEST not in (first.split, first.other))
    severity = ERROR if stops_fit else WARNING
    return Problem(severity=severity, split=first.split, item=str(first.path), words=words)
