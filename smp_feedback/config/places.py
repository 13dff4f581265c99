"""Where the feedback enters a base: one place, or several."""

from __future__ import annotations

from collections.abc import Sequence

from smp_feedback.checks import check_insert
from smp_feedback.errors import InvalidType, InvalidValue

DECODER = "decoder"
ORDER = ("input", "after", "stem", "stage", DECODER)
"""Kinds of places as an image comes to them."""


def places_of(insert: object, stem: object = None) -> str | tuple[str, ...]:
    """*insert* as a config keeps it: one place, or several in the order in which an image comes to them.

    Args:
        insert: ``input``, ``stem``, ``stage:k``, ``after:NAME``, ``decoder``, ``decoder:k``, or a list of such.
        stem: Dotted name of the convolution that reads the feedback at the input, or None.

    Raises:
        InvalidType, InvalidValue: If one is no place, is named twice, does not go with another, or *stem* is given
            without ``input``.

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
    _check_decoder_alone(insert)
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
            f"insert={[*insert]}: {place!r} ({type(place).__name__}) is no place; expected 'input', 'stem', 'stage:k', "
            "'after:NAME', 'decoder' or 'decoder:k'."
        )
    check_insert(place, None)
    if insert.count(place) > 1:
        raise InvalidValue(f"insert={[*insert]}: {place!r} is named twice; expected each place once.")


def _check_decoder_alone(insert: Sequence[str]) -> None:
    """Places in front of the decoder stand beside none before: the encoder, run again, would make them anew."""
    kinds = {place.partition(":")[0] for place in insert}
    if DECODER in kinds and len(kinds) > 1:
        other = next(place for place in insert if not place.startswith(DECODER))
        raise InvalidValue(
            f"insert={[*insert]}: with 'decoder' the encoder runs once per image, and {other!r} lies in or before it; "
            f"expected 'decoder', one or more 'decoder:k', or {other!r} without them."
        )
    if DECODER in insert and len(insert) > 1:
        raise InvalidValue(f"insert={[*insert]}: 'decoder' is every 'decoder:k'; expected it alone, or those you mean.")
