"""Where in a settings file something was said, and a home directory written as ``~``, in words and in settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from smp_feedback.checks import at_home

QUOTED = re.compile(r"'([^'\s]+)'|Parser key \"([\w.]+)\"|^([\w.]+)=")  # what an error is about


class Where(NamedTuple):
    """A key of a settings file, or one of its values."""

    path: Path
    line: int
    dotted: str
    text: str


def expanded(value: Any) -> Any:
    """*value*, be it text or what holds texts, with ``~`` at the start of a path as the home directory it stands for.

    >>> expanded({"root": "~/data", "size": 3}) == {"root": f"{Path.home()}/data", "size": 3}
    True
    >>> expanded("--out=~/runs") == f"--out={Path.home()}/runs"
    True
    """
    if isinstance(value, str):
        flag, is_set, path = value.partition("=") if value.startswith("--") else ("", "", value)
        return f"{flag}{is_set}{at_home(path)}" if path.startswith("~") else value
    if isinstance(value, dict):
        return {key: expanded(one) for key, one in value.items()}
    return [expanded(one) for one in value] if isinstance(value, list) else value


def settle(settings: Any) -> None:
    """The same for each of *settings*, as jsonargparse keeps them, in place."""
    for key, value in [*vars(settings).items()]:
        if hasattr(value, "__dict__") and not isinstance(value, type):
            settle(value)
        else:
            setattr(settings, key, expanded(value))


def files_in(words: Sequence[str]) -> list[Path]:
    """The files that ``--config`` names.

    >>> files_in(["fit", "--config", "a.yaml", "--seed=1", "--config=b.yaml"])
    [PosixPath('a.yaml'), PosixPath('b.yaml')]
    >>> files_in([])
    []
    """
    named = [follows for word, follows in pairwise([*words, ""]) if word == "--config"]
    named = [*named, *(word.partition("=")[2] for word in words if word.startswith("--config="))]
    return [Path(name) for name in named if not name.lstrip().startswith("{")]


def unreadable(words: Sequence[str]) -> str | None:
    """What is wrong with the YAML of a settings file, and where; None if they can be read."""
    for path in files_in(words):
        try:
            if not isinstance(yaml.compose(path.read_text()), (yaml.MappingNode, type(None))):
                return f"{path}: expected settings, such as `seed: 1`, a name, a colon and a value a line."
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
            return f"{path}{at}: no YAML ({error.problem or error.context})."
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            continue  # the parser says so itself
    return None


def place_of(message: str, words: Sequence[str]) -> Where | None:
    """Where in the settings files that stands which *message* is about; None if that is nowhere, or not clear."""
    for found in QUOTED.finditer(re.split(r"Did you mean|There is: |Errors: ", message)[0]):
        what = next(filter(None, found.groups()))
        if what == words[0]:
            continue  # the verb
        if any(what in (word, word.partition("=")[0].lstrip("-"), word.partition("=")[2]) for word in words):
            return None  # typed later, and so what counts
        there = [place for path in files_in(words) for place in _places(path) if what in (place.dotted, place.text)]
        there = [place for place in there if place.dotted == what] or there
        if there:
            return there[0] if len({place.line for place in there}) == 1 else None
    return None


def _places(path: Path) -> Iterator[Where]:
    try:
        root = yaml.compose(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return
    if root is not None:
        yield from _inside(path, root, "")


def _inside(path: Path, node: Any, dotted: str) -> Iterator[Where]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{dotted}.{key.value}" if dotted else str(key.value)
            yield Where(path, key.start_mark.line + 1, name, str(key.value))
            yield from _inside(path, value, name)
    elif isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _inside(path, one, dotted)
    elif isinstance(node, yaml.ScalarNode):
        yield Where(path, node.start_mark.line + 1, "", str(node.value))
