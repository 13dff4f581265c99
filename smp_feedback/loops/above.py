"""What rooms above do for a model, by name: loops lie below them and may not import them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

ABOVE = {
    "animate": "smp_feedback.plotting.animation:animate",
    "show": "smp_feedback.plotting.strip:show",
    "thumbnail": "smp_feedback.plotting.thumbnail:thumbnail",
}
"""What is asked of them, and where it is; all of them draw, which needs the extra ``plot``."""


def above(name: str) -> Callable[..., Any]:
    """The function that is called *name* in :data:`ABOVE`, imported now.

    Raises:
        MissingExtra: If the library that draws is not installed, with the extra that brings it.
    """
    module, _, function = ABOVE[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
