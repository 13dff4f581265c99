"""Images that may not be parted: all of one patient, or of one scene, by a pattern of their paths."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from smp_feedback.data.files import below, composed, some
from smp_feedback.errors import InvalidType, InvalidValue


def groups_of(images: Mapping[str, Path], root: Path, group: str | None) -> dict[str, str]:
    """The group of each of *images* (by stem): what *group* finds in its path below *root*; None parts all of them.

    Raises:
        InvalidValue: If it finds nothing in some of them.

    >>> groups_of({"p1_a": Path("d/p1_a.png"), "p1_b": Path("d/p1_b.png")}, Path("d"), "p(.)_")
    {'p1_a': '1', 'p1_b': '1'}
    """
    if group is None:
        return {stem: stem for stem in images}
    pattern = checked_pattern(group)
    names = {stem: composed(below(root, path).as_posix()) for stem, path in images.items()}
    found = {stem: pattern.search(name) for stem, name in names.items()}
    without = [names[stem] for stem, match in found.items() if match is None or match[1] is None]
    if without:
        raise InvalidValue(f"group={group!r} is not found in {len(without)} of {len(images)} images: {some(without)}.")
    return {stem: match[1] for stem, match in found.items() if match is not None}


def checked_pattern(group: object) -> re.Pattern[str]:
    """*group* as a pattern with one part in parentheses.

    Raises:
        InvalidType, InvalidValue: If it is none.
    """
    if not isinstance(group, str):
        raise InvalidType(rf"group={group!r}: expected a regular expression, such as 'patient(\d+)'.")
    try:
        pattern = re.compile(composed(group))
    except re.error as error:
        raise InvalidValue(f"group={group!r}: expected a regular expression ({error}).") from None
    if pattern.groups != 1:
        raise InvalidValue(
            f"group={group!r} has {pattern.groups} parts in parentheses: expected one, what a group has in common, as "
            r"in 'patient(\d+)'."
        )
    return pattern


def check_together(groups: Mapping[str, str], listed: Mapping[str, str], group: str | None) -> None:
    """No group is in two splits of those that are *listed*, all by stem.

    Raises:
        InvalidValue: With the first that is.
    """
    first: dict[str, str] = {}
    for stem, split in listed.items():
        other = first.setdefault(groups[stem], split)
        if other != split:
            raise InvalidValue(f"group={group!r}: {groups[stem]!r} is in two splits, {other} and {split} ({stem}).")
