"""Where the feedback enters a base: one place, or several."""

from __future__ import annotations

from collections.abc import Sequence

from smp_feedback.checks import check_insert
from smp_feedback.errors import InvalidType, InvalidValue

ORDER = ("input", "after", "stem", "stage")
"""Kinds of places as an image comes to them."""


def places_of(insert: object, stem: object = None) -> str | tuple[str, ...]:
    """*insert* as a config keeps it: one place, or several in the order in which an image comes to them.

    Args:
        insert: ``input``, ``stem``, ``stage:k``, ``after:NAME``, or a list of such.
        stem: Dotted name of the convolution that reads the feedback at the input, or None.

    Raises:
        InvalidType, InvalidValue: If one is no place, is named twice, or *stem* is given without ``input``.

    >>> places_of("stem"), places_of(["stage:3", "input", "stage:2"])
    ('stem', ('input', 'stage:2', 'stage:3'))
    >>> places_of(["stem", "stem"])
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: insert=['stem', 'stem']: 'stem' is named twice; expected each place once.
    """
    if isinstance(insert, str) or not isinstance(insert, Sequence):
        check_insert(insert, stem)
        return str(insert)
    if not insert:
        raise InvalidValue("insert=[]: expected a place, such as 'input', or several of them.")
    for place in insert:
        _check_one(insert, place)
    after = [place for place in insert if place.startswith("after:")]
    if len(after) > 1:
        raise InvalidValue(f"insert={[*insert]}: expected at most one 'after:NAME', got {len(after)}.")
    check_insert("input" if "input" in insert else insert[0], stem)
    ordered = tuple(sorted(insert, key=lambda place: (ORDER.index(place.partition(":")[0]), place)))
    return ordered if len(ordered) > 1 else ordered[0]


def _check_one(insert: Sequence[object], place: object) -> None:
    """*place* is one, and once among those of *insert*."""
    if not isinstance(place, str):
        raise InvalidType(
            f"insert={[*insert]}: {place!r} ({type(place).__name__}) is no place; expected 'input', 'stem', 'stage:k' "
            "or 'after:NAME'."
        )
    check_insert(place, None)
    if insert.count(place) > 1:
        raise InvalidValue(f"insert={[*insert]}: {place!r} is named twice; expected each place once.")
