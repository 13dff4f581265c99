"""Names for things: who brought them, what else they are called, and what you may have meant.

Imports no torch, so no import cycle can pass through it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Generic, Protocol, TypeVar, cast, overload

from smp_feedback.errors import InvalidType, NameTaken, UnknownName
from smp_feedback.registry.entry import Entry, checked_about, checked_names, home_of

T = TypeVar("T")


class Supply(Protocol):
    """Where names come from that are not there yet: the installed plugins."""

    def load(self) -> None:
        """Register them all; the second time nothing is left to do."""

    def left_out(self) -> str:
        """A sentence on what is not among them, and why; empty where nothing is missing."""


class Registry(Mapping[str, T], Generic[T]):
    """A case-insensitive mapping from names to parts of one kind.

    A part is an object, or a ``"module:attribute"`` address that is imported when it is first looked up. A name that
    ends in ``/*`` is a family: its part takes the name after the slash as its first argument.

    Args:
        kind: What the names stand for, singular; error messages use it.
        expected: What a part is, in words.
        needs: Attributes that every part has; ``__call__`` where it is called.
        supply: Brings more names when one is asked for that is not here, or when all are.

    Attributes:
        beside: Registries whose names are taken here, too: one keyword takes a name of any of them.

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

    def __init__(
        self, kind: str, expected: str = "", needs: tuple[str, ...] = (), supply: Supply | None = None
    ) -> None:
        self.kind, self._expected, self._needs, self._supply = kind, expected, needs, supply
        self._entries: dict[str, Entry] = {}
        self.beside: tuple[Registry[Any], ...] = ()

    @overload
    def register(
        self, name: str, target: str, aliases: Iterable[str] = (), *, origin: str = "", **about: Any
    ) -> str: ...
    @overload
    def register(self, name: str, target: T, aliases: Iterable[str] = (), *, origin: str = "", **about: Any) -> T: ...
    @overload
    def register(
        self, name: str, target: None = None, aliases: Iterable[str] = (), *, origin: str = "", **about: Any
    ) -> Callable[[T], T]: ...

    def register(
        self, name: str, target: object = None, aliases: Iterable[str] = (), *, origin: str = "", **about: Any
    ) -> object:
        """Add *target* under *name* and *aliases*; without a target, return a decorator that does.

        *about* is what else an :class:`Entry` says: ``feedback=``, ``members=``, ``help=``.
        """
        names, about = checked_names(self.kind, name, aliases), dict(checked_about(self.kind, name, about))
        if target is None:
            return lambda part: self.register(name, part, aliases=names[1:], origin=origin, **about)
        home = home_of(self.kind, name, target)
        entry = Entry(name, target, origin or home, names[1:], **about)
        if not isinstance(target, str):
            self._check_part(entry, target)
        self._check_free(entry)
        kept = {key: old for key, old in self._entries.items() if old.name != name}  # a redefinition takes all along
        self._entries = kept | dict.fromkeys(map(str.lower, names), entry)
        return target

    def _check_part(self, entry: Entry, part: object) -> None:
        if any(not hasattr(part, need) for need in self._needs):
            who = f"{self.kind} {entry.name!r} of {entry.origin}"
            raise InvalidType(f"{who} is {part!r:.80}: expected {self._expected}.")

    def _check_free(self, entry: Entry) -> None:
        """Its names are nobody else's, and of nobody's family: who asks for one of those is led to the family."""
        for one in (entry.name, *entry.aliases):
            old = self._entries.get(one.lower()) or self._family(one)[0]
            if old is None and one.endswith("/*"):
                source = one[:-1].lower()
                old = next((other for key, other in self._entries.items() if key.startswith(source)), None)
            if old is not None and (old.name != entry.name or not old.is_same_part(entry)):
                raise NameTaken(
                    f"{self.kind} {one!r} belongs to {old.origin} (as {old.name!r}); {entry.origin} needs another name."
                )
            for other in self.beside:
                if other.is_here(one):
                    raise NameTaken(
                        f"{self.kind} {one!r}: a {other.kind} of {other.entry(one).origin} is called so, and one name "
                        f"stands for both; {entry.origin} needs another name."
                    )

    def entry(self, name: str) -> Entry:
        """The entry behind *name* or one of its aliases, not yet imported."""
        if not isinstance(name, str):
            raise InvalidType(f"{self.kind} {name!r}: expected a name (str), got {type(name).__name__}.")
        if not self.is_here(name):
            self._load()
        family, member = self._family(name)
        if family is not None:
            one = self._checked_member(family, member)
            return replace(family, name=family.name[:-1] + one, member=one)
        try:
            return self._entries[name.lower()]
        except KeyError:
            hint = "" if self._supply is None else self._supply.left_out()
            raise UnknownName(self.kind, name, self, hint) from None

    def make(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """What the part called *name* gives for these arguments; an error of its own is noted with who brought it.

        The error stays what it is. Its note is shown below the traceback, from Python 3.11 on.
        """
        part = cast("Callable[..., Any]", self[name])
        with self.noting(name):
            return part(*args, **kwargs)

    @contextmanager
    def noting(self, name: str, said: str = "Raised by") -> Iterator[None]:
        """An error raised inside is noted with who brought the part called *name*; *said* is what it has to do with."""
        try:
            yield
        except Exception as error:
            entry = self.entry(name)
            if not entry.is_ours and hasattr(error, "add_note"):
                error.add_note(f"({said} {self.kind} {entry.name!r} of {entry.origin}.)")
            raise

    def brought(self, name: str) -> str:
        """`` of`` who brought the part called *name*, to be said behind it; nothing of ours."""
        entry = self.entry(name)
        return "" if entry.is_ours else f" of {entry.origin}"

    def is_here(self, name: str) -> bool:
        """Whether *name*, or the family it is of, is registered so far; loads no plugin."""
        return name.lower() in self._entries or self._family(name)[0] is not None

    def name_of(self, part: object) -> str | None:
        """The name under which *part*, or its address, is registered; a built-in's comes before a plugin's."""
        address = f"{getattr(part, '__module__', '')}:{getattr(part, '__qualname__', '')}"
        for load in (False, True):
            if load:
                self._load()
            for entry in self._entries.values():
                if entry.target is part or entry.target == address:
                    return entry.name
        return None

    def _load(self) -> None:
        if self._supply is not None:
            self._supply.load()

    def _family(self, name: str) -> tuple[Entry | None, str]:
        """The family of *name*, if it belongs to one, and the name after the slash."""
        source, slash, member = name.partition("/")
        family = self._entries.get(f"{source.lower()}/*") if slash else None
        return family, member

    def _checked_member(self, family: Entry, member: str) -> str:
        known = {name.lower(): name for name in family.listed()}
        name, dot, tag = member.lower().partition(".")  # timm's way to name pretrained weights
        if name not in known:
            source = family.name[:-1]
            raise UnknownName(self.kind, source + member, (source + name for name in known.values()))
        return known[name] + dot + tag

    def __getitem__(self, name: str) -> T:
        entry = self.entry(name)
        part = entry.part(self.kind)
        self._check_part(entry, part)
        if entry.member is not None:
            part = functools.partial(cast("Callable[..., Any]", part), entry.member)
        return cast(T, part)

    def __iter__(self) -> Iterator[str]:
        """Every name but those of families."""
        return (entry.name for entry in self._sorted() if not entry.is_family)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if not self.is_here(name):
            self._load()
        family, member = self._family(name)
        if family is not None:
            return member.lower().partition(".")[0] in map(str.lower, family.listed())
        return name.lower() in self._entries and not name.endswith("/*")

    def names(self, pattern: str = "*") -> list[str]:
        """The names that match *pattern* (shell wildcards, case-insensitive), sorted.

        Those of families, of which there may be a thousand, only if the pattern has a slash: ``"timm/*"``.
        """
        return [entry.name for entry in self.entries(pattern) if not entry.is_family]

    def entries(self, pattern: str = "*") -> list[Entry]:
        """The entries behind :meth:`names`; where the pattern has no slash, a family stands for its members."""
        found = self._sorted()
        if "/" in pattern:
            families = [entry for entry in found if entry.is_family]
            found = [entry for entry in found if not entry.is_family]
            members = [
                replace(one, name=one.name[:-1] + name, member=name) for one in families for name in one.listed()
            ]
            found += sorted(members, key=lambda entry: entry.name)
        return [entry for entry in found if fnmatchcase(entry.name.lower(), pattern.lower())]

    def _sorted(self) -> list[Entry]:
        self._load()
        return [entry for key, entry in sorted(self._entries.items()) if key == entry.name.lower()]

    def origin(self, name: str) -> str:
        """Who brought *name*: a distribution with its version, or a module."""
        return self.entry(name).origin

    def attribute(self, package: str, origin: str) -> None:
        """What modules of *package* registered by themselves was brought by *origin*."""
        theirs = {key: one for key, one in self._entries.items() if f"{one.origin}.".startswith(f"{package}.")}
        self._entries = self._entries | {key: replace(one, origin=origin) for key, one in theirs.items()}

    def copy(self) -> Registry[T]:
        """A registry with the same entries, to be filled on trial."""
        self._load()
        twin: Registry[T] = Registry(self.kind, self._expected, self._needs)
        twin.replace(self)
        return twin

    def replace(self, other: Registry[T]) -> None:
        """Take over the entries of *other*."""
        self._entries = dict(other._entries)
