"""The config behind ``feedback=``: from True, a name, a dict or a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from smp_feedback.config.base import LoopConfig
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.registry.public import catalogue

Feedback = bool | str | LoopConfig | Mapping[str, Any] | None


def as_config(
    feedback: Feedback, default: LoopConfig | None = None, usual: Mapping[str, Any] | None = None
) -> LoopConfig | None:
    """The config behind ``feedback=``: True (*default*), False or None, a loop's name, a config or its dict.

    Args:
        feedback: What the caller said.
        default: What True means.
        usual: An architecture's own loop, as a dict: what True means, and what a dict changes.

    >>> as_config("recurrent") == as_config(True) == Recurrent()
    True
    >>> as_config(Recurrent(steps=3).to_dict()).steps
    3
    >>> as_config({"steps": 3}, usual={"loop": "recurrent", "steps": 5, "tau": 2.0}).tau
    2.0
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
        feedback = {"loop": feedback}
    if isinstance(feedback, Mapping):
        name = catalogue().loops.entry(feedback.get("loop", _loop_of(usual))).name
        own = dict(usual) if usual is not None and _loop_of(usual) == name.lower() else {}
        return cast(LoopConfig, catalogue().loops[name].config_class.from_dict({**own, **feedback, "loop": name}))
    raise InvalidType(
        f"feedback={feedback!r} ({type(feedback).__name__}): expected True, False, the name of a loop "
        f"({', '.join(catalogue().loops)}), a config such as Recurrent(steps=4), or its dict."
    )


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
