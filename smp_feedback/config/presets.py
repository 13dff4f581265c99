"""Presets: loops that proved themselves, by name, as the config that they are."""

from __future__ import annotations

from typing import Any

from smp_feedback.hookspecs import Register, hookimpl

ANYTIME: dict[str, Any] = {
    **{"loop": "recurrent", "steps": 32, "channels": 8},
    **{"dynamics": "leaky", "tau": 1.0, "projection": "state", "norm_error": "pixel"},
    "statistics": "shared",
}
"""For any number of looks and images of any size: nothing in it knows how many looks there are, or how many pixels.

Nor which look it is: where a base has BatchNorm, statistics of looks that training never came to would be those of
none.
"""


@hookimpl
def register_presets(register: Register) -> None:
    """What ``feedback="anytime"`` means."""
    register("anytime", ANYTIME)
