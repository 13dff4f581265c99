"""No image is in two splits: what is scored would have been learnt; nor is a mask, which belongs to one image."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smp_feedback.checks import check_choice
from smp_feedback.data.files import below
from smp_feedback.data.folders.duplicates import Twins, twins
from smp_feedback.errors import DataWarning, InvalidValue

WARN, REFUSE, ALLOW = SHARED = ("warn", "refuse", "allow")


def check_shared(
    datasets_by_split: Mapping[str, Any], shared: str = WARN, *, unused: Mapping[str, Any] | None = None
) -> None:
    """See that no image is in two splits, nor the file of a mask.

    Args:
        datasets_by_split: Datasets, whatever they are wrapped in; those without files are passed over.
        shared: ``warn`` refuses a file that is in two splits at once, and warns of files of equal content, one line for
            each pair of splits; ``refuse`` refuses both, ``allow`` neither.
        unused: Other splits, which nothing is done with now: of a file that is in one of them, too, ``warn`` warns.

    Raises:
        InvalidValue: See *shared*.
    """
    check_choice("shared", shared, SHARED)
    if shared == ALLOW:
        return
    later = unused or {}
    every = {**later, **datasets_by_split}
    refused: list[str] = []
    warned: list[str] = []
    for found in pairs(every):
        first = found[0]
        severe = shared == REFUSE or (first.same and not {first.split, first.other} & later.keys())
        (refused if severe else warned).append(f"{sentence(found, len(every[first.split]))} ({_both(first)})")
    if refused:
        raise InvalidValue(
            "; ".join(refused) + ": leave them out of one, or say data.shared=allow (shared='allow') if that is meant."
        )
    for line in warned:
        warnings.warn(f"{line}: scores will be too good.", DataWarning, stacklevel=2)


def pairs(datasets_by_split: Mapping[str, Any]) -> list[list[Twins]]:
    """What each two splits have in common, files of one kind together; those that are in both come first."""
    found: defaultdict[tuple[str, str, bool, str], list[Twins]] = defaultdict(list)
    for two in twins(datasets_by_split):
        found[two.split, two.other, two.same, two.what].append(two)
    return [*found.values()]


def sentence(found: Sequence[Twins], images: int) -> str:
    """What one of `pairs` comes to, in a split of so many *images*.

    >>> sentence([Twins("val", Path("v.png"), "train", Path("t.png"))], 9)
    '1 of 9 images of val are in train, too, byte for byte'
    """
    split, _, other, _, same, what = found[0]
    how = "the same files" if same else "byte for byte"
    return f"{len(found)} of {images} {what} of {split} are in {other}, too, {how}"


def _both(two: Twins) -> str:
    """Both names, from where their paths part."""
    if two.path == two.twin:
        return two.path.name
    around = Path(os.path.commonpath([two.path.absolute(), two.twin.absolute()]))
    return f"{below(around, two.path.absolute()).as_posix()} = {below(around, two.twin.absolute()).as_posix()}"
