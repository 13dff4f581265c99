"""One word for one thing: what used to be called otherwise still works, and says what it is called now.

Images are files, wherever they are named; how many of them are trained on is ``data.train_count``. What is about the
data stands in ``data``, in a comparison as in fit, so that one block of settings does for both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

OF_FIT = {"data.images": "data.train_count", "data": "data.name"}
OF_EXPERIMENTS = {
    "data": "data.name",
    "root": "data.root",
    "size": "data.size",
    "data_options": "data.options",
    "images": "data.train_count",
    "train_count": "data.train_count",
    "batch_size": "data.batch_size",
    "augment": "data.augment",
}
EXPERIMENTS = (["compare"], ["restore", "ablation"])
DATA = "data"
Say = Callable[[str], object]


def current(words: Sequence[str], say: Say | None = None) -> list[str]:
    """*words*, and what is in the settings files that they name, as all of it is called now.

    >>> current(["compare", "--data", "camvid", "--images", "4", "16"], say=str)
    ['compare', '--data.name', 'camvid', '--data.train_count', '4', '16']
    >>> current(["fit", "--data.images=4", "--data.size", "32"], say=str)
    ['fit', '--data.train_count=4', '--data.size', '32']
    """
    words, said = [*words], _once(say or _aloud)
    olds = _olds(words)
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if word.startswith("--") and name[2:] in olds and not _is_settings(name, value or _behind(words, place)):
            words[place] = f"--{said(name[2:], olds[name[2:]])}{equals}{value}"
        if name == "--config":
            words = _with_file(words, place, olds, said)
    return words


def nested(settings: Mapping[str, Any], olds: Mapping[str, str], said: Callable[[str, str], str]) -> dict[str, Any]:
    """*settings*, of a file, with what is called otherwise now in its place.

    >>> nested({"data": "mazes", "size": 5, "seeds": 3}, OF_EXPERIMENTS, lambda old, new: new)
    {'seeds': 3, 'data': {'name': 'mazes', 'size': 5}}
    >>> nested({"data": {"images": 4, "size": 5}}, OF_FIT, lambda old, new: new)
    {'data': {'size': 5, 'train_count': 4}}
    """
    found = dict(settings)
    group = found.get(DATA)
    inner = dict(group) if isinstance(group, Mapping) else {}
    for old, new in olds.items():
        (_, key), (outer, _, own) = new.split("."), old.partition(".")
        if own and own in inner:
            inner[key] = _moved(inner.pop(own), said, old, new)
        elif not own and outer in found and not (outer == DATA and not isinstance(group, str)):
            inner[key] = _moved(found.pop(outer), said, old, new)
    return {**found, DATA: inner} if inner else found


def _moved(value: Any, said: Callable[[str, str], str], old: str, new: str) -> Any:
    said(old, new)
    return value


def _olds(words: Sequence[str]) -> Mapping[str, str]:
    return OF_EXPERIMENTS if any(list(words[: len(verb)]) == verb for verb in EXPERIMENTS) else OF_FIT


def _behind(words: Sequence[str], place: int) -> str:
    return words[place + 1] if place + 1 < len(words) else ""


def _is_settings(name: str, value: str) -> bool:
    """``--data`` may name a file of its settings, too, or be them."""
    return name == f"--{DATA}" and (value.lstrip().startswith("{") or Path(value).is_file())


def _with_file(words: list[str], place: int, olds: Mapping[str, str], said: Callable[[str, str], str]) -> list[str]:
    """*words* with the settings file at *place* read and written out, if anything in it is called otherwise now."""
    import yaml

    inside = "=" in words[place]
    path = words[place].partition("=")[2] if inside else _behind(words, place)
    try:
        found = yaml.safe_load(Path(path).read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return words  # the parser says what is wrong
    if not isinstance(found, dict) or (now := nested(found, olds, said)) == found:
        return words
    text = yaml.safe_dump(now, default_flow_style=True, width=1 << 20, allow_unicode=True, sort_keys=False).strip()
    return [*words[:place], "--config", text, *words[place + (1 if inside else 2) :]]


def _once(say: Say) -> Callable[[str, str], str]:
    """What says of each old word, once, what it is called now, and gives that."""
    told: set[str] = set()

    def said(old: str, new: str) -> str:
        if old not in told:
            say(f"{old} is called {new} now; the old word still works.")
        told.add(old)
        return new

    return said


def _aloud(text: str) -> None:
    print(f"smp-feedback: {text}", file=sys.stderr)
