"""``results.json`` and its like, read key by key; what is missing or cannot be is said where it stands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from smp_feedback.errors import InvalidInput

HEAD = {"command": object, "settings": Mapping, "hardware": object, "classes": Sequence, "runs": Sequence}


class Schema(NamedTuple):
    """The results of one kind of experiment, and the verb that writes them."""

    kind: str
    verb: str

    def opened(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """What every experiment's results hold.

        Raises:
            InvalidInput: If the kind or version is another, a key is missing, or its value cannot be.
        """
        kind, version = (results.get(k) if isinstance(results, Mapping) else results for k in ("kind", "version"))
        if (kind, version) != (self.kind, 1):
            raise InvalidInput(f"kind={kind!r:.80}, version={version!r:.80}: expected kind={self.kind!r}, version=1.")
        found = {key: self.need(results, key, f"The {self.kind}") for key in HEAD}
        for key, kind in HEAD.items():
            if not isinstance(found[key], kind) or (kind is Sequence and isinstance(found[key], str)):
                was = f"{found[key]!r:.80} ({type(found[key]).__name__})"
                raise InvalidInput(f"{key}={was}: expected a {kind.__name__.lower()}.")
        return {**found, "classes": tuple(found["classes"])}

    def need(self, found: Mapping[str, Any], key: str, where: str) -> Any:
        """*found*'s value of *key*.

        Raises:
            InvalidInput: If there is none.
        """
        if not isinstance(found, Mapping) or key not in found:
            raise InvalidInput(f"{where} lacks {key!r}: expected the results of `{self.verb}`, whole.")
        return found[key]


def once(runs: Iterable[str]) -> None:
    """See that no two of *runs*, in words, are the same.

    Raises:
        InvalidInput: If two are.
    """
    seen: set[str] = set()
    for run in runs:
        if run in seen:
            raise InvalidInput(f"Two runs of {run}: keep one.")
        seen.add(run)


def check_score(per_class: Sequence[float | None], classes: int, where: str, **scores: float | None) -> None:
    """See that each class has a score, and that all are in [0, 1], or None.

    Raises:
        InvalidInput: If not.
    """
    if len(per_class) != classes:
        raise InvalidInput(f"{where}: per_class has {len(per_class)} values for {classes} classes.")
    for name, value in (*scores.items(), *(("per_class", part) for part in per_class)):
        if number(value) < -1e-6 or number(value) > 1 + 1e-6:
            raise InvalidInput(f"{where}: {name}={value!r}, expected a number in [0, 1], or null.")


def number(value: float | None) -> float:
    """NaN where there is none.

    Raises:
        InvalidInput: If it is none, and not None.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise InvalidInput(f"{value!r} ({type(value).__name__}): expected a number, or null.")
    return math.nan if value is None else float(value)
