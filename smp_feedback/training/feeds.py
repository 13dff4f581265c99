"""How the batches of a trainer are shown to its model: asked once for each stage, not in every batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from smp_feedback.config.data import DataConfig
from smp_feedback.data.batch import IMAGE
from smp_feedback.data.feeding import check_first, config_for
from smp_feedback.surgery.extension import carried


class Feeds:
    """What each stage's model expects of its dataset's images, kept for as long as both are the same.

    A copy of it, such as goes to another process, begins anew.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[Any, ...], DataConfig]] = {}

    def __reduce__(self) -> Any:
        return Feeds, ()

    def config(self, trainer: Any, images: Any = None) -> DataConfig:
        """What the images that *trainer* is going through are normalised by, see `config_for`.

        The first *images* of each stage are looked at, see `check_first`.
        """
        stage, model, dataset = stage_of(trainer), model_of(trainer), dataset_of(trainer)
        now = model, dataset, *(vars(one).get("data_config") for one in carried(model))
        before, config = self._known.get(stage, ((), DataConfig()))
        if len(before) != len(now) or any(one is not other for one, other in zip(before, now, strict=True)):
            config = config_for(model, dataset)
            self._known[stage] = now, config
            if isinstance(images, Tensor):
                check_first(model, dataset, images)
        return config

    def fed(self, trainer: Any, batch: Any, images: int = 1) -> Any:
        """*batch*, whose first *images* parts are images, as the model of *trainer*'s module wants it."""
        first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
        first = first.get(IMAGE) if isinstance(first, Mapping) else first
        feed = self.config(trainer, first).normalise
        if isinstance(batch, Mapping) and IMAGE in batch:
            return {**batch, IMAGE: feed(batch[IMAGE])}
        if isinstance(batch, Tensor):
            return feed(batch)
        return [*map(feed, batch[:images]), *batch[images:]] if isinstance(batch, (tuple, list)) else batch


def model_of(trainer: Any) -> nn.Module:
    """The model of *trainer*'s module, or that module."""
    module: nn.Module = trainer.lightning_module
    model = getattr(module, "model", module)
    return model if isinstance(model, nn.Module) else module


def stage_of(trainer: Any) -> str:
    """``train``, ``val``, ``test`` or ``predict``."""
    if trainer.training:
        return "train"
    return "test" if trainer.testing else "predict" if trainer.predicting else "val"


def dataset_of(trainer: Any) -> Any:
    """The dataset that *trainer* is going through; None where nobody knows.

    It is that of the loader: a trainer goes on having the data module of an earlier call.
    """
    stage = stage_of(trainer)
    loaders = getattr(trainer, "train_dataloader" if stage == "train" else f"{stage}_dataloaders")
    loader = loaders[0] if isinstance(loaders, (list, tuple)) and loaders else loaders
    return getattr(loader, "dataset", None)
