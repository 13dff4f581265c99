"""Images that two splits have in common, as problems: what is scored was learnt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from smp_feedback.data.folders.duplicates import Twins, check_shared, image_paths, links
from smp_feedback.data.inspection.report import ERROR, WARNING, Problem


def shared_images(datasets: Mapping[str, Any], shared: str = "warn") -> list[Problem]:
    """One problem for each pair of splits that share images, and each way they do.

    Args:
        datasets: By the names of their splits.
        shared: As fit is told: ``warn`` takes one file in two splits for an error and equal files for a warning,
            ``refuse`` both for errors, ``allow`` neither for a problem.
    """
    if shared == "allow" or len(datasets) < 2:
        return []
    files = {(two.split, two.path) for two in links({name: image_paths(one) for name, one in datasets.items()})}
    pairs: defaultdict[tuple[str, str, bool], list[Twins]] = defaultdict(list)
    for two in check_shared(datasets, "allow"):
        pairs[two.split, two.other, (two.split, two.path) in files].append(two)
    return [_problem(found, len(datasets[split]), same, shared) for (split, _, same), found in pairs.items()]


def _problem(found: list[Twins], images: int, same: bool, shared: str) -> Problem:
    first = found[0]
    how = "the same files" if same else "byte for byte"
    words = (
        f"{len(found)} of {images} images are in {first.other}, too, {how}, such as {first.path} = {first.twin}: "
        "scores will be too good; data.shared=allow if that is meant."
    )
    severity = ERROR if same or shared == "refuse" else WARNING
    return Problem(severity=severity, split=first.split, item=str(first.path), words=words)
