"""One run of an ablation: a row's model trained once and scored; a pure function of the settings and its key."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset, Subset

from smp_feedback.data import Corrupted, Sample, open_dataset
from smp_feedback.data.triplets import Triplets
from smp_feedback.errors import InvalidValue
from smp_feedback.experiments.ablation.rows import DISTORTED, ROWS, lines
from smp_feedback.experiments.ablation.scores import scores
from smp_feedback.experiments.ablation.settings import AblationSettings
from smp_feedback.experiments.ablation.variants import make_model, make_module
from smp_feedback.experiments.comparison.runs import TEST_SEED
from smp_feedback.experiments.cost import seconds_per_image
from smp_feedback.experiments.store import keep_weights
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.training.build import Facts, facts_of
from smp_feedback.training.callbacks import NotFinite
from smp_feedback.training.datamodule import PairsModule, TripletsModule
from smp_feedback.training.trainer import fit


class Key(NamedTuple):
    """Which run of an ablation."""

    row: str
    seed: int

    def __str__(self) -> str:
        return f"{self.row}-s{self.seed}"


def keys(settings: AblationSettings) -> Iterator[Key]:
    """Every run, seed by seed, so that what is there after an hour is a whole table."""
    rows = [row for row in ROWS if row in settings.rows]
    return (Key(row, seed) for seed, row in itertools.product(range(settings.seeds), rows))


def opened(settings: AblationSettings, split: str, seed: int = 0, count: int | None = None) -> Any:
    """One split of the settings' data, clean."""
    augment = settings.augment if split == "train" else "none"
    options = {"root": settings.root, "size": settings.size, "seed": seed, "count": count, "transform": augment}
    return open_dataset(settings.data, split, **options, **settings.data_options)


def facts(settings: AblationSettings) -> Facts:
    """What a model must know of the data.

    Raises:
        InvalidValue: If they have one label an image.
    """
    found = facts_of(opened(settings, settings.split, count=1))
    if found.task != "segmentation":
        raise InvalidValue(f"data={settings.data} has one label an image: an ablation wants maps of labels.")
    return found


def training_data(settings: AblationSettings, key: Key) -> PairsModule | TripletsModule:
    """What *key* is trained on: the same images in the same order, and as distorted, in all rows of one seed."""
    clean = opened(settings, "train", key.seed, settings.images or None)
    row, how = ROWS[key.row], {"batch_size": settings.batch_size, "seed": key.seed}
    if row.restored:
        return TripletsModule(Triplets(clean, *settings.distortion, fresh=True), **how)
    distorted = row.images == DISTORTED
    return PairsModule(Corrupted(clean, *settings.distortion, fresh=True) if distorted else clean, **how)


def held_out(settings: AblationSettings) -> Dataset[Sample]:
    """The images to score, clean, at most as many as are asked for."""
    data = opened(settings, settings.split)
    if 0 < settings.test_images < len(data):
        data = opened(settings, settings.split, count=settings.test_images)
    return Subset(data, range(len(data)))


def test_triplets(settings: AblationSettings) -> Triplets:
    """The same distorted images for every row and seed, beside the clean ones; none of training is drawn so."""
    return Triplets(held_out(settings), *settings.distortion, seed=TEST_SEED)


def trained(settings: AblationSettings, key: Key, accelerator: str) -> tuple[nn.Module, float]:
    """The model of *key*, trained, and the seconds that took."""
    about, data = facts(settings), training_data(settings, key)
    model = make_model(key.row, settings, about, key.seed)
    module = make_module(key.row, settings, about, model, data)
    begin = time.perf_counter()
    try:
        fit(module, data, steps=settings.train_steps, seed=key.seed, progress=False, accelerator=accelerator)
    except NotFinite as error:
        raise NotFinite(f"{key}: {error}") from error
    return model, time.perf_counter() - begin


def run(settings: AblationSettings, key: Key, folder: Path | None = None, accelerator: str = "auto") -> dict[str, Any]:
    """Train, score and measure one model.

    Args:
        settings: The ablation.
        key: Which of its runs.
        folder: Where its weights go; None keeps none.
        accelerator: Lightning's.

    Returns:
        A run as ``ablation.json`` holds it.
    """
    gc.collect()  # the run before left its model in cycles
    model, seconds = trained(settings, key, accelerator)
    device = torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    model, test = model.to(device), test_triplets(settings)
    found = {"row": key.row, "seed": key.seed, "seconds": seconds, **compute(model, settings)}
    found["seconds_per_image"] = seconds_per_image(model, test[0][0][None].to(device))
    found["scores"] = [
        entry for line in lines([key.row]) for entry in scores(model, test, facts(settings), line.images)
    ]
    if folder is not None:
        keep_weights(folder, key, model)
    return found


def compute(model: nn.Module, settings: AblationSettings) -> dict[str, Any]:
    """What training takes: updates, and forward passes of a batch, of M and R; and the parameters of both."""
    every, n = sum(p.numel() for p in model.parameters()), settings.train_steps
    if not isinstance(model, RestorationModel):
        return {"updates": {"M": n, "R": 0}, "passes": {"M": n, "R": 0}, "parameters": {"M": every, "R": 0}}
    config, restorer = model.feedback.config, sum(p.numel() for p in model.restorer.parameters())
    each = config.steps + 1 if config.weight else 1  # the first restoration is in no loss
    return {
        "updates": {"M": n, "R": n * config.steps},
        "passes": {"M": n * each, "R": n * each},
        "parameters": {"M": every - restorer, "R": restorer},
    }


def restored(settings: AblationSettings, key: Key, folder: Path) -> nn.Module | None:
    """The trained model of *key*, if its weights are in *folder*."""
    path = folder / f"{key}.safetensors"
    if not path.is_file():
        return None
    model = make_model(key.row, settings, facts(settings), key.seed)
    model.load_state_dict(load_file(path))
    return model.eval()
