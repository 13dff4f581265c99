"""All that a plugin brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from smp_feedback.errors import FeedbackError
from smp_feedback.factory import create
from smp_feedback.registry.plugins import Plugin, normal_name
from smp_feedback.registry.public import catalogue, list_plugins
from smp_feedback.testing.architectures import check_architecture
from smp_feedback.testing.augmentations import check_augmentation
from smp_feedback.testing.corruptions import check_corruption
from smp_feedback.testing.cuts import check_cut
from smp_feedback.testing.datasets import check_dataset
from smp_feedback.testing.dynamics import check_dynamics
from smp_feedback.testing.encoders import check_encoder
from smp_feedback.testing.loops import check_loop
from smp_feedback.testing.losses import check_loss
from smp_feedback.testing.metrics import check_metric
from smp_feedback.testing.presets import check_preset
from smp_feedback.testing.projections import check_projection
from smp_feedback.testing.restorers import check_restorer
from smp_feedback.testing.verbs import check_verb

Arguments = Mapping[str, Mapping[str, Any]]


def check_plugin(name: str, arguments: Arguments | None = None) -> None:
    """The installed plugin *name* is loaded, brings something, and every name that it brings keeps its promises.

    Args:
        name: Of its entry point, or of its distribution.
        arguments: By name of a part, what its check is called with: ``{"MyNet": {"image": image, "classes": 3}}``. An
            architecture's image is two of 3 x 64 x 64 unless given; a cut's ``model`` is the first architecture of the
            plugin that is of its class.

    Raises:
        AssertionError: If no such plugin is installed, it is left out, or a check fails, with the part's name.
    """
    told = arguments or {}
    brought = {kind: tuple(names) for kind, names in loaded(name).brought.items() if names}
    assert brought, f"The plugin {name!r} brings nothing: it implements no hook, or its hooks register nothing."
    names = [one for each in brought.values() for one in each]
    strangers = sorted(told.keys() - set(names))
    assert not strangers, f"arguments: {name!r} brings no {', '.join(strangers)}; it brings {', '.join(names)}."
    for kind, each in brought.items():
        for one in each:
            try:
                _check_part(kind, one, dict(told.get(one, {})), brought)
            except (AssertionError, FeedbackError) as error:
                raise AssertionError(f"{kind} {one!r} of the plugin {name!r}: {error}") from error


def loaded(name: str) -> Plugin:
    """The plugin called *name*, or brought by the distribution *name*, if it is loaded."""
    found = [p for p in list_plugins() if normal_name(name) in map(normal_name, (p.name, p.distribution or ""))]
    known = ", ".join(p.name for p in list_plugins()) or "none"
    assert found, f"No plugin {name!r} is installed; there is: {known}."
    for plugin in found:
        assert plugin.state == "loaded", f"The plugin {plugin.name!r} is {plugin.why}\n{plugin.traceback or ''}"
    return found[0]


def _check_part(kind: str, name: str, told: dict[str, Any], brought: Mapping[str, tuple[str, ...]]) -> None:
    if kind == "architectures":
        _check_architectures(name, told)
    elif kind == "cuts":
        _check_cut(name, told, brought.get("architectures", ()))
    else:
        CHECKS[kind](name, **told)


def _check_architectures(name: str, told: dict[str, Any]) -> None:
    """One of a family is enough: the first, unless ``member`` says another."""
    if name.endswith("/*"):
        members = catalogue().architectures.names(name)
        name = told.pop("member", members[0] if members else name)
    check_architecture(name, **{"image": torch.rand(2, told.get("in_channels", 3), 64, 64), **told})


def _check_cut(name: str, told: dict[str, Any], architectures: tuple[str, ...]) -> None:
    image = told.get("image", torch.rand(2, 3, 64, 64))
    if "model" in told:
        return check_cut(told["model"], image, feedback=told.get("feedback"))
    for architecture in architectures:
        model = create(architecture, encoder_weights=None, feedback=False)
        if name in (f"{cls.__module__}.{cls.__qualname__}" for cls in type(model).__mro__):
            usual = catalogue().architectures.entry(architecture).feedback
            return check_cut(model, image, feedback=told.get("feedback", usual))
    raise AssertionError(f"none of its architectures is of this class: give arguments={{{name!r}: {{'model': ...}}}}.")


CHECKS: dict[str, Callable[..., None]] = {
    "loops": check_loop,
    "dynamics": check_dynamics,
    "projections": check_projection,
    "presets": check_preset,
    "restorers": check_restorer,
    "losses": check_loss,
    "datasets": check_dataset,
    "corruptions": check_corruption,
    "augmentations": check_augmentation,
    "metrics": check_metric,
    "encoders": check_encoder,
    "verbs": check_verb,
}
"""The check of each kind of part that needs nothing but its name."""
