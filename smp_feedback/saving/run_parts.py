"""Who brought the parts that a run or an experiment was told to use: kept in its folder, and said where one is gone."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from smp_feedback.errors import InvalidValue, PluginWarning, UnknownName
from smp_feedback.saving.files import replace_file
from smp_feedback.saving.provenance import BUILT_IN, Record, changed_since, cure, record_of, registry_of

PARTS = "plugins.json"
SAID_BY = {
    "arch": "architecture",
    "augment": "augmentation",
    "corruption": "corruption",
    "dynamics": "dynamics",
    "encoder": "encoder",
    "encoder_name": "encoder",
    "loop": "loop",
    "loss": "loss",
    "preset": "preset",
    "projection": "projection",
    "restorer": "restorer",
}
"""The settings that name a part, wherever they stand, and its kind."""
SAID_IN_LISTS = {"corruptions": "corruption", "tests": "corruption", "train": "corruption"}
"""Those that name several, each perhaps with its severity behind a colon."""
SAID_IN = {("data", "name"): "dataset", ("distortion", "name"): "corruption"}
"""Those whose kind their group says."""
VAL = "val_"


def keep_parts(folder: Path, settings: Mapping[str, Any], cut: str | None = None) -> None:
    """Write ``plugins.json``: of each part that *settings* name and a plugin or a script brought, its name and who.

    Args:
        folder: The run's, or the experiment's.
        settings: All that it was told.
        cut: The class whose cut opens its base, where that has one.
    """
    records = records_of(settings, cut)
    replace_file(folder / PARTS, lambda draft: draft.write_text(json.dumps(records, indent=2)))


def records_of(settings: Mapping[str, Any], cut: str | None = None) -> list[Record]:
    """What ``plugins.json`` holds: ``kind``, ``name``, and ``distribution`` and ``version``, or ``module``.

    >>> records_of({"model": {"arch": "Unet", "loss": "dice"}, "monitor": "val_miou"})
    []
    """
    named = dict.fromkeys([*_named(settings), *([("cut", cut)] if cut is not None else [])])
    here = [(kind, registry_of(kind).entry(name).name) for kind, name in named if registry_of(kind).is_here(name)]
    found = [{"kind": kind, **record_of(kind, name)} for kind, name in here]
    return [record for record in found if record.get("distribution") != BUILT_IN]


def kept_parts(folder: Path) -> list[Record]:
    """What ``plugins.json`` in *folder* says; nothing where there is none, as in runs of 0.1.

    Raises:
        InvalidValue: If it cannot be understood.
    """
    path = folder / PARTS
    if not path.is_file():
        return []
    try:
        told = json.loads(path.read_text())
        return [{str(key): str(value) for key, value in record.items()} for record in told]
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidValue(f"{path} is not what was written there: {error}") from None


def explained(error: UnknownName, runs: Iterable[Path]) -> UnknownName:
    """*error*, or, where one of *runs* was told that name, who brought it, with all else, and how it is had again."""
    word = _word(error.name)
    for run in runs:
        records = kept_parts(run)
        for record in records:
            if record["name"].lower() == word:
                why = cure(record, _missing(records))
                return UnknownName(record["kind"], record["name"], error.known, why=why)
    return error


def say_changed(folder: Path) -> None:
    """Warn of the parts of the run in *folder* that another version of their package brings now."""
    for theirs, ours, parts in changed_since(kept_parts(folder)):
        said = f"{folder} was made with {', '.join(parts)} of {theirs}; here it is {ours}."
        warnings.warn(said, PluginWarning, stacklevel=3)


def _missing(records: Sequence[Record]) -> list[Record]:
    return [one for one in records if one["name"] not in registry_of(one["kind"])]


def _word(name: str) -> str:
    """A part's name, as it was said; of a score to watch, that of the metric."""
    return name.lower().removeprefix(VAL).partition("/")[0] if name.lower().startswith(VAL) else name.lower()


def _named(settings: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _named(value, key)
        elif isinstance(value, str):
            if key == "monitor":
                yield "metric", _word(value)
            elif key == "feedback":
                yield from (("loop", value), ("preset", value))
            elif key == "data":  # an experiment's
                yield "dataset", value
            elif kind := SAID_BY.get(key) or SAID_IN.get((group, key)):
                yield kind, value
        elif isinstance(value, list) and key in SAID_IN_LISTS:
            yield from ((SAID_IN_LISTS[key], one.partition(":")[0]) for one in value if isinstance(one, str))
