"""Results on disk: JSON with a kind and a version, written whole, refused where they are not understood."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smp_feedback.errors import InvalidValue, UnknownName
from smp_feedback.saving.files import replace_file

VERSION = 1
SCORES = {"segmentation": "mIoU", "multilabel": "mIoU", "classification": "accuracy"}
"""What ``score`` is, by task."""
KINDS = {
    "ablation": "smp_feedback.experiments.ablation.figures:figures",
    "calibration": "smp_feedback.plotting.figures:calibration",
    "clicked": "smp_feedback.plotting.figures:clicked",
    "comparison": "smp_feedback.experiments.comparison.figures:figures",
    "film comparison": "smp_feedback.experiments.films.figures:figures",
    "films": "smp_feedback.plotting.films:figures",
    "few_shot": "smp_feedback.plotting.figures:few_shot",
    "refined": "smp_feedback.plotting.figures:before_and_after",
    "restored": "smp_feedback.plotting.figures:before_and_after",
    "robustness": "smp_feedback.plotting.figures:robustness",
    "stability": "smp_feedback.plotting.figures:stability",
    "tuning": "smp_feedback.plotting.figures:tuning",
}
"""What a result can be, and what draws it: ``result -> {name: Figure}``."""

Result = dict[str, Any]


def save_result(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write *result* as JSON, whole or not at all; numbers that JSON has no word for (NaN) become null.

    Args:
        result: With ``kind`` and ``version``, as the functions of this package return it.
        path: The file; its folder is made if it is not there.

    Returns:
        *path*.

    Raises:
        UnknownName: If nobody knows the kind.
        InvalidValue: If the version is not this one's.
    """
    path = Path(path)
    text = json.dumps(plain(checked(result, "result")), indent=1, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    return replace_file(path, lambda draft: draft.write_text(text + "\n", encoding="utf-8"))


def load_result(path: str | Path) -> Result:
    """The result that `save_result` wrote.

    Raises:
        InvalidValue: If the file is no JSON, holds no result, or one of another version.
        UnknownName: If nobody knows its kind.
        OSError: If it cannot be read.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"{path} is no JSON ({error}): expected a result that this package saved.") from error
    return dict(checked(found, str(path)))


def checked(result: object, source: str) -> Mapping[str, Any]:
    """*result* if it has a kind and a version that this package reads."""
    if not isinstance(result, Mapping) or not isinstance(result.get("kind"), str):
        raise InvalidValue(f"{source} has no 'kind' that is a word: expected a result that this package saved.")
    if result["kind"] not in KINDS:
        raise UnknownName("kind of result", str(result["kind"]), KINDS, hint=f"({source})")
    if result.get("version") != VERSION:
        raise InvalidValue(
            f"{source} has version {result.get('version')!r}: this package reads {VERSION}; "
            "another release of it wrote the file."
        )
    return result


def plain(value: object) -> object:
    """*value* as JSON has it: null in place of NaN and infinity, names that are text, lists."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every setting by its whole name.

    >>> list(flat({"a": {"b": 1}, "c": 2}))
    [('a.b', 1), ('c', 2)]
    """
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
