"""All splits of a run mean the same by a label: a model learns from one of them, and is scored on another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from smp_feedback.data.files import some
from smp_feedback.data.items import inherited
from smp_feedback.errors import InvalidValue

MEANT = ("task", "classes", "ignore_index")  # what a dataset says of its targets; what differs first is said
UNSAID = "unsaid"


def check_agreement(datasets_by_split: Mapping[str, Any]) -> None:
    """See that no two of these datasets mean different things by a label.

    Raises:
        InvalidValue: Naming both splits, and what differs.
    """
    for _, words in disagreements(datasets_by_split):
        raise InvalidValue(words)


def disagreements(datasets_by_split: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The splits that mean something else by a label than the first, and in what words; unsaid is not compared.

    >>> class Cats(list):
    ...     classes = ("sky", "cat")
    >>> class Dogs(list):
    ...     classes = ("sky", "dog")
    >>> disagreements({"train": Cats(), "val": Dogs()})[0][1][:68]
    "train and val have other classes (label 1 is 'cat' in train and 'dog"
    """
    splits = list(datasets_by_split)
    found = []
    for split in splits[1:]:
        both = splits[0], split
        for name in MEANT:
            one, other = (_said(datasets_by_split[which], name) for which in both)
            if one != other and UNSAID not in (one, other):
                found.append((split, _words(name, both, one, other)))
                break
    return found


def _said(dataset: Any, name: str) -> Any:
    """What *dataset*, or one that it wraps, says; no ignored label is said, too, by whoever names classes."""
    value = inherited(dataset, name)
    if name == "classes":
        return tuple(map(str, value)) if isinstance(value, (tuple, list)) else UNSAID
    if name == "ignore_index":
        return value if inherited(dataset, "classes") is not None else UNSAID
    return UNSAID if value is None else value


def _words(name: str, splits: tuple[str, str], one: Any, other: Any) -> str:
    first, second = splits
    if name != "classes":
        return f"{first} has {name}={one!r} and {second} has {name}={other!r}; expected the same in both."
    return (
        f"{first} and {second} have other classes ({_first_of(splits, one, other)}), {some(one, 10)} and "
        f"{some(other, 10)}: scores would be of the wrong ones. Let both files have the same categories, in the same "
        "order, or name those that count in both with classes= (data.options)."
    )


def _first_of(splits: tuple[str, str], one: Sequence[str], other: Sequence[str]) -> str:
    """The first label that stands for something else, or for nothing."""
    pairs = enumerate(zip_longest(one, other))
    label, two = next((label, two) for label, two in pairs if two[0] != two[1])
    both = (f"{'nothing' if what is None else repr(what)} in {split}" for split, what in zip(splits, two, strict=True))
    return f"label {label} is {' and '.join(both)}"
