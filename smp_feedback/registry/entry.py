"""One registered part: its name, what it is or where, and who brought it. Imports no torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import Any

from smp_feedback.errors import (
    FeedbackError,
    InvalidType,
    InvalidValue,
    PluginWarning,
    UnknownKeyword,
    nearest,
    one_line,
)

OURS = "smp_feedback"


@dataclass(frozen=True)
class Entry:
    """One registered part: its name as its author spells it, the part or its address, who brought it.

    Attributes:
        name: The name.
        target: The part, or its address.
        origin: Who brought it.
        aliases: What else it is called.
        feedback: The loop that ``feedback=True`` means for this architecture, as a dict; None is the usual one.
        members: Of a family ``source/*``, what gives the names after the slash.
        member: Of one of a family, its name after the slash.
        help: Of a verb, what it does, in a line.
    """

    name: str
    target: object
    origin: str
    aliases: tuple[str, ...] = ()
    feedback: Mapping[str, Any] | None = None
    members: Callable[[], Iterable[str]] | None = None
    member: str | None = None
    help: str = ""

    @property
    def is_family(self) -> bool:
        """Whether it stands for all names that begin as it does."""
        return self.name.endswith("/*")

    @property
    def is_ours(self) -> bool:
        """Whether it comes with this package."""
        return self.origin == OURS

    def part(self, kind: str) -> object:
        """The part itself, imported if only its address is known.

        Raises:
            FeedbackError: If it is not there, or its module fails.
        """
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        try:
            return attrgetter(attribute)(import_module(module))
        except (Exception, SystemExit) as error:  # a module may do anything at import
            where = f"{kind} {self.name!r} of {self.origin} is not at {self.target!r}"
            raise FeedbackError(f"{where}: {one_line(error)}") from error

    def is_same_part(self, other: Entry) -> bool:
        """Whether *other* is the same, or its redefinition (a notebook cell that ran twice)."""
        old, new = self.target, other.target
        if old is new or (isinstance(old, str | Mapping) and old == new):
            return True
        if isinstance(old, Mapping) and isinstance(new, Mapping):  # which does not say what it is called
            return self.origin == other.origin == "__main__"
        where = [(getattr(part, "__module__", None), getattr(part, "__qualname__", "<")) for part in (old, new)]
        return where[0] == where[1] and "<" not in str(where[0][1])

    def listed(self) -> tuple[str, ...]:
        """The names after the slash; none if the family fails to list them, so that it hides nobody else's."""
        try:
            return () if self.members is None else tuple(map(str, self.members()))
        except Exception as error:
            said = f"{self.name!r} of {self.origin} cannot list its members: {one_line(error)}"
            warnings.warn(said, PluginWarning, stacklevel=4)
            return ()


def checked_names(kind: str, name: str, aliases: Iterable[str]) -> tuple[str, ...]:
    """*name* and *aliases*, each a non-empty string."""
    if isinstance(aliases, str):
        raise InvalidType(f"aliases={aliases!r}: give a tuple of names, as in aliases=({aliases!r},).")
    names = (name, *aliases)
    for one in names:
        if not isinstance(one, str) or not one.strip():
            raise InvalidValue(f"{kind} name {one!r}: a name is a non-empty string, as in register('name').")
    return names


def checked_about(kind: str, name: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
    """What else is said of an entry, ``feedback``, ``members`` and ``help``."""
    known = ["aliases", "feedback", "members", "help"]
    for key in sorted(about.keys() - set(known)):
        raise UnknownKeyword(f"{kind} {name!r}: register takes no {key!r}. {nearest(key, known)}")
    if not isinstance(about.get("feedback") or {}, Mapping):
        raise InvalidType(f"{kind} {name!r}: feedback={about['feedback']!r:.80}: expected a loop's config as a dict.")
    if about.get("members") is not None and not callable(about["members"]):
        raise InvalidType(f"{kind} {name!r}: members={about['members']!r:.80}: expected a function that lists names.")
    if not isinstance(about.get("help", ""), str):
        raise InvalidType(f"{kind} {name!r}: help={about['help']!r:.80}: expected what it does, in a line.")
    return about


def home_of(kind: str, name: str, target: object) -> str:
    """The module that *target* comes from; an address names it."""
    if not isinstance(target, str):
        return getattr(target, "__module__", "") or "unknown"
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise InvalidValue(
            f"{kind} {name!r}: {target!r} is no address; expected 'module:attribute', or the part itself."
        )
    return module
