"""What the runs of all experiments share: their data, one training, and the draws kept for held-out images."""

from __future__ import annotations

import gc
import time
from typing import Any, cast

import lightning
from torch import nn
from torch.utils.data import Subset

from smp_feedback.config.base import LoopConfig
from smp_feedback.data import open_dataset
from smp_feedback.data.folders.sharing import check_shared
from smp_feedback.data.strangers import as_handed, check_of_stranger
from smp_feedback.errors import InvalidValue
from smp_feedback.experiments.base_settings import ExperimentSettings
from smp_feedback.factory import create
from smp_feedback.training.build import shape_told
from smp_feedback.training.callbacks import NotFinite
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.facts import Facts, check_several, facts_of
from smp_feedback.training.trainer import fit

TEST_SEED = 2**32  # every run is scored on the same corrupted images; no run is trained under these


def opened(settings: ExperimentSettings, split: str, seed: int = 0, count: int | None = None, size: Any = None) -> Any:
    """One split of the settings' data, clean; of another *size* than theirs where one is given."""
    augment = settings.augment if split == "train" else "none"
    size = settings.size if size is None else size
    transform = as_handed(settings.data, augment)
    options = {"root": settings.root, "size": size, "seed": seed, "count": count, "transform": transform}
    try:
        dataset = open_dataset(settings.data, split, **options, **settings.data_options)
    except InvalidValue as error:
        if split != settings.split or not str(error).startswith(f"split={split!r}"):
            raise
        raise InvalidValue(f"{error} Or score what there is: split='val'.") from None
    check_of_stranger(settings.data, dataset, transform)
    return dataset


def facts(settings: ExperimentSettings) -> Facts:
    """What a model must know of the data, which have more than one class."""
    found = facts_of(opened(settings, settings.split, count=1))
    check_several(found)
    return found


def held_out(settings: ExperimentSettings, size: Any = None) -> Subset[Any]:
    """The images to score, clean, at most as many as are asked for; of another *size* where one is given."""
    data = opened(settings, settings.split, size=size)
    if 0 < settings.test_images < len(data):
        data = opened(settings, settings.split, count=settings.test_images, size=size)
    return Subset(data, range(len(data)))


def check_apart(settings: ExperimentSettings) -> None:
    """Warn of images to score that are among those to train on."""
    if settings.root is not None and settings.split != "train":
        check_shared({"train": opened(settings, "train")}, unused={settings.split: opened(settings, settings.split)})


def built(settings: ExperimentSettings, classes: int, config: LoopConfig | None, channels: int = 3) -> nn.Module:
    """The settings' architecture, closed into *config*'s loop, or as it is."""
    told: dict[str, Any] = {**shape_told(settings.arch, channels, classes), **settings.arch_options}
    told |= {} if settings.encoder is None else {"encoder_name": settings.encoder}
    model: nn.Module = create(
        settings.arch,
        encoder_weights=settings.encoder_weights,
        feedback=cast(Any, config),
        base_norm=cast(Any, settings.base_norm),
        **told,
    )
    return model


def train(
    key: Any,
    module: lightning.LightningModule,
    data: PairsModule,
    steps: int,
    accelerator: str,
    clip: float | None = None,
) -> float:
    """The seconds that it takes to train *module* as the run of *key*; its seed is the key's.

    Raises:
        NotFinite: If its loss is not finite, naming *key*.
    """
    gc.collect()  # the run before left its model in cycles: few objects, so Python waits, and much memory
    begin = time.perf_counter()
    try:
        fit(module, data, steps=steps, seed=key.seed, progress=False, accelerator=accelerator, clip=clip)
    except NotFinite as error:
        raise NotFinite(f"{key}: {error}") from error
    return time.perf_counter() - begin
