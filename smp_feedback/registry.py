"""Names for things: who brought them, what else they are called, and what you may have meant.

Imports no torch, so no import cycle can pass through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Generic, TypeVar, cast, overload

from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue, NameTaken, UnknownName

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One registered part: its name as its author spells it, the part or its address, who brought it."""

    name: str
    target: object
    origin: str
    aliases: tuple[str, ...] = ()


class Registry(Mapping[str, T], Generic[T]):
    """A case-insensitive mapping from names to parts of one kind.

    A part is an object, or a ``"module:attribute"`` address that is imported when it is first looked up.

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
    def register(self, name: str, target: str, *, aliases: Iterable[str] = (), origin: str = "") -> str: ...
    @overload
    def register(self, name: str, target: T, *, aliases: Iterable[str] = (), origin: str = "") -> T: ...
    @overload
    def register(
        self, name: str, target: None = None, *, aliases: Iterable[str] = (), origin: str = ""
    ) -> Callable[[T], T]: ...

    def register(self, name: str, target: object = None, *, aliases: Iterable[str] = (), origin: str = "") -> object:
        """Add *target* under *name* and *aliases*; without a target, return a decorator that does."""
        names = self._checked_names(name, aliases)
        if target is None:
            return lambda part: self.register(name, part, aliases=names[1:], origin=origin)
        home = _home(self.kind, name, target)
        entry = Entry(name, target, origin or home, names[1:])
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
        try:
            return self._entries[name.lower()]
        except KeyError:
            raise UnknownName(self.kind, name, self) from None

    def __getitem__(self, name: str) -> T:
        entry = self.entry(name)
        if isinstance(entry.target, str):
            module, _, attribute = entry.target.partition(":")
            try:
                return cast(T, getattr(import_module(module), attribute))
            except (ImportError, AttributeError) as error:
                raise FeedbackError(
                    f"{self.kind} {entry.name!r} of {entry.origin} is not at {entry.target!r}: {error}"
                ) from error
        return cast(T, entry.target)

    def __iter__(self) -> Iterator[str]:
        return (e.name for key, e in sorted(self._entries.items()) if key == e.name.lower())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._entries

    def names(self, pattern: str = "*") -> list[str]:
        """The names that match *pattern* (shell wildcards, case-insensitive), sorted."""
        return [name for name in self if fnmatchcase(name.lower(), pattern.lower())]

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
