"""One run: a model trained once and scored under every condition; a pure function of the settings and its key."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from smp_feedback.data import Corrupted, Sample, open_dataset
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation import evaluate, first_images
from smp_feedback.experiments.comparison.settings import Condition, Settings
from smp_feedback.experiments.comparison.variants import Twin, make_twin
from smp_feedback.experiments.cost import kept_for_backward, seconds_per_image
from smp_feedback.experiments.store import keep_weights
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.training import FeedbackModule, PairsModule, fit
from smp_feedback.training.callbacks import NotFinite

TEST_SEED = 2**32  # every run is scored on the same corrupted images; no run is trained under these


class Key(NamedTuple):
    """Which run of a comparison."""

    model: str
    train: Condition
    images: int
    seed: int

    def __str__(self) -> str:
        return f"{self.model}-{str(self.train).replace(':', '')}-n{self.images}-s{self.seed}"


def keys(settings: Settings) -> Iterator[Key]:
    """Every run, seed by seed, so that what is there after an hour is a whole comparison."""
    wanted = itertools.product(range(settings.seeds), settings.images, settings.conditions, settings.models)
    return (Key(model, condition, images, seed) for seed, images, condition, model in wanted)


def opened(settings: Settings, split: str, seed: int = 0, count: int | None = None) -> Dataset[Sample]:
    """One split of the settings' data."""
    augment = settings.augment if split == "train" else "none"
    options = {"root": settings.root, "size": settings.size, "seed": seed, "count": count, "transform": augment}
    return open_dataset(settings.data, split, **options, **settings.data_options)


def training_data(settings: Settings, key: Key) -> tuple[Any, int]:
    """What *key* is trained on, as one pass that holds every optimiser step's images, and how many differ.

    The images are the first of an order that the seed draws, so that fewer are a part of more; each repetition of
    one is corrupted anew.
    """
    try:
        data: Any = opened(settings, "train", key.seed, key.images or None)
    except InvalidValue as error:
        raise InvalidValue(f"images={key.images}: {error}") from error
    count = min(key.images or len(data), len(data))
    if key.images > len(data):
        raise InvalidValue(f"images={key.images}: {settings.data} has {len(data)} to train on.")
    passes = -(-settings.batch_size * steps_of(settings, key) // count)
    repeated = Subset(data, [*first_images(data, count, key.seed).indices] * passes)
    return Corrupted(repeated, key.train.corruption, key.train.severity, seed=key.seed), count


def steps_of(settings: Settings, key: Key) -> int:
    """Optimiser steps of a run."""
    return settings.train_steps * (settings.looks if key.model == "equal-compute" else 1)


def trained(settings: Settings, key: Key, accelerator: str) -> tuple[Twin, dict[str, Any]]:
    """The model of *key*, trained, and what that took."""
    data, count = training_data(settings, key)
    about = opened(settings, settings.split)
    classes, ignore = about.classes, about.ignore_index  # type: ignore[attr-defined]
    twin = make_twin(key.model, settings, len(classes), key.seed)
    module = FeedbackModule(
        twin.model,
        classes=len(classes),
        ignore_index=ignore,
        loss=settings.loss,
        supervise=settings.supervise if isinstance(twin.model, FeedbackModel) else "last",
        lr=settings.lr,
    )
    begin = time.perf_counter()
    pairs = PairsModule(data, batch_size=settings.batch_size)
    try:
        fit(module, pairs, steps=twin.train_steps, seed=key.seed, progress=False, accelerator=accelerator)
    except NotFinite as error:
        raise NotFinite(f"{key}: {error}") from error
    return twin, {"seconds": time.perf_counter() - begin, "images": count}


def run(settings: Settings, key: Key, folder: Path | None = None, accelerator: str = "auto") -> dict[str, Any]:
    """Train, score and measure one model.

    Args:
        settings: The comparison.
        key: Which of its runs.
        folder: Where its weights go; None keeps none.
        accelerator: Lightning's.

    Returns:
        A run as ``results.json`` holds it.
    """
    gc.collect()  # the run before left its model in cycles: few objects, so Python waits, and much memory
    twin, took = trained(settings, key, accelerator)
    test = held_out(settings)
    batch = [i % len(test) for i in range(settings.batch_size)]  # type: ignore[arg-type]
    image = next(iter(DataLoader(Subset(test, batch), len(batch))))[0]
    found = {
        "model": key.model,
        "seed": key.seed,
        "train": str(key.train),
        **took,
        "steps": twin.train_steps,
        "looks": twin.looks,
        "seconds_per_image": seconds_per_image(twin.model, image),
        "kept_mb": kept_for_backward(twin.model, image) / 2**20,
        "parameters": sum(p.numel() for p in twin.model.parameters()),
        "scores": list(scores(settings, key, twin, test)),
    }
    if folder is not None:
        keep_weights(folder, key, twin.model)
    return found


def held_out(settings: Settings) -> Dataset[Sample]:
    """The images to score, at most as many as are asked for."""
    data: Any = opened(settings, settings.split)
    if 0 < settings.test_images < len(data):
        data = opened(settings, settings.split, count=settings.test_images)
    return Subset(data, range(len(data)))


def scores(settings: Settings, key: Key, twin: Twin, test: Dataset[Sample]) -> Iterator[dict[str, Any]]:
    """One entry for each condition; of the condition it was trained on, a loop's one for each look up to 2 T."""
    classes, ignore = _facts(test)
    task = task_of(test)
    for condition in dict.fromkeys([*settings.tests, key.train]):
        shown = Corrupted(test, condition.corruption, condition.severity, seed=TEST_SEED)
        every = condition == key.train and twin.looks > 1
        looks = tuple(range(1, 2 * twin.looks + 1)) if every else (twin.looks,)
        for score in evaluate(twin.model, shown, classes=classes, ignore_index=ignore, task=task, looks=looks):
            about = {"corruption": condition.corruption, "severity": condition.severity, "looks": score.looks}
            yield {**about, "score": score.score, "per_class": list(score.per_class), "ece": score.ece}


def restored(settings: Settings, key: Key, folder: Path) -> nn.Module | None:
    """The trained model of *key*, if its weights are in *folder*."""
    path = folder / f"{key}.safetensors"
    if not path.is_file():
        return None
    model = make_twin(key.model, settings, _facts(held_out(settings))[0], key.seed).model
    model.load_state_dict(load_file(path))
    return model.eval()


def task_of(data: Any) -> str:
    """``segmentation`` where targets are masks, ``classification`` where they are single labels."""
    return "segmentation" if data[0][1].ndim else "classification"


def _facts(test: Any) -> tuple[int, int | None]:
    return len(test.dataset.classes), test.dataset.ignore_index
