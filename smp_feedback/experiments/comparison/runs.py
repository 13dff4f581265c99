"""One run: a model trained once and scored under every condition; a pure function of the settings and its key."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from torch.utils.data import DataLoader, Subset

from smp_feedback.data import Corrupted
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation import evaluate, first_images
from smp_feedback.experiments import store
from smp_feedback.experiments.comparison.settings import ComparisonSettings, Condition
from smp_feedback.experiments.comparison.variants import Twin, make_twin
from smp_feedback.experiments.cost import kept_for_backward, seconds_per_image
from smp_feedback.experiments.runs import TEST_SEED, facts, held_out, opened, train
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.training import FeedbackModule, PairsModule


class ComparisonKey(NamedTuple):
    """Which run of a comparison."""

    model: str
    train: Condition
    images: int
    seed: int

    def __str__(self) -> str:
        return f"{self.model}-{str(self.train).replace(':', '')}-n{self.images}-s{self.seed}"


def keys(settings: ComparisonSettings) -> Iterator[ComparisonKey]:
    """Every run, seed by seed, so that what is there after an hour is a whole comparison."""
    wanted = itertools.product(range(settings.seeds), settings.images, settings.conditions, settings.models)
    return (ComparisonKey(model, condition, images, seed) for seed, images, condition, model in wanted)


def training_data(settings: ComparisonSettings, key: ComparisonKey) -> tuple[Any, int]:
    """What *key* is trained on, as one pass that holds every optimiser step's images, and how many differ.

    The images are the first of an order that the seed draws, so that fewer are a part of more; each repetition of
    one is corrupted anew.
    """
    try:
        data = opened(settings, "train", key.seed, key.images or None)
    except InvalidValue as error:
        raise InvalidValue(f"images={key.images}: {error}") from error
    count = min(key.images or len(data), len(data))
    if key.images > len(data):
        raise InvalidValue(f"images={key.images}: {settings.data} has {len(data)} to train on.")
    passes = -(-settings.batch_size * steps_of(settings, key) // count)
    repeated = Subset(data, [*first_images(data, count, key.seed).indices] * passes)
    return Corrupted(repeated, key.train.corruption, key.train.severity, seed=key.seed), count


def steps_of(settings: ComparisonSettings, key: ComparisonKey) -> int:
    """Optimiser steps of a run."""
    return settings.train_steps * (settings.looks if key.model == "equal-compute" else 1)


def passes_of(settings: ComparisonSettings, key: ComparisonKey) -> int:
    """Forward passes of the base in training a run: what its time goes with."""
    return steps_of(settings, key) * (settings.looks if key.model == "feedback" else 1)


def untrained(settings: ComparisonSettings, key: ComparisonKey) -> Twin:
    """The model of *key*, as it begins."""
    about = facts(settings)
    return make_twin(key.model, settings, len(about.classes), key.seed, channels=about.image[0])


def run(settings: ComparisonSettings, key: ComparisonKey, accelerator: str = "auto") -> store.Trained:
    """Train, score and measure one model.

    Args:
        settings: The comparison.
        key: Which of its runs.
        accelerator: Lightning's.

    Returns:
        A run as ``results.json`` holds it, and the weights.
    """
    data, count = training_data(settings, key)
    test, twin, about = held_out(settings), untrained(settings, key), facts(settings)
    supervise = settings.supervise if isinstance(twin.model, FeedbackModel) else "last"
    how: Any = {"classes": len(about.classes), "ignore_index": about.ignore_index, "task": about.task}
    module = FeedbackModule(twin.model, loss=settings.loss, supervise=supervise, lr=settings.lr, **how)
    pairs = PairsModule(data, batch_size=settings.batch_size)
    seconds = train(key, module, pairs, twin.train_steps, accelerator)
    batch = [i % len(test) for i in range(settings.batch_size)]
    image = next(iter(DataLoader(Subset(test, batch), len(batch))))[0]
    found = {
        "model": key.model,
        "seed": key.seed,
        "train": str(key.train),
        "seconds": seconds,
        "images": count,
        "steps": twin.train_steps,
        "looks": twin.looks,
        "seconds_per_image": seconds_per_image(twin.model, image),
        "kept_mb": kept_for_backward(twin.model, image) / 2**20,
        "parameters": sum(p.numel() for p in twin.model.parameters()),
        "scores": list(scores(settings, key, twin, test)),
    }
    return store.Trained.of(twin.model, found)


def scores(settings: ComparisonSettings, key: ComparisonKey, twin: Twin, test: Subset[Any]) -> Iterator[dict[str, Any]]:
    """One entry for each condition; of the condition it was trained on, a loop's one for each look up to 2 T."""
    about = facts(settings)
    how: Any = {"classes": len(about.classes), "ignore_index": about.ignore_index, "task": about.task}
    for condition in dict.fromkeys([*settings.tests, key.train]):
        shown = Corrupted(test, condition.corruption, condition.severity, seed=TEST_SEED)
        every = condition == key.train and twin.looks > 1
        looks = tuple(range(1, 2 * twin.looks + 1)) if every else (twin.looks,)
        for score in evaluate(twin.model, shown, looks=looks, **how):
            where = {"corruption": condition.corruption, "severity": condition.severity, "looks": score.looks}
            yield {**where, "score": score.score, "per_class": list(score.per_class), "ece": score.ece}


def restored(settings: ComparisonSettings, key: ComparisonKey, folder: Path) -> nn.Module | None:
    """The trained model of *key*, if its weights are kept in *folder*."""
    return store.restored(folder, key, lambda: untrained(settings, key).model)
