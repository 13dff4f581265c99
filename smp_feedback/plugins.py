"""Opening the door: built-ins first, then whatever is installed; a broken plugin is reported, not fatal."""

from __future__ import annotations

import functools
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from smp_feedback import hookspecs
from smp_feedback.errors import PluginWarning
from smp_feedback.registry import Registry

BUILT_IN = (
    "smp_feedback.builder",
    "smp_feedback.dynamics",
    "smp_feedback.projections",
    "smp_feedback.loops",
    "smp_feedback.losses",
)


@dataclass(frozen=True)
class Plugin:
    """One plugin as found: its name, the distribution that brought it, and what went wrong, if anything."""

    name: str
    distribution: str
    error: str | None = None
    traceback: str | None = field(default=None, repr=False)


@dataclass
class Catalogue:
    """Every registry, filled by one pass over the plugins."""

    architectures: Registry[Callable[..., Any]] = field(default_factory=lambda: Registry("architecture"))
    loops: Registry[Any] = field(default_factory=lambda: Registry("loop"))
    dynamics: Registry[Any] = field(default_factory=lambda: Registry("dynamics"))
    projections: Registry[Any] = field(default_factory=lambda: Registry("projection"))
    losses: Registry[Any] = field(default_factory=lambda: Registry("loss"))
    plugins: list[Plugin] = field(default_factory=list)

    def admit(self, plugin: object, name: str, origin: str) -> None:
        """Let *plugin* register everything it brings; all of it, or nothing if it raises or misspells a hook."""
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        manager.register(plugin, name)
        manager.check_pending()
        drafts = {kind: registry.copy() for kind, registry in self.registries().items()}
        for kind, draft in drafts.items():
            getattr(manager.hook, f"register_{kind}")(register=functools.partial(draft.register, origin=origin))
        for kind, registry in self.registries().items():
            registry.replace(drafts[kind])

    def registries(self) -> dict[str, Registry[Any]]:
        """The registries by the name of their hook."""
        kinds = ("architectures", "loops", "dynamics", "projections", "losses")
        return {kind: getattr(self, kind) for kind in kinds}


def open_catalogue(*, installed: bool = True, found: Iterable[EntryPoint] | None = None) -> Catalogue:
    """A fresh catalogue: built-ins, then the entry points of group ``smp_feedback``, each on its own.

    Args:
        installed: Whether installed third-party plugins are admitted.
        found: The entry points to admit instead of the installed ones (tests).
    """
    catalogue = Catalogue()
    for module in BUILT_IN:
        catalogue.admit(import_module(module), module, origin="smp_feedback")
    if installed:
        for point in entry_points(group=hookspecs.PROJECT) if found is None else found:
            catalogue.plugins.append(_admit_safely(catalogue, point))
    return catalogue


def _admit_safely(catalogue: Catalogue, point: EntryPoint) -> Plugin:
    origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    try:
        catalogue.admit(point.load(), point.name, origin)
    except (Exception, SystemExit) as error:  # a plugin may do anything at import
        warnings.warn(f"Plugin {point.name!r} of {origin} is left out: {error!r}", PluginWarning, stacklevel=2)
        return Plugin(point.name, origin, repr(error), traceback.format_exc())
    return Plugin(point.name, origin)


@functools.cache
def catalogue() -> Catalogue:
    """The catalogue of this process, opened at the first look-up."""
    return open_catalogue()


def list_plugins() -> list[Plugin]:
    """Every third-party plugin that was found, the broken ones with their error.

    >>> isinstance(list_plugins(), list)
    True
    """
    return list(catalogue().plugins)


def list_architectures(pattern: str = "*") -> list[str]:
    """The architectures that match *pattern* (shell wildcards, case-insensitive).

    >>> list_architectures("deeplab*")
    ['DeepLabV3', 'DeepLabV3Plus']
    """
    return catalogue().architectures.names(pattern)


def register_architecture(name: str, builder: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register a base model's builder under *name*, as a decorator or directly.

    The builder is called with ``encoder_name, encoder_weights, in_channels, classes`` and the keywords that
    its signature names. It returns an smp model, or any module with ``forward_features`` and ``forward_head``.

    Raises:
        NameTaken: If the name or an alias belongs to another.

    >>> import segmentation_models_pytorch as smp
    >>> @register_architecture("SlimUnet")
    ... def slim(encoder_name, encoder_weights, in_channels, classes):
    ...     channels = (32, 16, 16, 8, 8)
    ...     return smp.Unet(encoder_name, 5, encoder_weights, decoder_channels=channels, classes=classes)
    >>> "slimunet" in catalogue().architectures
    True
    """
    return catalogue().architectures.register(name, builder, aliases=aliases)


def register_dynamics(name: str, dynamics: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register a subclass of :class:`smp_feedback.dynamics.Dynamics` under *name*."""
    return catalogue().dynamics.register(name, dynamics, aliases=aliases)


def register_projection(name: str, projection: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register a subclass of :class:`smp_feedback.projections.Projection` under *name*."""
    return catalogue().projections.register(name, projection, aliases=aliases)


def register_loop(name: str, loop: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register a subclass of :class:`smp_feedback.FeedbackModel` under *name*."""
    return catalogue().loops.register(name, loop, aliases=aliases)


def register_loss(name: str, loss: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register a loss class under *name*; an instance is called ``(logits, target) -> scalar``."""
    return catalogue().losses.register(name, loss, aliases=aliases)
