"""What each scored image is worth, and its distances: counted beside a module's scores, over all processes."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from smp_feedback.data.batch import indices_of
from smp_feedback.evaluation.by_image import PARTS, Images, image_counts, mean_distances
from smp_feedback.evaluation.confusion import cells_in_parts, cells_of
from smp_feedback.evaluation.distances import check_measurable, distances_of
from smp_feedback.evaluation.named_metrics import DISTANCES
from smp_feedback.training.monitors import class_names, named_metrics


class ImageScores(Callback):
    """Counts each image of a split by its place there, as the last look answers it.

    Of films, and of batches that do not tell the places of their images, there are none.

    Args:
        task: ``segmentation``, ``multilabel`` or ``classification``.
        classes: Number of classes.
        ignore_index: Label that is not counted.
        size: How many images the split has.
        distances: Whether to measure distances, too, and to log them: ``val_hd95``, ``val_asd``, and those of classes.

    Raises:
        InvalidValue, MissingExtra: If *distances* cannot be measured.
    """

    images: Images | None = None
    """All that were counted, once the split is through."""

    def __init__(
        self, task: str, classes: int, ignore_index: int | None, size: int, *, distances: bool = False
    ) -> None:
        check_measurable(task, distances=distances)
        self.task, self.classes, self.ignore_index, self.size = task, classes, ignore_index, size
        self.measures = distances
        self._begin()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin anew."""
        self._begin()

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin anew."""
        self._begin()

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count one batch."""
        self._count(outputs, indices_of(batch))

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count one batch."""
        self._count(outputs, indices_of(batch))

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Put the counts of all processes together."""
        self._conclude(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Put the counts of all processes together."""
        self._conclude(trainer, pl_module, "test")

    def _begin(self) -> None:
        self.counts: Tensor | None = None
        self.distances = torch.zeros(self.size if self.measures else 0, self.classes, len(DISTANCES))

    def _count(self, outputs: Any, places: Tensor | None) -> None:
        if not isinstance(outputs, dict) or places is None:
            return
        told = outputs["logits"], outputs["target"], self.classes, self.ignore_index, self.task
        if self.counts is None:
            self.counts = torch.zeros(self.size, PARTS, self.classes, dtype=torch.long, device=places.device)
        counted = [image_counts(cells, self.classes, self.task) for cells in cells_in_parts(*told)]
        self.counts[places] = torch.stack(counted).sum(0)
        if self.measures:
            cells = cells_of(*told)
            self.distances[places.cpu()] = distances_of(cells, self.classes, self.ignore_index, self.task)

    def _conclude(self, trainer: Any, module: Any, stage: str) -> None:
        if self.counts is None:
            return
        counts, distances = (self._summed(trainer, part) for part in (self.counts, self.distances))
        self.images = Images(counts, distances if self.measures else None, self.task, self.ignore_index)
        if self.measures:
            whole = mean_distances(distances)
            each = {name: tuple(whole[:, k].tolist()) for k, name in enumerate(DISTANCES)}
            means = {name: float(whole[:, k].nanmean()) for k, name in enumerate(DISTANCES)}
            named = named_metrics((means, each), class_names(module.model, self.classes), stage)
            module.log_dict(named, sync_dist=True)

    @staticmethod
    def _summed(trainer: Any, part: Tensor) -> Tensor:
        """*part* over all processes, of which each has filled its own places; on the CPU."""
        if trainer.world_size == 1:
            return part.cpu()
        summed: Tensor = trainer.strategy.reduce(part.to(trainer.strategy.root_device), reduce_op="sum")
        return summed.cpu()
