"""One run: a model trained once, and scored on whole films in every way in which its answers are read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from smp_feedback.evaluation.films import (
    Averaged,
    FrameByFrame,
    FrameStack,
    JoinedFilms,
    LookByLook,
    Predictor,
    evaluate_films,
    learn_cut,
    tune_rate,
)
from smp_feedback.experiments import store
from smp_feedback.experiments.comparison.settings import Condition
from smp_feedback.experiments.cost import multiply_adds, seconds_per_image
from smp_feedback.experiments.films.frames import (
    opened_films,
    scored_frames,
    training_frames,
    validation_frames,
)
from smp_feedback.experiments.films.rivals import CARRIED, RIVALS, trained
from smp_feedback.experiments.films.settings import FilmSettings
from smp_feedback.experiments.look_cost import counts_passes, look_cost
from smp_feedback.experiments.runs import built, train
from smp_feedback.loops.film import Film
from smp_feedback.training import FeedbackModule, PairsModule
from smp_feedback.training.facts import Facts, facts_of

SHOT = 32  # frames of a film before it goes over into the next, at most


class FilmKey(NamedTuple):
    """Which run of a comparison on films."""

    model: str
    seed: int

    def __str__(self) -> str:
        return f"{self.model}-s{self.seed}"


def keys(settings: FilmSettings) -> Iterator[FilmKey]:
    """Every run, seed by seed, so that what is there after an hour is a whole comparison."""
    wanted = itertools.product(range(settings.seeds), trained(settings.models))
    return (FilmKey(model, seed) for seed, model in wanted)


def facts(settings: FilmSettings) -> Facts:
    """What a model must know of the data."""
    return facts_of(opened_films(settings, settings.split))


def untrained(settings: FilmSettings, key: FilmKey, about: Facts) -> nn.Module:
    """The model of *key*, as it begins: the weights of one seed are drawn alike."""
    rival, config = RIVALS[key.model], cast(Any, settings.config)
    torch.manual_seed(key.seed)
    loop = config if rival.looks == 1 else replace(config, steps=rival.looks)
    channels = about.image[0] * rival.stack
    model = built(settings, len(about.classes), loop if rival.loops else None, channels)
    if settings.mean is not None:
        vars(model)["data_config"] = settings.expected(channels)
    return model


def lesson(settings: FilmSettings, key: FilmKey, model: nn.Module, about: Facts) -> FeedbackModule:
    """What trains the model of *key*."""
    how: dict[str, Any] = {"classes": len(about.classes), "ignore_index": about.ignore_index, "task": about.task}
    clips: dict[str, Any] = {"truncate": settings.truncate} if key.model == CARRIED else {}
    return FeedbackModule(model, loss=settings.loss, lr=settings.lr, **how, **clips)


def batch_of(settings: FilmSettings, model: str) -> int:
    """Items in a batch of *model*'s training: clips, or as many frames as pass through the base as often.

    Where several looks at a frame share what lies before the place where the feedback enters, as many frames as cost
    what one look at each of the clips' frames does, see :func:`.look_cost.counts_passes`; to the nearest.
    """
    rival, frames = RIVALS[model], settings.batch_size * settings.clip
    if model == CARRIED:
        return settings.batch_size
    if rival.looks == 1 or counts_passes(settings, settings.config, lambda: facts(settings)):
        return frames // rival.looks
    cost = look_cost(settings, settings.config, lambda: facts(settings))
    return max(1, round(frames * cost.call(1) / cost.call(rival.looks)))


def trained_otherwise(settings: FilmSettings, key: FilmKey, kept: Mapping[str, Any]) -> str:
    """Why the *kept* run of *key* is not what training it now would give; empty if it is."""
    if RIVALS[key.model].looks == 1 or counts_passes(settings, settings.config, lambda: facts(settings)):
        return ""
    batch, was = batch_of(settings, key.model), kept.get("batch", "a quarter of the")
    return "" if was == batch else f"it was trained on {was} frames in a batch, and would be on {batch} now"


def run(settings: FilmSettings, key: FilmKey, accelerator: str = "auto") -> store.Trained:
    """Train, score and measure one model.

    Args:
        settings: The comparison.
        key: Which of its runs.
        accelerator: Lightning's.

    Returns:
        A run as ``films.json`` holds it, and the weights.
    """
    about = facts(settings)
    model = untrained(settings, key, about)
    frames = training_frames(settings, RIVALS[key.model], key.seed)
    data = PairsModule(frames, batch_size=batch_of(settings, key.model))
    module = lesson(settings, key, model, about)
    seconds = train(key, module, data, settings.train_steps, accelerator, settings.clip_norm)
    device = torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    model = model.to(device)
    image = torch.rand(1, about.image[0] * RIVALS[key.model].stack, *about.image[1:], device=device)
    asked, shown = (Film(cast(Any, model)), image[:, None]) if key.model == CARRIED else (model, image)
    found = {
        "model": key.model,
        "seed": key.seed,
        "seconds": seconds,
        "steps": settings.train_steps,
        "passes": settings.passes,
        "batch": batch_of(settings, key.model),
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs": multiply_adds(asked, shown),
        "seconds_per_frame": seconds_per_image(asked, shown),
        **scored(settings, key, model, about),
    }
    return store.Trained.of(model, found)


def scored(settings: FilmSettings, key: FilmKey, model: nn.Module, about: Facts) -> dict[str, Any]:
    """The ``scores`` of every way in which *model* is read, and for a carried state the learned ``cut``."""
    found: dict[str, Any] = {"cut": None}
    if key.model == CARRIED and settings.joined is not None:
        found["cut"] = asdict(learn_cut(model, validation_frames(settings), keep=True))
    readings = [name for name in settings.models if RIVALS[name].trained == key.model]
    entries = []
    for name in readings:
        for condition in settings.tested:
            entries.append(_whole(settings, name, model, condition, about))
        if settings.joined is not None:
            entries += _joined(settings, name, model, settings.joined, about)
    return {**found, "scores": entries}


def _whole(settings: FilmSettings, name: str, model: nn.Module, condition: Condition, about: Facts) -> dict[str, Any]:
    """On whole films."""
    predictor, rate = reading(settings, name, model, condition, about)
    scores = evaluate_films(predictor, scored_frames(settings, condition), **_task(about))
    return {"model": name, "test": str(condition), "joined": False, "reset": False, "rate": rate, **asdict(scores)}


def _joined(
    settings: FilmSettings, name: str, model: nn.Module, condition: Condition, about: Facts
) -> Iterator[dict[str, Any]]:
    """On films that go over into others; a carried state both going on and, by what it learned, beginning anew."""
    films = JoinedFilms(scored_frames(settings, condition), frames=SHOT)
    predictor, rate = reading(settings, name, model, condition, about)
    ways: dict[bool, Predictor] = {False: predictor}
    if name == CARRIED:
        ways[True] = LookByLook(model, reset="auto")
    for reset, way in ways.items():
        scores = asdict(evaluate_films(way, films, **_task(about)))
        yield {"model": name, "test": str(condition), "joined": True, "reset": reset, "rate": rate, **scores}


def reading(
    settings: FilmSettings, name: str, model: nn.Module, condition: Condition, about: Facts
) -> tuple[Predictor, float | None]:
    """How *name* reads films with *model*, and the rate of averaging, tuned on validation films under *condition*."""
    rival = RIVALS[name]
    if rival.averages:
        rates = tune_rate(model, validation_frames(settings, condition), **_task(about))
        rate = next(iter(rates))
        return Averaged(model, rate), rate
    if rival.stack > 1:
        return FrameStack(model, rival.stack), None
    return (LookByLook(model) if name == CARRIED else FrameByFrame(model)), None


def _task(about: Facts) -> dict[str, Any]:
    return {"classes": len(about.classes), "ignore_index": about.ignore_index}
