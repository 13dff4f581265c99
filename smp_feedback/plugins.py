"""Opening the door: built-ins first, then whatever is installed; a broken plugin is reported, not fatal."""

from __future__ import annotations

import functools
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from smp_feedback import hookspecs
from smp_feedback.errors import FeedbackError, PluginWarning
from smp_feedback.registry import Registry

BUILT_IN = (
    "smp_feedback.builder",
    "smp_feedback.cuts",
    "smp_feedback.recipes",
    "smp_feedback.dynamics",
    "smp_feedback.projections",
    "smp_feedback.loops",
    "smp_feedback.losses",
    "smp_feedback.data.opening",
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
    cuts: Registry[Any] = field(default_factory=lambda: Registry("cut"))
    loops: Registry[Any] = field(default_factory=lambda: Registry("loop"))
    dynamics: Registry[Any] = field(default_factory=lambda: Registry("dynamics"))
    projections: Registry[Any] = field(default_factory=lambda: Registry("projection"))
    losses: Registry[Any] = field(default_factory=lambda: Registry("loss"))
    datasets: Registry[Callable[..., Any]] = field(default_factory=lambda: Registry("dataset"))
    corruptions: Registry[Callable[..., Any]] = field(default_factory=lambda: Registry("corruption"))
    plugins: list[Plugin] = field(default_factory=list)

    def admit(self, plugin: object, name: str, origin: str) -> None:
        """Let *plugin* register everything it brings; raises if it misspells a hook or forgot to mark one."""
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        manager.register(plugin, name)
        manager.check_pending()
        for kind, registry in self.registries().items():
            hook = f"register_{kind}"
            _check_marked(plugin, hook)
            getattr(manager.hook, hook)(register=functools.partial(registry.register, origin=origin))

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Whatever was registered inside is forgotten if it ends in an error."""
        before = {kind: registry.copy() for kind, registry in self.registries().items()}
        try:
            yield
        except BaseException:
            for kind, registry in self.registries().items():
                registry.replace(before[kind])
            raise

    def admit_installed(self, found: Iterable[EntryPoint] | None = None) -> None:
        """Admit *found*, or the installed entry points, each on its own."""
        for point in entry_points(group=hookspecs.PROJECT) if found is None else found:
            self.plugins.append(_admit_safely(self, point))

    def registries(self) -> dict[str, Registry[Any]]:
        """The registries by the name of their hook."""
        kinds = ("architectures", "cuts", "loops", "dynamics", "projections", "losses", "datasets", "corruptions")
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
        catalogue.admit_installed(found)
    return catalogue


def _check_marked(plugin: object, hook: str) -> None:
    said = getattr(plugin, hook, None)  # the public function of the same name, imported there, is no hook
    own = getattr(said, "__module__", None) == getattr(plugin, "__name__", "")
    if own and not hasattr(said, f"{hookspecs.PROJECT}_impl"):
        raise FeedbackError(f"{hook} is not marked: decorate it with smp_feedback.hookspecs.hookimpl.")


def _admit_safely(catalogue: Catalogue, point: EntryPoint) -> Plugin:
    origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    try:
        with catalogue.all_or_nothing():
            catalogue.admit(point.load(), point.name, origin)
    except (Exception, SystemExit) as error:  # a plugin may do anything at import
        warnings.warn(f"Plugin {point.name!r} of {origin} is left out: {error!r}", PluginWarning, stacklevel=2)
        return Plugin(point.name, origin, repr(error), traceback.format_exc())
    return Plugin(point.name, origin)


_opening = threading.RLock()
_process: list[Catalogue] = []


def catalogue() -> Catalogue:
    """The catalogue of this process, opened at the first look-up.

    A plugin that uses the public interface while it is imported finds the built-ins and the plugins before it.
    """
    with _opening:
        if not _process:
            _process.append(open_catalogue(installed=False))
            try:
                _process[0].admit_installed()
            except BaseException:  # interrupted: the next look-up begins anew
                _process.clear()
                raise
        return _process[0]


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


def list_datasets(pattern: str = "*") -> list[str]:
    """The datasets that match *pattern* (shell wildcards, case-insensitive), for ``data.open_dataset``.

    >>> list_datasets("c*")
    ['camvid', 'circles', 'cityscapes', 'coloured_shapes']
    """
    return catalogue().datasets.names(pattern)


def list_corruptions(pattern: str = "*") -> list[str]:
    """The corruptions that match *pattern* (shell wildcards, case-insensitive), for ``data.Corrupted``.

    >>> list_corruptions("*blur")
    ['gaussian_blur', 'motion_blur']
    """
    return catalogue().corruptions.names(pattern)


def register_architecture(
    name: str,
    builder: Any = None,
    *,
    aliases: Iterable[str] = (),
    feedback: Mapping[str, Any] | None = None,
    members: Callable[[], Iterable[str]] | None = None,
) -> Any:
    """Register a base model's builder under *name*, as a decorator or directly.

    The builder is called with those of ``encoder_name, encoder_weights, in_channels, classes`` that its signature
    names, and with its own further keywords; what nobody gives is its own default. It returns an smp model, any
    module with ``forward_features`` and ``forward_head``, or one whose class has a cut (:func:`register_cut`).

    Args:
        name: The name; ``source/*`` is a family, whose builder takes the name after the slash first.
        builder: The builder.
        aliases: What else it is called.
        feedback: The loop that ``feedback=True`` means for it, as the dict of a config; None is the usual one.
        members: Of a family, what gives the names after the slash.

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
    told: dict[str, Any] = {"aliases": aliases, "feedback": feedback, "members": members}
    return catalogue().architectures.register(name, builder, **told)


def register_cut(name: str | type, cut: Any = None) -> Any:
    """Register where models of a class are opened: a :class:`smp_feedback.Cut`.

    Args:
        name: The class, or its full name ``"module.Class"``; subclasses are opened alike, unless they have their own.
        cut: The cut.
    """
    full = name if isinstance(name, str) else f"{name.__module__}.{name.__qualname__}"
    return catalogue().cuts.register(full, cut)


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


def register_dataset(name: str, make: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register what opens a dataset under *name*: ``make(split, *, root, size, seed, count, transform)``.

    The result is map-style, with items (image, target), ``classes``, ``ignore_index`` and ``name(index)``;
    ``data.check_dataset`` proves that of every item.
    """
    return catalogue().datasets.register(name, make, aliases=aliases)


def register_corruption(name: str, corruption: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register a corruption under *name*: ``(image (C, H, W) in [0, 1], severity 1 to 5, generator) -> image``."""
    return catalogue().corruptions.register(name, corruption, aliases=aliases)
