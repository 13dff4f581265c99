"""All registries, and the plugins that fill them: each is let in whole or not at all, and only when it is asked for."""

from __future__ import annotations

import functools
import re
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

from smp_feedback.errors import InvalidValue, NameTaken, PluginWarning, one_line
from smp_feedback.hookspecs import Register
from smp_feedback.registry.entry import OURS
from smp_feedback.registry.installed import installed_points
from smp_feedback.registry.plugins import (
    KINDS,
    Plugin,
    admit,
    check_wanted_version,
    found,
    is_disabled,
    is_under_way,
    once,
    wrongly_disabled,
)
from smp_feedback.registry.registry import Registry

SETTLED = ("segmentation_models_pytorch.", "smp_feedback.", "torch.", "builtins.")
"""Modules whose classes are cut as we say: they are opened without asking the plugins."""


TIMMS = ("tu-", "timm-")
"""How names of encoders begin that smp looks up in timm."""
LENT = "smp_feedback"
"""What marks an encoder that stands among smp's because somebody registered it here."""


class Catalogue:
    """Every registry. Names that are not built in come from plugins, which are loaded when the first one is asked for.

    Args:
        points: Lists the entry points of the plugins, and those that cannot be read, as plugins that are broken; called
            when the first name is asked for that is not here.

    Attributes:
        plugins: What became of the plugins so far.
    """

    def __init__(self, points: Callable[[], Iterable[EntryPoint | Plugin]] = installed_points) -> None:
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
        self.presets: Registry[Mapping[str, Any]] = registry("preset", "a loop's config as a dict", ("keys",))
        self.loops.beside, self.presets.beside = (self.presets,), (self.loops,)  # feedback= takes either's name
        self.restorers: Registry[Callable[..., Any]] = registry("restorer", "a function or class", called)
        self.losses: Registry[Any] = registry("loss", "a class", called)
        self.datasets: Registry[Callable[..., Any]] = registry("dataset", "a function or class", called)
        self.corruptions: Registry[Callable[..., Any]] = registry("corruption", "a function", called)
        self.augmentations: Registry[Callable[..., Any]] = registry("augmentation", "a function or class", called)
        self.metrics: Registry[Any] = registry(
            "metric", "a smp_feedback.evaluation.metrics.NamedMetric", ("shares", "of_all", "best", "tasks")
        )
        self.encoders: Registry[Callable[..., Any]] = registry("encoder", "a class", called)
        self.verbs: Registry[Callable[..., Any]] = registry("verb", "a function", called)
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
        admit(module, name, self._pens(OURS))

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

    def left_out(self) -> str:
        """A sentence on the plugins that are not here, and why; empty where all are."""
        said = [f"{one.origin} is {one.why.rstrip('.')}" for one in self.plugins if one.state != "loaded"]
        return f"Or it is of a plugin that is not loaded: {'; '.join(said)}." if said else ""

    def _admit_waiting(self) -> None:
        if self._waiting == []:
            return
        if self._waiting is None:
            listed = list(self._points())
            self._waiting = once(point for point in listed if not isinstance(point, Plugin))
            for damaged in (one for one in listed if isinstance(one, Plugin)):
                self._noted(damaged)
        for point in list(self._waiting):
            if not is_under_way(point):
                plugin = self._admitted(point)
                self._waiting.remove(point)
                self._noted(plugin)
        if not self._waiting:
            self._untold += wrongly_disabled(self.plugins)

    def _noted(self, plugin: Plugin) -> None:
        """Note what became of *plugin*, of which somebody is to be told if it is broken."""
        self.plugins.append(plugin)
        if plugin.state == "broken":
            self._untold.append(f"Plugin {plugin.name!r} of {plugin.origin} is {plugin.why}")

    def _admitted(self, point: EntryPoint) -> Plugin:
        """What became of the plugin at *point*."""
        plugin = Plugin(point.name)
        try:
            plugin = found(point)
            if is_disabled(plugin):
                return replace(plugin, state="disabled")
            with self._all_or_nothing() as before:
                check_wanted_version(point)
                admit(point.load(), point.name, self._pens(plugin.origin))
                for registry in self.registries().values():  # what its decorators registered, when it was imported
                    registry.attribute(point.module.partition(".")[0], plugin.origin)
            return replace(plugin, brought=self._since(before))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may do anything at import: exit, too
            return replace(plugin, state="broken", error=one_line(error), traceback=traceback.format_exc())

    def _pens(self, origin: str) -> dict[str, Register]:
        """For each kind the ``register`` that *origin* is handed."""
        every = self.registries().items()
        pens: dict[str, Register] = {kind: functools.partial(_register, one, origin) for kind, one in every}
        if origin == OURS:
            return pens
        own = {
            "cuts": register_cut_of_its_own,
            "encoders": register_encoder_of_its_own,
            "verbs": register_verb_as_typed,
        }
        return pens | {kind: functools.partial(pen, pens[kind]) for kind, pen in own.items()}

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

    def _since(self, before: dict[str, Registry[Any]]) -> dict[str, tuple[str, ...]]:
        """The names that are new, by kind, or have become somebody else's."""
        new = {}
        for kind, registry in self.registries().items():
            old = {(one.name, one.origin) for one in before[kind].entries()}
            new[kind] = tuple(one.name for one in registry.entries() if (one.name, one.origin) not in old)
        return {kind: names for kind, names in new.items() if names}


def _register(
    registry: Registry[Any], origin: str, name: str, target: Any = None, aliases: Iterable[str] = (), **about: Any
) -> Any:
    """As *origin* registers, which cannot call itself otherwise."""
    return registry.register(name, target, aliases=aliases, origin=origin, **about)


def register_cut_of_its_own(register: Register, name: str, *args: Any, **more: Any) -> Any:
    """As a plugin registers a cut: not that of a class which we cut."""
    if str(name).startswith(SETTLED):
        raise InvalidValue(f"cut {name!r}: smp_feedback cuts that class; register the cut of a class of your own.")
    return register(name, *args, **more)


def register_encoder_of_its_own(
    register: Register, name: str, target: Any = None, aliases: Iterable[str] = (), **more: Any
) -> Any:
    """As anybody registers an encoder: not under a name that is smp's, or that smp takes for one of timm's."""
    from segmentation_models_pytorch import encoders

    smps = {one.lower() for one, told in encoders.encoders.items() if LENT not in told}
    for one in (name, *aliases):
        said = str(one).lower()
        if said in smps or said.startswith(TIMMS):
            whose = "segmentation_models_pytorch has an encoder of that name" if said in smps else "such are timm's"
            raise NameTaken(f"encoder {one!r}: {whose}; give yours another.")
    return register(name, target, aliases, **more)


def register_verb_as_typed(register: Register, name: str, target: Any = None, **more: Any) -> Any:
    """As a plugin registers a verb: under one word that a shell takes as it is."""
    if not re.fullmatch(r"[A-Za-z]\w*(-\w+)*", str(name)):
        raise InvalidValue(f"verb {name!r}: expected one word of letters, digits, _ and -, as it is typed.")
    if "aliases" in more:
        raise InvalidValue(
            f"verb {name!r}: aliases={more['aliases']!r}: a verb has one name, as it stands in the help."
        )
    return register(name, target, **more)
