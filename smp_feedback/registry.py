"""Names for things: who brought them, what else they are called, and what you may have meant.

Imports no torch, so no import cycle can pass through it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any, Generic, TypeVar, cast, overload

from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue, NameTaken, UnknownName

T = TypeVar("T")


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
    """

    name: str
    target: object
    origin: str
    aliases: tuple[str, ...] = ()
    feedback: Mapping[str, Any] | None = None
    members: Callable[[], Iterable[str]] | None = None
    member: str | None = None


class Registry(Mapping[str, T], Generic[T]):
    """A case-insensitive mapping from names to parts of one kind.

    A part is an object, or a ``"module:attribute"`` address that is imported when it is first looked up. A name that
    ends in ``/*`` is a family: its part takes the name after the slash as its first argument.

    Args:
        kind: What the names stand for, singular; error messages use it.

    Raises:
        UnknownName: On look-up of a name nobody registered; it suggests the closest ones.
        NameTaken: When a second part claims a name or an alias.

    >>> numbers = Registry("number")
    >>> numbers.register("Two", 2, aliases=("deux",))
    2
    >>> numbers["two"], numbers["DEUX"], list(numbers)
    (2, 2, ['Two'])
    >>> numbers["twoo"]
    Traceback (most recent call last):
    smp_feedback.errors.UnknownName: No number is called 'twoo'. Did you mean 'Two'?
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    @overload
    def register(
        self, name: str, target: str, *, aliases: Iterable[str] = (), origin: str = "", **about: Any
    ) -> str: ...
    @overload
    def register(self, name: str, target: T, *, aliases: Iterable[str] = (), origin: str = "", **about: Any) -> T: ...
    @overload
    def register(
        self, name: str, target: None = None, *, aliases: Iterable[str] = (), origin: str = "", **about: Any
    ) -> Callable[[T], T]: ...

    def register(
        self, name: str, target: object = None, *, aliases: Iterable[str] = (), origin: str = "", **about: Any
    ) -> object:
        """Add *target* under *name* and *aliases*; without a target, return a decorator that does.

        *about* is what else an :class:`Entry` says: ``feedback=``, ``members=``.
        """
        names = self._checked_names(name, aliases)
        if target is None:
            return lambda part: self.register(name, part, aliases=names[1:], origin=origin, **about)
        home = _home(self.kind, name, target)
        entry = Entry(name, target, origin or home, names[1:], **about)
        for one in names:
            old = self._entries.get(one.lower())
            if old is not None and (old.name != name or not _same_part(old.target, target)):
                raise NameTaken(
                    f"{self.kind} {one!r} belongs to {old.origin} (as {old.name!r}); {entry.origin} needs another name."
                )
        kept = {key: old for key, old in self._entries.items() if old.name != name}  # a redefinition takes all along
        self._entries = kept | dict.fromkeys(map(str.lower, names), entry)
        return target

    def _checked_names(self, name: str, aliases: Iterable[str]) -> tuple[str, ...]:
        if isinstance(aliases, str):
            raise InvalidType(f"aliases={aliases!r}: give a tuple of names, as in aliases=({aliases!r},).")
        names = (name, *aliases)
        for one in names:
            if not isinstance(one, str) or not one.strip():
                raise InvalidValue(f"{self.kind} name {one!r}: a name is a non-empty string, as in register('name').")
        return names

    def entry(self, name: str) -> Entry:
        """The entry behind *name* or one of its aliases, not yet imported."""
        if not isinstance(name, str):
            raise InvalidType(f"{self.kind} {name!r}: expected a name (str), got {type(name).__name__}.")
        family, member = self._family(name)
        if family is not None:
            one = self._checked_member(family, member)
            return replace(family, name=family.name[:-1] + one, member=one)
        try:
            return self._entries[name.lower()]
        except KeyError:
            raise UnknownName(self.kind, name, self) from None

    def _family(self, name: str) -> tuple[Entry | None, str]:
        """The family of *name*, if it belongs to one, and the name after the slash."""
        source, slash, member = name.partition("/")
        family = self._entries.get(f"{source.lower()}/*") if slash else None
        return family, member

    def _checked_member(self, family: Entry, member: str) -> str:
        known = {name.lower(): name for name in _members(family)}
        name, dot, tag = member.lower().partition(".")  # timm's way to name pretrained weights
        if name not in known:
            source = family.name[:-1]
            raise UnknownName(self.kind, source + member, (source + name for name in known.values()))
        return known[name] + dot + tag

    def __getitem__(self, name: str) -> T:
        entry = self.entry(name)
        part = self._imported(entry) if isinstance(entry.target, str) else entry.target
        if entry.member is not None:
            part = functools.partial(cast("Callable[..., Any]", part), entry.member)
        return cast(T, part)

    def _imported(self, entry: Entry) -> object:
        module, _, attribute = cast(str, entry.target).partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise FeedbackError(
                f"{self.kind} {entry.name!r} of {entry.origin} is not at {entry.target!r}: {error}"
            ) from error

    def __iter__(self) -> Iterator[str]:
        """Every name but those of families."""
        return (e.name for key, e in sorted(self._entries.items()) if key == e.name.lower() and not key.endswith("/*"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        family, member = self._family(name)
        if family is not None:
            return member.lower().partition(".")[0] in {known.lower() for known in _members(family)}
        return name.lower() in self._entries and not name.endswith("/*")

    def names(self, pattern: str = "*") -> list[str]:
        """The names that match *pattern* (shell wildcards, case-insensitive), sorted.

        Those of families, of which there may be a thousand, only if the pattern has a slash: ``"timm/*"``.
        """
        families = self.families() if "/" in pattern else []
        members = [family.name[:-1] + name for family in families for name in _members(family)]
        return [name for name in [*self, *sorted(members)] if fnmatchcase(name.lower(), pattern.lower())]

    def families(self) -> list[Entry]:
        """The families, ``source/*``."""
        return [entry for key, entry in sorted(self._entries.items()) if key.endswith("/*")]

    def origin(self, name: str) -> str:
        """Who brought *name*: a distribution with its version, or a module."""
        return self.entry(name).origin

    def copy(self) -> Registry[T]:
        """A registry with the same entries, to be filled on trial."""
        twin: Registry[T] = Registry(self.kind)
        twin.replace(self)
        return twin

    def replace(self, other: Registry[T]) -> None:
        """Take over the entries of *other*."""
        self._entries = dict(other._entries)


def _members(family: Entry) -> Iterable[str]:
    return () if family.members is None else family.members()


def _home(kind: str, name: str, target: object) -> str:
    """The module that *target* comes from; an address names it."""
    if not isinstance(target, str):
        return getattr(target, "__module__", "") or "unknown"
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise InvalidValue(
            f"{kind} {name!r}: {target!r} is no address; expected 'module:attribute', or the part itself."
        )
    return module


def _same_part(old: object, new: object) -> bool:
    """Whether *new* is *old*, or its redefinition (a notebook cell that ran twice)."""
    if old is new or (isinstance(old, str) and old == new):
        return True
    where = [(getattr(part, "__module__", None), getattr(part, "__qualname__", "<")) for part in (old, new)]
    return where[0] == where[1] and "<" not in str(where[0][1])
