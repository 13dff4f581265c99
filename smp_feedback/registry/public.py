"""Every part by its name: built-ins, what is installed, and what a script registers itself."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any

from smp_feedback.registry.catalogue import Catalogue, register_encoder_of_its_own
from smp_feedback.registry.installed import installed_points
from smp_feedback.registry.plugins import Plugin

BUILT_IN = (
    "smp_feedback.models.builder",
    "smp_feedback.surgery.cuts",
    "smp_feedback.models.recipes",
    "smp_feedback.dynamics",
    "smp_feedback.projections",
    "smp_feedback.config.presets",
    "smp_feedback.loops",
    "smp_feedback.restorers",
    "smp_feedback.losses",
    "smp_feedback.data.dataset_factory",
    "smp_feedback.evaluation.named_metrics",
    "smp_feedback.cli.verbs",
)


def open_catalogue(*, installed: bool = True, found: Iterable[EntryPoint | Plugin] | None = None) -> Catalogue:
    """A fresh catalogue: built-ins, then the plugins, each on its own.

    Args:
        installed: Whether installed third-party plugins are loaded.
        found: The entry points to load instead of the installed ones (tests).
    """
    points = installed_points() if installed and found is None else found or ()
    catalogue = _built_in(lambda: points)
    catalogue.load()
    return catalogue


def _built_in(points: Callable[[], Iterable[EntryPoint | Plugin]]) -> Catalogue:
    catalogue = Catalogue(points)
    for module in BUILT_IN:
        catalogue.admit_built_in(import_module(module), module)
    return catalogue


_opening = threading.RLock()
_process: list[Catalogue] = []


def catalogue() -> Catalogue:
    """The catalogue of this process; the first look-up that built-in names do not answer loads the plugins."""
    if not _process:
        with _opening:
            if not _process:
                _process.append(_built_in(installed_points))
    return _process[0]


def list_plugins() -> list[Plugin]:
    """Every installed plugin, those that are broken or disabled too, with what each brought.

    >>> [plugin.name for plugin in list_plugins() if plugin.state == "broken"]
    []
    """
    catalogue().load()
    return list(catalogue().plugins)


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
    body = getattr(cut, "body", None)
    home = getattr(getattr(body, "func", body), "__module__", "")  # of a Cut itself it is always smp_feedback
    return catalogue().cuts.register(full, cut, origin=home)


def register_dynamics(name: str, dynamics: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register a subclass of :class:`smp_feedback.dynamics.Dynamics` under *name*."""
    return catalogue().dynamics.register(name, dynamics, aliases=aliases)


def register_projection(name: str, projection: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register a subclass of :class:`smp_feedback.projections.Projection` under *name*."""
    return catalogue().projections.register(name, projection, aliases=aliases)


def register_loop(name: str, loop: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register a subclass of :class:`smp_feedback.FeedbackModel` under *name*."""
    return catalogue().loops.register(name, loop, aliases=aliases)


def register_preset(name: str, config: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register a loop's config, as a dict, under *name*: ``create(..., feedback=name)`` closes that loop.

    It is read, and refused if it is none, when it is first asked for. No loop may be called so.

    >>> _ = register_preset("patient", {"loop": "recurrent", "steps": 32, "norm_error": "pixel"})
    >>> from smp_feedback.config import as_config
    >>> as_config({"preset": "patient", "steps": 64}).steps
    64
    """
    return catalogue().presets.register(name, config, aliases=aliases, origin=_caller())


def register_restorer(name: str, builder: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register what builds a network that restores images, under *name*: ``builder(config, in_channels, classes)``.

    It gives a :class:`smp_feedback.restorers.base.Restorer`, or any network from image to image (B, C, H, W), which is
    then shown the image with the feedback painted in.
    """
    return catalogue().restorers.register(name, builder, aliases=aliases)


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


def register_augmentation(name: str, make: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register what makes an augmentation under *name*: ``make()`` gives a transform.

    The transform is ``(image, mask) -> (image, mask)``, as torchvision.transforms.v2 and Albumentations have them, and
    ``data.augment`` takes its name.

    >>> from torchvision.transforms import v2
    >>> _ = register_augmentation("upside_down", lambda: v2.RandomVerticalFlip(1.0))
    >>> from smp_feedback.data.augment import as_transform
    >>> as_transform("upside_down")
    RandomVerticalFlip(p=1.0)
    """
    return catalogue().augmentations.register(name, make, aliases=aliases)


def register_metric(name: str, metric: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register a :class:`smp_feedback.evaluation.NamedMetric` under *name*, as which it is scored and watched."""
    return catalogue().metrics.register(name, metric, aliases=aliases, origin=_caller())


def register_encoder(name: str, encoder: Any = None, *, aliases: Iterable[str] = ()) -> Any:
    """Register an encoder class under *name*, for smp's architectures: ``create("Unet", encoder=name)``.

    It is a module with :class:`segmentation_models_pytorch.encoders._base.EncoderMixin`'s interface.

    Raises:
        NameTaken: If smp or timm has an encoder of that name.
    """
    return register_encoder_of_its_own(catalogue().encoders.register, name, encoder, aliases)


def _caller() -> str:
    """The module that called who asks: a dict does not say where it was written."""
    return str(sys._getframe(2).f_globals.get("__name__", ""))
