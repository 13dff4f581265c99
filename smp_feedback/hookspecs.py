"""What a plugin may say, one sentence each.

A plugin is a module (or any object) that implements some of these functions, marked with ``hookimpl``, and
names itself in the entry-point group ``smp_feedback``. It is handed a ``register`` callable and never
touches our globals. The built-ins enter through the same door.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pluggy

PROJECT = "smp_feedback"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Register = Callable[..., Any]


@hookspec
def register_architectures(register: Register) -> None:
    """Call ``register(name, builder, aliases=(), feedback=None)`` for each base model; *feedback* is its usual loop."""


@hookspec
def register_cuts(register: Register) -> None:
    """Call ``register("module.Class", cut)`` for each class of base models that is opened in its own way."""


@hookspec
def register_loops(register: Register) -> None:
    """Call ``register(name, model_class)`` for each way of closing the loop, a subclass of ``FeedbackModel``."""


@hookspec
def register_dynamics(register: Register) -> None:
    """Call ``register(name, dynamics_class)`` for each rule by which the state answers a correction."""


@hookspec
def register_projections(register: Register) -> None:
    """Call ``register(name, projection_class)`` for each way of turning the state into feedback channels."""


@hookspec
def register_presets(register: Register) -> None:
    """Call ``register(name, config)`` for each loop to be had by name, as ``feedback=name``; *config* is its dict."""


@hookspec
def register_restorers(register: Register) -> None:
    """Call ``register(name, builder)`` for each network that restores images, as the restoration loop needs one."""


@hookspec
def register_losses(register: Register) -> None:
    """Call ``register(name, loss_class)`` for each loss ``(logits, target) -> scalar``."""


@hookspec
def register_datasets(register: Register) -> None:
    """Call ``register(name, make)`` for each dataset; ``make(split, root=..., size=..., ...)`` opens it."""


@hookspec
def register_corruptions(register: Register) -> None:
    """Call ``register(name, corruption)`` for each corruption ``(image, severity, generator) -> image``."""


@hookspec
def register_augmentations(register: Register) -> None:
    """Call ``register(name, make)`` for each augmentation; ``make()`` gives the transform of an image and its mask."""


@hookspec
def register_metrics(register: Register) -> None:
    """Call ``register(name, metric)`` for each score that is made of counts, a ``NamedMetric``."""


@hookspec
def register_encoders(register: Register) -> None:
    """Call ``register(name, encoder_class)`` for each encoder that smp's architectures may take by its name."""


@hookspec
def register_verbs(register: Register) -> None:
    """Call ``register(name, verb, help="...")`` for each verb that is typed; ``verb(parser)`` gives what runs it."""
