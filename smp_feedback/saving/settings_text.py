"""Settings as YAML: a mapping of sensible size, whoever wrote it; reading it runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from smp_feedback.errors import InvalidValue

MOST = 1_000_000  # values, each counted wherever it is referred to


def read_settings(path: Path, groups: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings in the YAML file *path*.

    Args:
        path: The file.
        groups: Names whose values, where they are there, are settings themselves.

    Raises:
        InvalidValue: If it cannot be read, is no mapping, or unfolds to more values than any settings have.
    """
    found = _read(path)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InvalidValue(f"{path}: expected settings, such as `seed: 1`, a name, a colon and a value a line.")
    for group in groups:
        if not isinstance(found.get(group, {}), Mapping):
            raise InvalidValue(f"{path}: {group}: expected settings, not {found[group]!r:.60}.")
    return found


def check_unfolds(path: Path) -> None:
    """The YAML file *path* holds no bomb: lists of lists that refer to one another, a thousandfold at each level.

    What is no YAML is left to who reads it; so is what is not there.

    Raises:
        InvalidValue: If it does.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = _unfolded(yaml.compose(text, yaml.SafeLoader), {})
    except (OSError, ValueError, yaml.YAMLError):
        return
    except RecursionError:
        values = MOST + 1
    if values > MOST:
        raise InvalidValue(f"{path}: it is nested too deeply, or unfolds to more than {MOST} values; no settings do.")


def _read(path: Path) -> Any:
    check_unfolds(path)
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidValue(f"{path}: it cannot be read ({error.strerror}).") from error
    except (ValueError, yaml.YAMLError, TypeError) as error:  # YAML's own constructors raise the others
        what = " ".join(str(error).split())
        raise InvalidValue(f"{path} is no YAML ({what:.200}).") from error


def _unfolded(node: Any, seen: dict[int, float]) -> float:
    r"""How many values *node* is, once what it refers to is written out; infinitely many, if that is itself.

    >>> text = "a: &a [1, 2]\nb: &b [*a, *a]\nc: [*b, *b]"
    >>> int(_unfolded(yaml.compose(text), {}))
    29
    """
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in seen:
        seen[id(node)] = float("inf")  # until it is known: a cycle comes back here
        parts = node.value if isinstance(node, yaml.SequenceNode) else [one for pair in node.value for one in pair]
        seen[id(node)] = 1 + sum(_unfolded(part, seen) for part in parts)
    return seen[id(node)]
