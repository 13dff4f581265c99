"""Which version this is, beside those of what it stands on, and what completes its words in a shell."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from smp_feedback._version import __version__
from smp_feedback.errors import InvalidValue, UnknownName, require

BESIDE = ("torch", "segmentation_models_pytorch", "timm", "lightning")
SHELLS = ("bash", "zsh", "tcsh")
DIRECTORIES, FILES = ("DIR", "MODEL"), ("FILE", "PATH", "OUT", "CONFIG")
"""What an option's value is called, of those that a shell knows how to complete."""


def about() -> str:
    """One line for a bug report.

    >>> about()
    'smp_feedback ... (torch ..., segmentation_models_pytorch ..., timm ..., ... Python 3...)'
    """
    found = [f"{name} {known}" for name in BESIDE if (known := _version(name))]
    return f"smp_feedback {__version__} ({', '.join([*found, f'Python {platform.python_version()}'])})"


def completion(words: Sequence[str], parser: Callable[[], Any]) -> str:
    """The script with which a shell completes all words of *parser*; *words* are ``--print_shtab SHELL``.

    Raises:
        InvalidValue, UnknownName: If they name no shell that is known.
        MissingExtra: If shtab is not installed.
    """
    shell = words[0].partition("=")[2] or " ".join(words[1:])
    if not shell:
        raise InvalidValue(f"--print_shtab: for which shell? Give one of {', '.join(SHELLS)}.")
    if shell not in SHELLS:
        raise UnknownName("shell", shell, SHELLS)
    require("shtab", extra="cli")
    import shtab

    plain = argparse.ArgumentParser("smp-feedback", add_help=False)
    _copy(parser(), plain)
    return str(shtab.complete(plain, shell))


def _copy(parser: Any, plain: argparse.ArgumentParser) -> None:
    """Give *plain* the words of *parser*, without their types: from those shtab would list every class there is."""
    from smp_feedback.cli.help import verbs_of

    verbs = verbs_of(parser)
    for action in parser._actions:
        if action.option_strings or (action.metavar and action.dest not in ("verb", "stage")):
            _copy_action(action, plain)
    inner: Any = plain.add_subparsers() if verbs else None
    for name, own in verbs.items() if inner else ():
        _copy(own, inner.add_parser(name, add_help=False, help=name))  # without help it is hidden


def _copy_action(action: argparse.Action, plain: argparse.ArgumentParser) -> None:
    import shtab

    flags = [flag for flag in action.option_strings if not flag.endswith("+")]  # --sizes+ appends to a list
    values: dict[str, Any] = {"action": "store_true"} if action.nargs == 0 else {}
    if not values:
        values = {"nargs": action.nargs, "choices": action.choices, "metavar": str(action.metavar or "VALUE")}
    added: Any = plain.add_argument(*(flags or [action.dest]), **values)
    if action.choices is None and values.get("metavar") in (*DIRECTORIES, *FILES):
        added.complete = shtab.DIRECTORY if values["metavar"] in DIRECTORIES else shtab.FILE


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
