"""Verbs of the command line, by name."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from smp_feedback.errors import require
from smp_feedback.registry.public import catalogue
from smp_feedback.testing.bases import broken


def check_verb(name: str, *, words: Sequence[str] | None = None) -> None:
    """The verb *name* takes a parser, says what it is for, and gives a function that runs it; its help can be printed.

    Args:
        name: A registered name.
        words: What is typed behind it; with them it is run, and is to end well.

    >>> check_verb("plugins")
    """
    require("jsonargparse", extra="cli")
    from jsonargparse import ArgumentParser

    with broken():
        part, entry = catalogue().verbs[name], catalogue().verbs.entry(name)
    parser: Any = ArgumentParser(exit_on_error=False)
    run = _made(part, parser)
    assert callable(run), f"verb(parser) gives a {type(run).__name__}: expected a function of the parsed arguments"
    says = entry.help or (getattr(part, "__doc__", None) or "").strip()
    assert says, "it does not say what it is for: give register(name, verb, help='...'), or verb a docstring"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        parser.print_help()
    assert "usage:" in said.getvalue(), "its parser prints no help"
    if words is not None:
        _run(run, parser, words, " ".join([name, *words]))


def _made(part: Any, parser: Any) -> Any:
    try:
        return part(parser)
    except Exception as error:
        raise AssertionError(f"verb(parser) fails: {type(error).__name__}: {error}") from error


def _run(run: Any, parser: Any, words: Sequence[str], typed: str) -> None:
    try:
        ended = run(parser.parse_args([*words]))
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{typed!r}: {type(error).__name__}: {error}") from error
    assert ended in (None, 0), f"{typed!r} ends with {ended!r}, expected None or 0"
