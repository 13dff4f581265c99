"""What a loop feeds back and where, in words: what a summary says of a config."""

from __future__ import annotations

import math
from dataclasses import fields
from functools import singledispatch
from typing import Any, cast

from smp_feedback.config.base import LoopConfig
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.config.repair import Repair
from smp_feedback.config.restoration import Restoration
from smp_feedback.config.score import Score

TOLD_ELSEWHERE = ("steps", "base", "grad_steps", "detach", "recompute", "options")
MOST = 6  # of a plugin's fields


@singledispatch
def facts_of(config: LoopConfig) -> dict[str, str]:
    """What *config* says of its loop beside the number of looks, by name; a few fields of a loop that nobody knows.

    >>> facts_of(Recurrent(tau=2.0, insert="stage:2"))["enters"]
    'at stage 2 of the encoder (stage:2)'
    """
    known = {f.name: getattr(config, f.name) for f in fields(cast(Any, config)) if f.name not in TOLD_ELSEWHERE}
    plain = {name: f"{value}" for name, value in known.items() if isinstance(value, str | int | float)}
    return dict([*plain.items()][:MOST])


@facts_of.register(Recurrent)
def _recurrent(config: Recurrent) -> dict[str, str]:
    channels = config.state_channels_fed_back
    fed_back = f"{channels} channel{'s' * (channels > 1)} of the state" if channels else "the prediction"
    return {
        "tau": "inf: nothing decays" if config.tau == math.inf else f"{config.tau:g} look{'s' * (config.tau != 1)}",
        "dynamics": config.dynamics,
        "projection": config.fed_back,
        "fed back": fed_back,
        "enters": ", ".join(map(place_in_words, config.places)),
    }


@facts_of.register(Score)
def _score(config: Score) -> dict[str, str]:
    told = "features of the base" if config.conditions is None else ", ".join(config.conditions)
    return {
        "step size": f"{config.step:g}",
        "fed back": f"the prediction, beside {told}",
        "enters": f"an autoencoder ({config.autoencoder}), whose answer moves the prediction",
    }


@facts_of.register(Restoration)
def _restoration(config: Restoration) -> dict[str, str]:
    if not config.weight:
        return {"fed back": "nothing (weight=0)", "enters": f"a network that restores the image ({config.restorer})"}
    return {
        "weight": f"{config.weight}",
        "fed back": "the change of the class scores, times the restored image",
        "enters": f"a network that restores the image ({config.restorer})",
    }


@facts_of.register(Repair)
def _repair(config: Repair) -> dict[str, str]:
    net = facts_of(config.net)
    return {
        **{name: net[name] for name in ("tau", "dynamics", "projection", "fed back")},
        "enters": "a net of 3 x 3 convolutions, beside the image and the base's mask",
    }


def place_in_words(place: str) -> str:
    """Where feedback enters, and the name by which a config knows that.

    >>> place_in_words("input"), place_in_words("after:patch_embed"), place_in_words("decoder:2")
    ('beside the image (input)', 'after patch_embed', 'at feature 2 before the decoder (decoder:2)')
    """
    kind, _, which = place.partition(":")
    if kind == "after":
        return f"after {which}"
    words = {"input": "beside the image", "stem": "after the stem", "stage": f"at stage {which} of the encoder"}
    words["decoder"] = f"at feature {which} before the decoder" if which else "before the decoder"
    return f"{words.get(kind, place)} ({place})"
