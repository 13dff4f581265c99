"""A run that is taken up again goes on with the settings that it began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from smp_feedback.config.parse import as_config, as_trained
from smp_feedback.errors import FeedbackError, InvalidValue, one_line
from smp_feedback.registry.public import catalogue
from smp_feedback.saving.settings_text import read_settings

CONFIG = "config.yaml"
GROUPS, AROUND = ("trainer", "data"), ("model", "score", "restoration", "repair", "clicks")
HOW = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "sync_batchnorm")
LENGTH = ("max_epochs", "max_steps", "limit_train_batches", "overfit_batches")
NEUTRAL = ("root", "workers", "shared", "batch_size")
"""Of the data: what the weights do not depend on; batch_size is seen to by `PairsModule`, which knows the processes."""


def check_same(config: str, folder: Path, learnt: Sequence[str] = ("model",)) -> None:
    """A run goes on with the settings that it began with.

    Args:
        config: The settings now, as YAML.
        folder: That of the run, with those that it began with.
        learnt: The groups that say what is learnt, and how.

    Raises:
        InvalidValue: If one that decides what is learnt is another; how it is run may change.
    """
    told = run_settings(folder)
    try:
        begun = _decisive(told, learnt)
    except FeedbackError as error:
        raise InvalidValue(f"{folder / CONFIG}: {error}") from error
    except (LookupError, TypeError, AttributeError, ValueError) as error:  # written by hand, or by a stranger
        raise InvalidValue(f"{folder / CONFIG} is not what a run writes: {one_line(error):.200}.") from error
    for key, now in _decisive(yaml.safe_load(config), learnt).items():
        if begun.get(key, now) != now:
            where, here, there = _differing(key, now, begun[key])
            raise InvalidValue(f"{where}={here}: the run to resume has {where}={there}; it takes the same.")


def run_settings(folder: Path) -> dict[str, Any]:
    """The settings that the run in *folder* began with, as they were written.

    Raises:
        InvalidValue: If they cannot be read, or are none that a run writes.
    """
    path = folder / CONFIG
    found = read_settings(path, (*GROUPS, *AROUND))
    lacking = [] if "data" in found else ["data"]
    lacking += [] if found.keys() & {*AROUND} else [AROUND[0]]
    if lacking:
        raise InvalidValue(f"{path} is not what a run writes: {lacking[0]} is missing.")
    try:
        of_any_version(found)
    except FeedbackError as error:
        raise InvalidValue(f"{path}: {error}") from error
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise InvalidValue(f"{path} is not what a run writes: {one_line(error):.200}.") from error
    return found


def _differing(key: str, now: Any, begun: Any) -> tuple[str, Any, Any]:
    """What is another, as deep as it can be named: not where one is null and the other left out.

    >>> _differing("a", {"b": 1}, {"b": 2}), _differing("a", {}, {"b": None})
    (('a.b', 1, 2), ('a', {}, {'b': None}))
    """
    if not isinstance(now, Mapping) or not isinstance(begun, Mapping):
        return key, now, begun
    for name in {**now, **begun}:
        if now.get(name) != begun.get(name):
            return f"{key}.{name}", now.get(name), begun.get(name)
    return key, now, begun


def resolved_loop(arch: str, feedback: Any) -> Any:
    """The *feedback* of an *arch* as all that it means; a name would mean another loop once its preset changes.

    >>> resolved_loop("Unet", "anytime")["steps"], resolved_loop("Unet", False)
    (32, False)
    """
    config = as_config(feedback, usual=catalogue().architectures.entry(arch).feedback)
    return feedback if config is None else config.to_dict()


def _decisive(settings: dict[str, Any], learnt: Sequence[str]) -> dict[str, Any]:
    """What the weights depend on; one cycle, `fit`'s own schedule, depends on the length of the run, too."""
    trainer = settings["trainer"]
    cycle = "model" in learnt and settings["model"].get("schedule", "its own") is None
    keys = (*HOW, *LENGTH) if cycle else HOW
    settings = of_any_version(settings)
    groups = {
        **{group: _spelt_out(settings[group]) for group in learnt},
        "data": {key: value for key, value in settings["data"].items() if key not in NEUTRAL},
        "trainer": {key: trainer[key] for key in keys if key in trainer},
    }
    named = {f"{group}.{key}": value for group, of in groups.items() for key, value in of.items()}
    return {"seed": settings["seed"], "monitor": settings.get("monitor"), **named}


def _spelt_out(group: dict[str, Any]) -> dict[str, Any]:
    """A *group* of settings with its loop, if it has one, as all that it means."""
    if not {"arch", "feedback"} <= group.keys():
        return group
    return {**group, "feedback": resolved_loop(group["arch"], group["feedback"])}


def of_any_version(settings: dict[str, Any]) -> dict[str, Any]:
    """The *settings* of a run with what those of 0.1 could not say: its images were shown as they are."""
    said = dict(settings)
    if "data" in said:
        data = dict(said["data"])
        if "images" in data:  # as it was called
            data["train_count"] = data.pop("images")
        said["data"] = {"normalise": "none", **data}
    if "free_steps" not in said.get("model", {"free_steps": 0}):  # of 0.1
        said["model"] = _model_of_0_1(said["model"])
    return said


def _model_of_0_1(model: dict[str, Any]) -> dict[str, Any]:
    """A Dirichlet output's corrections were normalised over space where neither run nor architecture said how."""
    loop = model.get("feedback")
    if not isinstance(loop, Mapping) or "arch" not in model:
        return model
    usual = catalogue().architectures.entry(model["arch"]).feedback or {}
    return {**model, "feedback": as_trained(loop, unsaid=usual.get("norm_error"))}
