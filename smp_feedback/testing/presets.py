"""Loops by a name of their own."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import torch

from smp_feedback.config.base import LoopConfig
from smp_feedback.config.parse import as_config
from smp_feedback.registry.public import catalogue
from smp_feedback.testing.bases import broken
from smp_feedback.testing.loops import check_loop


def check_preset(name: str, image: torch.Tensor | None = None, **changes: Any) -> None:
    """The preset *name* is the config of a registered loop, in any case, JSON-ready, and may be changed field by field.

    A small U-Net closed into that loop keeps the promises of every model.

    Args:
        name: A registered name.
        image: (B, 3, H, W); None is two random images of 64 x 64.
        **changes: Fields to try it with instead: ``steps=2`` is faster than sixteen.

    >>> check_preset("anytime", torch.rand(2, 3, 32, 32), steps=2)
    """
    preset = catalogue().presets[name]
    with broken():
        config = check_value(name, preset)
        check_changes(name, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        changed = as_config({"preset": name, **changes})
        assert changed is not None
        told = {key: value for key, value in changed.to_dict().items() if key != "loop"}
        check_loop(changed.loop, image, **told)


def check_value(name: str, preset: Mapping[str, Any]) -> LoopConfig:
    """It is a dict that JSON can hold, stays as it is when it is read, and is one config, whoever asks."""
    assert isinstance(preset, Mapping), f"{preset!r:.80} is no dict"
    before = copy.deepcopy(dict(preset))
    assert json.loads(json.dumps(before)) == before, "through JSON it is another: lists for tuples, 'inf' for infinity"
    configs = [as_config(each) for each in (name, name.upper(), {"preset": name}, {"loop": "recurrent", **before})]
    assert dict(preset) == before, "reading it changed it"
    assert configs[0] is not None
    assert all(config == configs[0] for config in configs), f"{name!r} is not one config: {configs}"
    return configs[0]


def check_changes(name: str, config: LoopConfig) -> None:
    """Of a changed preset that field alone is another."""
    fields = {key: value for key, value in config.to_dict().items() if key != "loop"}
    for key, value in (("steps", 3), ("recompute", True)):
        if key in fields:
            changed = as_config({"preset": name, key: value})
            assert changed is not None
            expected = {**config.to_dict(), key: value}
            assert changed.to_dict() == expected, f"with {key}={value} it is {changed}"
