"""What each scored image is worth, how far off and how connected; counted beside a module, in all processes."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from smp_feedback.data.batch import indices_of
from smp_feedback.evaluation.by_image import PARTS, Images, image_counts, means_of
from smp_feedback.evaluation.cells import cells_of
from smp_feedback.evaluation.confusion import cells_in_parts
from smp_feedback.evaluation.connectivity_names import NEITHER
from smp_feedback.evaluation.measures import check_measurable, measure_of
from smp_feedback.evaluation.named_metrics import METRICS, TOPOLOGY
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
        topology: Whether to measure connectivity, too, and to log it: ``val_cldice``, ``val_betti0_error``, ...
        every_look: Whether connectivity is that of every look, too: ``val_cldice/look_1``, ...

    Raises:
        InvalidValue, MissingExtra: If what is asked for cannot be measured.
    """

    images: Images | None = None
    """All that were counted, once the split is through."""
    by_look: dict[str, list[float]]
    """Connectivity of every look, the mean over images, then classes, by name; of the last alone, unless asked."""

    def __init__(
        self,
        task: str,
        classes: int,
        ignore_index: int | None,
        size: int,
        *,
        distances: bool = False,
        topology: bool = False,
        every_look: bool = False,
    ) -> None:
        check_measurable(task, distances=distances, topology=topology)
        self.task, self.classes, self.ignore_index, self.size = task, classes, ignore_index, size
        about = classes, ignore_index, task
        self.distances = measure_of(*about, distances=distances)
        self.topology, self.every_look = measure_of(*about, topology=topology), topology and every_look
        self._begin()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin anew."""
        self._begin(pl_module)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin anew."""
        self._begin(pl_module)

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

    def _begin(self, module: Any = None) -> None:
        self.counts: Tensor | None = None
        self.measured: dict[str, Tensor] = {}
        self.by_look = {}
        if module is not None:
            module.keeps_looks = self.every_look

    def _count(self, outputs: Any, places: Tensor | None) -> None:
        if not isinstance(outputs, dict) or places is None:
            return
        told = outputs["logits"], outputs["target"], self.classes, self.ignore_index, self.task
        if self.counts is None:
            self.counts = torch.zeros(self.size, PARTS, self.classes, dtype=torch.long, device=places.device)
        counted = [image_counts(cells, self.classes, self.task) for cells in cells_in_parts(*told)]
        self.counts[places] = torch.stack(counted).sum(0)
        if self.distances is not None or self.topology is not None:
            self._measure(outputs, places.cpu())

    def _measure(self, outputs: Any, places: Tensor) -> None:
        """What counts do not tell, by name, of every look that is kept (T, images, classes); of the last, distances."""
        before = outputs.get("before", ())
        looks = len(before) + 1
        for t, said in enumerate((*before, outputs["logits"])):
            cells = cells_of(said, outputs["target"], self.classes, self.ignore_index, self.task)
            values = {} if self.topology is None else dict(self.topology(cells))
            if self.distances is not None and t == looks - 1:
                values |= self.distances(cells)
            for name, value in values.items():
                shape = looks if name in TOPOLOGY else 1, self.size, self.classes
                self.measured.setdefault(name, torch.zeros(shape))[min(t, shape[0] - 1), places] = value

    def _conclude(self, trainer: Any, module: Any, stage: str) -> None:
        if self.counts is None:
            return
        measured = {name: self._summed(trainer, part) for name, part in self.measured.items()}
        last = {name: part[-1] for name, part in measured.items()}
        self.images = Images(self._summed(trainer, self.counts), last, self.task, self.ignore_index)
        each, whole = means_of(last), {}
        judged = [name for name in each if METRICS[name].best != NEITHER]
        for name in judged:
            whole[name] = float(each[name].nanmean())
        classes = {name: tuple(each[name].tolist()) for name in judged}
        module.log_dict(named_metrics((whole, classes), class_names(module.model, self.classes), stage), sync_dist=True)
        for name in (name for name in TOPOLOGY if name in measured):
            self.by_look[name] = measured[name].double().nanmean(1).nanmean(1).tolist()
            if self.every_look and name in judged:
                looks = {f"{stage}_{name}/look_{t + 1}": value for t, value in enumerate(self.by_look[name])}
                module.log_dict(looks if len(looks) > 1 else {}, sync_dist=True)

    @staticmethod
    def _summed(trainer: Any, part: Tensor) -> Tensor:
        """*part* over all processes, of which each has filled its own places; on the CPU."""
        if trainer.world_size == 1:
            return part.cpu()
        summed: Tensor = trainer.strategy.reduce(part.to(trainer.strategy.root_device), reduce_op="sum")
        return summed.cpu()
