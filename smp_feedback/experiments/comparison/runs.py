"""One run: a model trained once and scored under every condition; a pure function of the settings and its key."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from torch.utils.data import DataLoader, Subset

from smp_feedback.data import Corrupted
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation import evaluate, first_images
from smp_feedback.evaluation.connectivity_names import connectivity_in
from smp_feedback.experiments import store
from smp_feedback.experiments.comparison import budget
from smp_feedback.experiments.comparison.bases import cost_of
from smp_feedback.experiments.comparison.results import FEEDBACK
from smp_feedback.experiments.comparison.settings import ComparisonSettings, Condition
from smp_feedback.experiments.comparison.trained import told
from smp_feedback.experiments.comparison.variants import Twin, make_twin
from smp_feedback.experiments.cost import kept_for_backward, multiply_adds, seconds_per_image
from smp_feedback.experiments.runs import TEST_SEED, facts, held_out, opened, train
from smp_feedback.training import FeedbackModule, PairsModule

PIXELS = 2**19  # of the images that are scored at a time: so that memory does not grow with their size


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
    wanted = itertools.product(range(settings.seeds), settings.train_count, settings.conditions, settings.models)
    return (ComparisonKey(model, condition, images, seed) for seed, images, condition, model in wanted)


def training_data(settings: ComparisonSettings, key: ComparisonKey) -> tuple[Any, int]:
    """What *key* is trained on, as one pass that holds every optimiser step's images, and how many differ.

    The images are the first of an order that the seed draws, so that fewer are a part of more; each repetition of
    one is corrupted anew.
    """
    try:
        data = opened(settings, "train", key.seed, key.images or None)
    except InvalidValue as error:
        why = str(error).removeprefix(f"count={key.images}: ")
        raise InvalidValue(f"train_count={key.images}: {why} 0 is all of them.") from error
    count = min(key.images or len(data), len(data))
    if key.images > len(data):
        raise InvalidValue(f"train_count={key.images}: {settings.data} has {len(data)} to train on.")
    passes = -(-settings.batch_size * budget.steps_of(settings, key.model) // count)
    repeated = Subset(data, [*first_images(data, count, key.seed).indices] * passes)
    return Corrupted(repeated, key.train.corruption, key.train.severity, seed=key.seed), count


def passes_of(settings: ComparisonSettings, key: ComparisonKey) -> int:
    """Forward passes of the base that training a run is worth: what its time goes with."""
    return budget.passes_of(settings, key.model)


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
    test, twin = held_out(settings), untrained(settings, key)
    pairs = PairsModule(data, batch_size=settings.batch_size)
    seconds = train(key, lesson(settings, key, twin), pairs, twin.train_steps, accelerator, settings.clip)
    batch = [i % len(test) for i in range(settings.batch_size)]
    image = next(iter(DataLoader(Subset(test, batch), len(batch))))[0]
    macs = multiply_adds(twin.model, image[:1])
    found = {
        "model": key.model,
        "seed": key.seed,
        "train": str(key.train),
        "seconds": seconds,
        "images": count,
        "steps": twin.train_steps,
        "looks": twin.looks,
        "passes": passes_of(settings, key),
        "seconds_per_image": seconds_per_image(twin.model, image),
        "kept_mb": kept_for_backward(twin.model, image) / 2**20,
        "macs": macs,
        "once_macs": cost_of(settings).once if key.model == FEEDBACK else 0,
        "train_macs": budget.training_macs(settings, key.model, macs),
        "parameters": sum(p.numel() for p in twin.model.parameters()),
        "scores": list(scores(settings, key, twin, test)),
    }
    return store.Trained.of(twin.model, found)


def lesson(settings: ComparisonSettings, key: ComparisonKey, twin: Twin) -> FeedbackModule:
    """What trains the model of *key*."""
    supervise = settings.supervise if key.model == FEEDBACK else "last"
    how: Any = {"loss": settings.loss, "supervise": supervise, "lr": settings.lr, **_task(settings)}
    return FeedbackModule(twin.model, **how, **told(settings.training or {}, key.model))


def scores(settings: ComparisonSettings, key: ComparisonKey, twin: Twin, test: Subset[Any]) -> Iterator[dict[str, Any]]:
    """One entry for each condition; of the one it was trained on, or at each size, a loop's one for each look."""
    own = key.model == FEEDBACK and twin.looks > 1
    if settings.sizes is not None:
        for size in settings.sizes:
            entries = _scored(settings, twin, held_out(settings, size), key.train, settings.looks if own else None)
            yield from ({**entry, "size": size} for entry in entries)
        return
    every = settings.looks or range(1, 2 * twin.looks + 1)
    for condition in dict.fromkeys([*settings.tests, key.train]):
        looks = sorted({*every, twin.looks}) if own and condition == key.train else None
        yield from _scored(settings, twin, test, condition, looks)


def _scored(
    settings: ComparisonSettings, twin: Twin, test: Subset[Any], condition: Condition, looks: Sequence[int] | None
) -> Iterator[dict[str, Any]]:
    """One entry for each of *looks*, or for those that the model was trained with."""
    shown = Corrupted(test, condition.corruption, condition.severity, seed=TEST_SEED)
    how: Any = {**_task(settings), "batch_size": images_at_once(test[0][0].shape[-2:])}
    how["topology"] = bool(settings.topology)
    for score in evaluate(twin.model, shown, looks=looks or (twin.looks,), **how):
        where = {"corruption": condition.corruption, "severity": condition.severity, "looks": score.looks}
        found = {
            "score": score.score,
            "per_class": list(score.per_class),
            "ece": score.ece,
            "solved": score.solved,
        }
        if settings.topology:
            found["topology"] = connectivity_in(score.metrics)
        yield {**where, **found}


def _task(settings: ComparisonSettings) -> dict[str, Any]:
    about = facts(settings)
    return {"classes": len(about.classes), "ignore_index": about.ignore_index, "task": about.task}


def images_at_once(size: tuple[int, ...]) -> int:
    """How many images of *size* are scored at a time: 16, fewer where they are large.

    >>> images_at_once((64, 64)), images_at_once((512, 1024))
    (16, 1)
    """
    return max(1, min(16, PIXELS // math.prod(size)))


def restored(settings: ComparisonSettings, key: ComparisonKey, folder: Path) -> nn.Module | None:
    """The trained model of *key*, if its weights are kept in *folder*."""
    return store.restored(folder, key, lambda: untrained(settings, key).model)


def trained_otherwise(settings: ComparisonSettings, key: ComparisonKey, kept: Mapping[str, Any]) -> str:
    """Why the *kept* run of *key* is not what training it now would give; empty if it is."""
    return budget.trained_otherwise(settings, key.model, kept)
