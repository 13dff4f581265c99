"""Which label a word or a number stands for, and which label each stored value becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smp_feedback.errors import InvalidType, InvalidValue, nearest

IGNORE = "ignore"  # in tables of values and colours: the ignored label, whatever its number
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Lookup:
    """Labels of stored whole numbers.

    >>> Lookup.of({0: 0, 255: 1})(np.array([[0, 255, 7]], np.uint8))
    (array([[ 0,  1, -1]]), array([[ True,  True, False]]))
    """

    keys: Labels
    labels: Labels

    @classmethod
    def of(cls, table: Mapping[int, int]) -> Lookup:
        """The lookup of a table {stored: label} with at least one entry."""
        keys = sorted(table)
        return cls(np.array(keys, np.int64), np.array([table[key] for key in keys], np.int64))

    def __call__(self, stored: NDArray[Any]) -> tuple[Labels, NDArray[np.bool_]]:
        """The label of each value, -1 where it has none; and whether it has one. Both of *stored*'s shape."""
        if stored.dtype == np.uint8:  # a table of all bytes is found faster than each pixel's place among the keys
            labels, known = self(np.arange(256))
            return labels[stored], known[stored]
        place = np.searchsorted(self.keys, stored).clip(max=len(self.keys) - 1)
        known = self.keys[place] == stored
        return np.where(known, self.labels[place], -1), known


def label_of(given: Any, classes: Sequence[str], ignore_index: int | None, where: str) -> int:
    """The label that a class's name, a number (also as text) or ``ignore`` stands for.

    Raises:
        InvalidValue: If it is none of them, after *where* it was given.

    >>> [label_of(given, ("road", "car"), 255, "values") for given in ("car", 0, "1", 255, "ignore", None)]
    [1, 0, 1, 255, 255, 255]
    >>> label_of("cat", ("road", "car"), None, "values")
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: values: 'cat' is no class. Did you mean 'car'?
    """
    if isinstance(given, str) and given in classes:
        return list(classes).index(given)
    if given is None or given == IGNORE:
        if ignore_index is None:
            raise InvalidValue(f"{where}: {given!r} needs an ignored label, such as ignore_index=255.")
        return ignore_index
    number = whole(given)
    if number is not None and (0 <= number < len(classes) or number == ignore_index):
        return number
    if not isinstance(given, (str, int)) or isinstance(given, bool):
        raise InvalidValue(
            f"{where}: {given!r} is no class; expected a name, a label (0 to {len(classes) - 1}) or 'ignore'."
        )
    hint = nearest(str(given), classes) if number is None else f"Labels are 0 to {len(classes) - 1}."
    raise InvalidValue(f"{where}: {given!r} is no class. {hint}")


def value_labels(
    classes: Sequence[str], ignore_index: int | None, values: Mapping[Any, Any] | None, offset: int
) -> dict[int, int]:
    """The label of each stored value that has one; see `reader.MaskReader` for the rules.

    Raises:
        InvalidType: If *values* is no table.
        InvalidValue: If one of its values is no whole number or occurs twice, or its label is no class.

    >>> value_labels(("ground", "leaf"), 9, {"255": "leaf"}, 0)
    {0: 0, 9: 9, 255: 1}
    >>> value_labels(("ground", "leaf"), 255, None, -1)
    {1: 0, 2: 1, 256: 255, 255: 255}
    """
    named: dict[int, int] = {}
    if not isinstance(values, Mapping | None):
        raise InvalidType(f"values={values!r}: expected {{stored value: label}}, as in values={{255: 1}}.")
    for key, label in (values or {}).items():
        stored = whole(key)
        if stored is None or stored in named:
            problem = "expected whole numbers to the left" if stored is None else f"{stored} is there twice"
            raise InvalidValue(f"values={dict(values or {})!r}: {problem}, as in values={{255: 1}}.")
        named[stored] = label_of(label, classes, ignore_index, f"values, {key!r}")
    table = {label - offset: label for label in range(len(classes)) if label not in named.values()}
    if ignore_index is not None:
        table |= {ignore_index - offset: ignore_index, ignore_index: ignore_index}
    return table | named


def whole(given: Any) -> int | None:
    """A whole number, also as text or as a float, as YAML, JSON and the command line give it; None if it is none.

    >>> [whole(given) for given in (3, "-3", 3.0, 3.5, "x", True)]
    [3, -3, 3, None, None, None]
    """
    if isinstance(given, bool):
        return None
    try:
        number = int(given)
        return number if isinstance(given, str) or number == given else None
    except (TypeError, ValueError, OverflowError):
        return None
