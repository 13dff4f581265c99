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

FILM: dict[str, Any] = {
    **{"loop": "recurrent", "steps": 2, "channels": 8},
    **{"dynamics": "gated", "projection": "state", "norm_error": "pixel"},
    "statistics": "per_step",
}
"""For films, streams and clicks, one look a frame (``model.look``): a gate says how much of a frame is taken up.

Two looks make two rows of BatchNorm's statistics: the first frame's, of which nothing is known yet, and that of all
later ones.
"""


@hookimpl
def register_presets(register: Register) -> None:
    """What ``feedback="anytime"`` and ``feedback="film"`` mean."""
    register("anytime", ANYTIME)
    register("film", FILM)
