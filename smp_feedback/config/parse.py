"""The config behind ``feedback=``: from True, a name, a dict or a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from smp_feedback.config.base import LoopConfig
from smp_feedback.config.options import joined
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import InvalidType, InvalidValue, UnknownName
from smp_feedback.registry.public import catalogue

Feedback = bool | str | LoopConfig | Mapping[str, Any] | None
"""What ``feedback=`` may be: True is an architecture's own loop, a name a loop or a preset, False and None no loop."""


PLACES = ("insert", "stem")
"""Fields that say where a base hears the feedback: an architecture's own hold whatever preset it is closed with."""


def as_config(
    feedback: Feedback, default: LoopConfig | None = None, usual: Mapping[str, Any] | None = None
) -> LoopConfig | None:
    """The config behind ``feedback=``: True (*default*), False, None, a loop's or preset's name, a config or its dict.

    Args:
        feedback: What the caller said. A dict with the key ``preset`` changes that preset.
        default: What True means.
        usual: An architecture's own loop, as a dict: what True means, and what a dict changes. A preset takes its place
            but for where the feedback enters (:data:`PLACES`), unless the preset says that, too.

    >>> as_config("recurrent") == as_config(True) == Recurrent()
    True
    >>> as_config(Recurrent(steps=3).to_dict()).steps
    3
    >>> as_config({"steps": 3}, usual={"loop": "recurrent", "steps": 5, "tau": 2.0}).tau
    2.0
    >>> as_config("anytime").steps, as_config({"preset": "anytime", "steps": 8}).steps
    (32, 8)
    """
    if feedback is None or feedback is False:
        return None
    if isinstance(feedback, LoopConfig):
        return feedback
    if feedback is True:
        if usual is None:
            return default or Recurrent()
        feedback = dict(usual)
    if isinstance(feedback, str):
        feedback = {_kind_of(feedback): feedback}
    if isinstance(feedback, Mapping):
        return _of_preset(feedback, usual) if "preset" in feedback else _of_loop(feedback, usual)
    raise InvalidType(
        f"feedback={feedback!r} ({type(feedback).__name__}): expected True, False, the name of a loop "
        f"({', '.join(catalogue().loops)}) or of a preset ({', '.join(catalogue().presets)}), a config such as "
        "Recurrent(steps=4), or its dict."
    )


def as_trained(loop: Mapping[str, Any], unsaid: object = "") -> dict[str, Any]:
    """A *loop* that 0.1 kept: a Dirichlet output had ``instance`` where it said no normalisation; now one is said.

    Args:
        loop: Its config as a dict, whole or in part.
        unsaid: What a part without a word of it means: None is that of its output.

    >>> as_trained({"output": "dirichlet", "norm_error": None})["norm_error"]
    'instance'
    """
    said = dict(loop)
    if isinstance(inner := said.get("base"), Mapping):
        said["base"] = as_trained(inner, unsaid)
    if said.get("output") == "dirichlet" and said.get("norm_error", unsaid) is None:
        said["norm_error"] = "instance"
    return said


def _kind_of(name: str) -> str:
    """Whether *name* is that of a ``loop`` or of a ``preset``."""
    loops, presets = catalogue().loops, catalogue().presets
    if loops.is_here(name) or (name in loops and name not in presets):
        return "loop"
    if name in presets:
        return "preset"
    raise UnknownName("loop or preset", name, [*loops, *presets], catalogue().left_out())


def _of_loop(values: Mapping[str, Any], usual: Mapping[str, Any] | None) -> LoopConfig:
    """The config of a dict, which changes *usual* where that is of the same loop."""
    name = catalogue().loops.entry(values.get("loop", _loop_of(usual))).name
    own = dict(usual) if usual is not None and _loop_of(usual) == name.lower() else {}
    return cast(LoopConfig, catalogue().loops[name].config_class.from_dict({**joined(own, values), "loop": name}))


def _of_preset(changes: Mapping[str, Any], usual: Mapping[str, Any] | None) -> LoopConfig:
    """The config of a preset with *changes*: read as it was registered first, so that an error says whose it is."""
    name, presets = changes["preset"], catalogue().presets
    preset = {"loop": Recurrent.loop, **presets[name]}
    with presets.noting(name):
        _of_loop(preset, None)
    if str(said := changes.get("loop", preset["loop"])).lower() != _loop_of(preset):
        raise InvalidValue(f"loop={said!r}: the preset {name!r} is of the loop {preset['loop']!r}; leave loop out.")
    own = usual if usual is not None and _loop_of(usual) == _loop_of(preset) else {}
    places = {key: own[key] for key in PLACES if key in own}
    changed = joined(preset, {key: value for key, value in changes.items() if key != "preset"})
    return _of_loop({**places, **changed}, None)


def _loop_of(usual: Mapping[str, Any] | None) -> str:
    return str((usual or {}).get("loop", Recurrent.loop)).lower()


def own_loop(base: Feedback) -> LoopConfig | None:
    """The config of a base's own loop, inside another one.

    Raises:
        InvalidValue: If it is a loop around a base itself: loops go one inside the other once.

    >>> own_loop("recurrent") == Recurrent()
    True
    """
    config = as_config(base)
    if config is not None and hasattr(config, "base"):
        raise InvalidValue(
            f"base={config.loop!r}: expected a loop that looks again itself, such as 'recurrent', or None."
        )
    return config
