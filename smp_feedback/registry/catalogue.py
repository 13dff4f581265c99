"""All registries, and the plugins that fill them: each is let in whole or not at all, and only when it is asked for."""

from __future__ import annotations

import functools
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

from smp_feedback.errors import InvalidValue, PluginWarning, one_line
from smp_feedback.hookspecs import Register
from smp_feedback.registry.entry import OURS
from smp_feedback.registry.foretold import Names, foretold
from smp_feedback.registry.plugins import (
    KINDS,
    Plugin,
    admit,
    check_wanted_version,
    found,
    installed_points,
    is_disabled,
    is_under_way,
    once,
    wrongly_disabled,
)
from smp_feedback.registry.registry import Registry

SETTLED = ("segmentation_models_pytorch.", "smp_feedback.", "torch.", "builtins.")
"""Modules whose classes are cut as we say: they are opened without asking the plugins."""


class Catalogue:
    """Every registry. Names that are not built in come from plugins, which are loaded when the first one is asked for.

    Args:
        points: Lists the entry points of the plugins; called when the first name is asked for that is not here.

    Attributes:
        plugins: What became of the plugins so far.
    """

    def __init__(self, points: Callable[[], Iterable[EntryPoint]] = installed_points) -> None:
        registry = functools.partial(Registry, supply=self)
        called = ("__call__",)
        self.architectures: Registry[Callable[..., Any]] = registry("architecture", "a function or class", called)
        self.cuts: Registry[Any] = registry("cut", "a smp_feedback.Cut", ("body", "head"))
        self.loops: Registry[Any] = registry(
            "loop", "a subclass of smp_feedback.FeedbackModel", ("config_class", "close")
        )
        self.dynamics: Registry[Any] = registry(
            "dynamics", "a subclass of smp_feedback.dynamics.Dynamics", ("check", "begin")
        )
        self.projections: Registry[Any] = registry(
            "projection", "a subclass of smp_feedback.projections.Projection", ("before",)
        )
        self.restorers: Registry[Callable[..., Any]] = registry("restorer", "a function or class", called)
        self.losses: Registry[Any] = registry("loss", "a class", called)
        self.datasets: Registry[Callable[..., Any]] = registry("dataset", "a function or class", called)
        self.corruptions: Registry[Callable[..., Any]] = registry("corruption", "a function", called)
        self.plugins: list[Plugin] = []
        self._untold: list[str] = []  # what nobody has been warned of
        self._points = points
        self._waiting: list[EntryPoint] | None = None  # None: nobody has looked yet
        self._lock, self._loading = threading.RLock(), False

    def registries(self) -> dict[str, Registry[Any]]:
        """The registries by the kind in their hook's name, plural."""
        return {kind: getattr(self, kind) for kind in KINDS.values()}

    def admit_built_in(self, module: object, name: str) -> None:
        """Let a module of this package register what it brings."""
        admit(module, name, {kind: self._pen(kind, OURS) for kind in KINDS.values()})

    def load(self) -> None:
        """Let in the plugins that wait; a plugin that looks something up meanwhile finds what is here so far."""
        if self._waiting == [] and not self._untold:
            return
        with self._lock:
            if self._loading:
                return
            self._loading = True
            try:
                self._admit_waiting()
            finally:
                self._loading = False
        with suppress(IndexError):  # told when all others are in: they are, too, where warnings are errors
            while True:
                warnings.warn(self._untold.pop(0), PluginWarning, stacklevel=4)  # by one thread only

    def explain(self, kind: str, name: str) -> dict[str, str]:
        """Which plugin would have brought *name* and why it did not, as :class:`UnknownName` is told."""
        plural = next(plural for plural, registry in self.registries().items() if registry.kind == kind)
        asked = {name.lower(), f"{name.partition('/')[0].lower()}/*"}
        left_out = [plugin for plugin in self.plugins if plugin.state != "loaded"]
        for plugin in left_out:
            if asked & {one.lower() for one in plugin.brought.get(plural, ())}:
                return {"why": f"It would have come with {plugin.origin}, which is {plugin.why}"}
        if silent := [plugin.origin for plugin in left_out if not plugin.brought]:
            return {"hint": f"Or it is of a plugin that is left out ({', '.join(silent)}): see smp-feedback plugins."}
        return {}

    def _admit_waiting(self) -> None:
        if self._waiting == []:
            return
        if self._waiting is None:
            self._waiting = once(self._points())
        for point in list(self._waiting):
            if not is_under_way(point):
                plugin = self._admitted(point)
                self._waiting.remove(point)
                self.plugins.append(plugin)
                if plugin.state == "broken":
                    self._untold.append(f"Plugin {plugin.name!r} of {plugin.origin} is {plugin.why}")
        if not self._waiting:
            self._untold += wrongly_disabled(self.plugins)

    def _admitted(self, point: EntryPoint) -> Plugin:
        """What became of the plugin at *point*."""
        plugin, tried = Plugin(point.name), dict[str, list[str]]()
        try:
            plugin = found(point)
            if is_disabled(plugin):
                return replace(plugin, state="disabled", brought=foretold(point, self._said_as()))
            pens = {kind: self._pen(kind, plugin.origin, tried.setdefault(kind, [])) for kind in KINDS.values()}
            with self._all_or_nothing() as before:
                check_wanted_version(point)
                admit(point.load(), point.name, pens)
                for registry in self.registries().values():  # what its decorators registered, when it was imported
                    registry.attribute(point.module.partition(".")[0], plugin.origin)
            return replace(plugin, brought=self._since(before))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may do anything at import: exit, too
            about = _merged(tried, foretold(point, self._said_as()))
            told = {"error": one_line(error), "traceback": traceback.format_exc()}
            return replace(plugin, state="broken", brought=about, **told)

    def _pen(self, kind: str, origin: str, tried: list[str] | None = None) -> Register:
        """The ``register`` that a plugin is handed; it keeps in *tried* what was asked of it."""
        registry = self.registries()[kind]

        def register(name: str, target: Any = None, aliases: Iterable[str] = (), **about: Any) -> Any:
            aliases = aliases if isinstance(aliases, str) else tuple(aliases)
            if tried is not None:
                tried.extend([name] if isinstance(aliases, str) else [name, *aliases])
            if kind == "cuts" and origin != OURS and str(name).startswith(SETTLED):
                raise InvalidValue(
                    f"cut {name!r}: smp_feedback cuts that class; register the cut of a class of your own."
                )
            return registry.register(name, target, aliases=aliases, origin=origin, **about)

        return register

    @contextmanager
    def _all_or_nothing(self) -> Iterator[dict[str, Registry[Any]]]:
        """Whatever was registered inside is forgotten if it ends in an error."""
        before = {kind: registry.copy() for kind, registry in self.registries().items()}
        try:
            yield before
        except BaseException:
            for kind, registry in self.registries().items():
                registry.replace(before[kind])
            raise

    def _since(self, before: dict[str, Registry[Any]]) -> Names:
        """The names that are new, by kind, or have become somebody else's."""
        old = {kind: {(one.name, one.origin) for one in registry.entries()} for kind, registry in before.items()}
        now = {
            kind: [(one.name, one.origin) for one in registry.entries()] for kind, registry in self.registries().items()
        }
        new = {kind: tuple(one[0] for one in now[kind] if one not in old[kind]) for kind in now}
        return {kind: names for kind, names in new.items() if names}

    def _said_as(self) -> dict[str, str]:
        """The kinds by the hooks and the public functions that register them."""
        return KINDS | {f"register_{registry.kind}": kind for kind, registry in self.registries().items()}


def _merged(tried: Mapping[str, Iterable[Any]], written: Names) -> Names:
    """What a plugin asked for and what its source tells, by kind, each name once."""
    both = {kind: [*tried.get(kind, ()), *written.get(kind, ())] for kind in {**written, **tried}}
    named = {
        kind: tuple(dict.fromkeys(name for name in names if isinstance(name, str))) for kind, names in both.items()
    }
    return {kind: names for kind, names in named.items() if names}
