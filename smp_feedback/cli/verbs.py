"""The verbs by name: ours, and those that installed packages add to the command line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from smp_feedback.cli.pages import SHORT
from smp_feedback.errors import InvalidType
from smp_feedback.hookspecs import Register, hookimpl
from smp_feedback.registry.catalogue import Catalogue

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from smp_feedback.registry.entry import Entry

Run = Callable[[Any], "int | None"]
Verb = Callable[["ArgumentParser"], Run]
OURS = "smp_feedback.cli.own_verbs"


@hookimpl
def register_verbs(register: Register) -> None:
    """Ours."""
    for name, says in SHORT.items():
        register(name, f"{OURS}:{name}", help=says)


class VerbsAlone(Catalogue):
    """Verbs and nothing else: what plugins bring besides is passed over, and nothing heavy is imported for it.

    So a page of help is there at once. A verb is run from the catalogue of the process, which lets a plugin in whole
    or not at all.
    """

    def _pens(self, origin: str) -> dict[str, Register]:
        pens = super()._pens(origin)
        return {kind: pen if kind == "verbs" else _passed_over for kind, pen in pens.items()}


def brought_verbs() -> tuple[list[Entry], str]:
    """The verbs of installed packages, and a sentence on the plugins that are left out; empty if none is."""
    alone = VerbsAlone()
    alone.admit_built_in(sys.modules[__name__], __name__)
    with _quietly():
        return [entry for entry in alone.verbs.entries() if not entry.is_ours], alone.left_out()


def says(entry: Entry) -> str:
    """What a brought verb is for, in a line, and whose it is."""
    first = entry.help or ("" if isinstance(entry.target, str) else _first_line(entry.target))
    return f"{first} ({entry.origin})".strip()


def brought_verb(name: str) -> Verb:
    """The verb *name* of an installed package, as one of ours: an error of its own is noted with whose it is.

    Raises:
        UnknownName: If its plugin is left out, with why.
        FeedbackError: If it is not where the plugin says.
    """
    from smp_feedback.registry.public import catalogue

    with _quietly():
        part, entry = catalogue().verbs[name], catalogue().verbs.entry(name)

    def verb(parser: ArgumentParser) -> Run:
        with catalogue().verbs.noting(name):
            run = part(parser)
        if not callable(run):
            raise InvalidType(
                f"verb {entry.name!r} of {entry.origin} gave {run!r:.40}: expected a function of the parsed arguments, "
                "which runs it."
            )

        def noted(args: Any) -> int | None:
            with catalogue().verbs.noting(name):
                return _status(run(args), entry)

        return noted

    verb.__name__, verb.__doc__ = entry.name, getattr(part, "__doc__", None) or entry.help
    return verb


def known_verbs(brought: Sequence[Entry]) -> list[str]:
    """Every word that may come first."""
    return [*SHORT, *(entry.name for entry in brought)]


def _status(ended: Any, entry: Entry) -> int | None:
    """The process's exit status, as a verb gave it."""
    if ended is None or (isinstance(ended, int) and not isinstance(ended, bool)):
        return ended
    raise InvalidType(
        f"verb {entry.name!r} of {entry.origin} ended with {ended!r:.40}: expected an exit status, or None."
    )


def _passed_over(name: str, target: Any = None, *_: Any, **more: Any) -> Any:
    return (lambda part: part) if target is None else target


def _first_line(documented: object) -> str:
    return (getattr(documented, "__doc__", None) or "").strip().partition("\n")[0]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """What plugins print while they are imported does not mix with ours; one that is left out is a line on stderr."""
    from smp_feedback.cli.listing import warnings_on_a_line

    with contextlib.redirect_stdout(sys.stderr), warnings_on_a_line():
        yield
