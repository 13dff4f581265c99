"""Plugins: found where they are installed, asked for what they need, and let in by their hooks. Imports no torch."""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from itertools import accumulate
from typing import Any, Literal

import pluggy
from packaging.requirements import InvalidRequirement, Requirement

from smp_feedback import hookspecs
from smp_feedback._version import __version__
from smp_feedback.errors import FeedbackError, nearest
from smp_feedback.hookspecs import PROJECT, Register

DISABLE = "SMP_FEEDBACK_DISABLE_PLUGINS"  # 1: all of them; or names of plugins or distributions, with commas between
State = Literal["loaded", "broken", "disabled"]
HOOKS = [name for name, hook in vars(hookspecs).items() if hasattr(hook, f"{PROJECT}_spec")]
KINDS = {hook: hook.removeprefix("register_") for hook in HOOKS}
"""Each hook, and the kind of part that it registers, plural."""


@dataclass(frozen=True)
class Plugin:
    """One installed plugin, and what became of it.

    Attributes:
        name: Of its entry point.
        distribution: The installed distribution that it belongs to; None where none is known.
        version: Of the distribution.
        state: ``loaded``, ``broken`` (left out, with *error*) or ``disabled`` (never imported).
        error: What went wrong, on one line.
        traceback: Where it went wrong.
        brought: The names it brought, by kind ("architectures"); none of one that is left out.
    """

    name: str
    distribution: str | None = None
    version: str | None = None
    state: State = "loaded"
    error: str | None = None
    traceback: str | None = field(default=None, repr=False)
    brought: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def origin(self) -> str:
        """Who it is to a reader: its distribution and version, else its own name.

        >>> Plugin("vit", "smp-feedback-vit", "0.1").origin, Plugin("vit").origin
        ('smp-feedback-vit 0.1', 'vit')
        """
        return self.name if self.distribution is None else f"{self.distribution} {self.version or ''}".strip()

    @property
    def why(self) -> str:
        """Why it is not loaded, as the end of a sentence."""
        return f"disabled by {DISABLE}." if self.state == "disabled" else f"left out: {self.error}"

    def to_dict(self) -> dict[str, Any]:
        """Every attribute, as JSON has it.

        >>> Plugin("vit", brought={"losses": ("steady",)}).to_dict()["brought"]
        {'losses': ['steady']}
        """
        return {**vars(self), "brought": {kind: list(names) for kind, names in self.brought.items()}}


def once(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """*points* without those that say the same again, as a wheel's metadata beside an editable install's."""
    first: dict[tuple[str, str], EntryPoint] = {}
    for point in points:
        first.setdefault((point.name, point.value), point)
    return list(first.values())


def in_order(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """*points* by distribution and name: which of two plugins wins a name depends on nothing else."""
    return sorted(points, key=lambda point: (point.dist.name.lower() if point.dist else "", point.name))


def found(point: EntryPoint) -> Plugin:
    """The plugin that *point* names, before it is loaded."""
    about: Any = {} if point.dist is None else point.dist.metadata
    return Plugin(point.name, about.get("Name"), about.get("Version"))


def is_disabled(plugin: Plugin) -> bool:
    """Whether the environment says that *plugin* shall not be loaded; case, - and _ do not matter."""
    words = _disabled()
    return words == {"1"} or not words.isdisjoint(_names(plugin))


def wrongly_disabled(plugins: Iterable[Plugin]) -> list[str]:
    """A sentence for each word that the environment disables and that names none of the installed *plugins*."""
    known = sorted({name for plugin in plugins for name in _names(plugin)})
    wrong = sorted(_disabled() - {"1"} - set(known))
    return [f"{DISABLE}: no plugin is called {one!r}. {nearest(one, known)}" for one in wrong]


def _disabled() -> set[str]:
    return {normal_name(word) for word in os.environ.get(DISABLE, "").split(",")} - {""}


def _names(plugin: Plugin) -> set[str]:
    return {normal_name(plugin.name), normal_name(plugin.distribution or "")} - {""}


def is_under_way(point: EntryPoint) -> bool:
    """Whether the module of *point*, or its package, is being imported by whoever asks: it is not whole yet."""
    packages = list(accumulate(point.value.partition(":")[0].split("."), "{}.{}".format))
    frames = (frame for frame, _ in traceback.walk_stack(None))
    return any(one.f_code.co_name == "<module>" and one.f_globals.get("__name__") in packages for one in frames)


def check_wanted_version(point: EntryPoint) -> None:
    """The distribution of *point* can work with this version of smp_feedback.

    Raises:
        FeedbackError: If its requirements say that it cannot.
    """
    for line in (point.dist.requires if point.dist is not None else None) or ():
        try:
            wanted = Requirement(line)
        except InvalidRequirement:  # pip's to complain of
            continue
        if normal_name(wanted.name) != normal_name(PROJECT) or (
            wanted.marker and not wanted.marker.evaluate({"extra": ""})
        ):
            continue
        if not wanted.specifier.contains(__version__, prereleases=True):
            raise FeedbackError(f"it needs {PROJECT}{wanted.specifier}; this is {PROJECT} {__version__}.")


def normal_name(name: str) -> str:
    """*name* as packages are compared: case, ``-``, ``_`` and ``.`` do not matter.

    >>> normal_name("SMP_Feedback.ViT")
    'smp-feedback-vit'
    """
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def admit(plugin: object, name: str, pens: Mapping[str, Register]) -> None:
    """Let *plugin* register what it brings.

    Args:
        plugin: A module, or any object with hooks.
        name: The plugin's.
        pens: For each kind the ``register`` that its hook is handed.

    Raises:
        FeedbackError: If it misspells a hook or forgot to mark one.
        Exception: Whatever else it raises.
    """
    _check_spelled(plugin)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name)
    manager.check_pending()
    for hook, kind in KINDS.items():
        _check_marked(plugin, hook)
        getattr(manager.hook, hook)(register=pens[kind])


def _check_spelled(plugin: object) -> None:
    for name, routine in inspect.getmembers(plugin, inspect.isroutine):
        mark = getattr(routine, f"{PROJECT}_impl", None)
        if mark is not None and (said := mark["specname"] or name) not in HOOKS:
            raise FeedbackError(f"{said} is no hook. {nearest(said, HOOKS)}")


def _check_marked(plugin: object, hook: str) -> None:
    said = getattr(plugin, hook, None)  # the public function of the same name, imported there, is no hook
    own = getattr(said, "__module__", None) == getattr(plugin, "__name__", "")
    if own and not hasattr(said, f"{PROJECT}_impl"):
        raise FeedbackError(f"{hook} is not marked: decorate it with smp_feedback.hookspecs.hookimpl.")
