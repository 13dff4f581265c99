"""Predictions as files: label maps with a palette, or a table of labels; looks and uncertainty for who asks."""

from __future__ import annotations

import csv
import itertools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from PIL import Image
from torch import Tensor

from smp_feedback.data.batch import indices_of
from smp_feedback.data.images.georeference import Georeference, georeference, write_map
from smp_feedback.data.items import item_name
from smp_feedback.ops.reading import MULTILABEL, SEGMENTATION, chances_of, labels_of, per_class
from smp_feedback.saving.files import replace_file
from smp_feedback.training.label_pictures import BYTES, label_picture, voc_colour


class ItemWriter(BasePredictionWriter, ABC):
    """Hands on each batch of predictions as soon as it is there, with the places of its items in the dataset.

    Args:
        folder: Where files go.
        dataset: Names the items.
        looks: Whether every look is written, too.
        uncertainty: Whether the entropy of the last look is.
    """

    def __init__(self, folder: Path, dataset: Any, *, looks: bool = False, uncertainty: bool = False) -> None:
        super().__init__("batch")
        self.folder, self.dataset, self.looks, self.uncertainty = folder, dataset, looks, uncertainty

    def write_on_batch_end(
        self, trainer: Any, pl_module: Any, prediction: Tensor, batch_indices: Any, batch: Any, *where: int
    ) -> None:
        """Called by Lightning; a batch is (images, targets, indices), of films these are (B, T)."""
        self.write(prediction, cast(Tensor, indices_of(batch)).flatten().tolist())

    @abstractmethod
    def write(self, prediction: Tensor, indices: list[int]) -> None:
        """Write or note one batch: logits of every look (T, B, classes, ...), and the items' places."""


class PredictionWriter(ItemWriter):
    """Writes ``NAME.png``, a label map of the size that the model saw, for each item; whole or not at all.

    Of a GeoTIFF also ``NAME.tif``, which lies where the image lies (with rasterio installed).

    With *looks* also ``NAME.look_1.png``, ...: the labels of every look; with *uncertainty* ``NAME.uncertainty.png``:
    the entropy of the last look, black for none, white for log C. Where a pixel may have several labels there is a
    ``NAME.CLASS.png`` for each class, of 0 and 1, and likewise ``NAME.CLASS.look_1.png`` and the rest.

    Args:
        folder, dataset: Those of :class:`ItemWriter`.
        classes: The classes' names; None numbers them.
        task: ``segmentation`` or ``multilabel``.
        **shown: ``looks`` and ``uncertainty``.
    """

    def __init__(
        self,
        folder: Path,
        dataset: Any,
        classes: Sequence[str] | None = None,
        *,
        task: str = SEGMENTATION,
        **shown: bool,
    ) -> None:
        super().__init__(folder, dataset, **shown)
        self.names = file_names([item_name(dataset, i) for i in range(len(cast(Sized, dataset)))])
        self.classes, self.task = classes, task

    def write(self, prediction: Tensor, indices: list[int]) -> None:
        """Write one batch, (T, B, classes, H, W)."""
        if self.task != MULTILABEL:
            self._write_maps(prediction, indices)
            return
        count = prediction.shape[2]
        names = self.classes or [str(k) for k in range(count)]
        endings = file_names([name.replace(".", "_") for name in names])
        for k, ending in enumerate(endings):  # each on its own is a model of one channel
            self._write_maps(prediction[:, :, k : k + 1], indices, f".{ending}")

    def _write_maps(self, prediction: Tensor, indices: Sequence[int], ending: str = "") -> None:
        classes = prediction.shape[2]
        small = torch.uint8 if classes <= BYTES else torch.int32
        labels = torch.stack([labels_of(logits).to(small) for logits in prediction]).cpu()
        doubt = entropy(prediction[-1]).cpu() if self.uncertainty else None
        for b, index in enumerate(indices):
            stem = self.names[index] + ending
            self._write(f"{stem}.png", label_picture(labels[-1, b], classes))
            if place := georeference(item_name(self.dataset, index), *labels.shape[-2:]):
                self._place(f"{stem}.tif", labels[-1, b], place)
            for t in range(len(labels) if self.looks else 0):
                self._write(f"{stem}.look_{t + 1}.png", label_picture(labels[t, b], classes))
            if doubt is not None:
                self._write(f"{stem}.uncertainty.png", Image.fromarray((doubt[b] * 255).round().byte().numpy()))

    def _write(self, name: str, picture: Image.Image) -> None:
        replace_file(self.folder / name, lambda draft: picture.save(draft, format="png"))

    def _place(self, name: str, labels: Tensor, place: Georeference) -> None:
        colours = [voc_colour(label) for label in range(256)]
        replace_file(self.folder / name, lambda draft: write_map(draft, labels.numpy(), place, colours))


def file_names(names: Sequence[str]) -> list[str]:
    """A file's stem, or another name made fit for a file; those of one name are numbered, no two end up alike.

    >>> file_names(["a/street.png", "b/street.png", "polygons[3] of seed 0"])
    ['street', 'street_1', 'polygons_3_of_seed_0']
    >>> file_names(["a.jpg", "a.png", "a_1.png"])
    ['a', 'a_2', 'a_1']
    """
    stems = [re.sub(r"[^\w.-]+", "_", Path(name).stem if Path(name).suffix else name).strip("_") for name in names]
    stems = [stem or "image" for stem in stems]
    taken, numbers, made = set(stems), {stem: itertools.count(1) for stem in stems}, dict[str, None]()
    for stem in stems:
        more = (f"{stem}_{k}" for k in numbers[stem])
        made[stem if stem not in made else next(name for name in more if name not in taken)] = None
    return list(made)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the chances that *logits* give, divided by log C: (B, C, H, W) -> (B, H, W), in [0, 1].

    One channel is a choice of two.

    >>> entropy(torch.zeros(1, 4, 1, 1)), entropy(torch.zeros(1, 1, 1, 1))
    (tensor([[[1.]]]), tensor([[[1.]]]))
    """
    log_p = per_class(logits.float()).log_softmax(1)
    return -(log_p.exp() * log_p).sum(1) / math.log(max(2, logits.shape[1]))


class LabelWriter(ItemWriter):
    """Writes ``labels.csv``: each image's name, its label after the last look, and how probable that is.

    With *looks* also a column for the label after each look; with *uncertainty* the entropy after the last look, 0 for
    none, 1 for log C. Of several processes each writes its own share, ``labels_0.csv`` and so on.
    """

    def __init__(self, folder: Path, dataset: Any, classes: Sequence[str], **shown: bool) -> None:
        super().__init__(folder, dataset, **shown)
        self.classes = classes
        self.rows: list[dict[str, str]] = []

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin anew."""
        self.rows = []

    def write(self, prediction: Tensor, indices: list[int]) -> None:
        """Note one batch, (T, B, classes)."""
        names = [item_name(self.dataset, index) for index in indices]
        self.rows += [self.row(name, prediction[:, b].float().cpu()) for b, name in enumerate(names)]

    def row(self, name: str, logits: Tensor) -> dict[str, str]:
        """One image's, from its logits (T, classes)."""
        p = chances_of(logits[-1:])[0]
        found = {"image": name, "label": self.classes[int(p.argmax())], "probability": f"{float(p.max()):.4f}"}
        if self.looks:
            found |= {f"look_{t}": self.classes[k] for t, k in enumerate(labels_of(logits).tolist(), start=1)}
        if self.uncertainty:
            found["uncertainty"] = f"{float(entropy(logits[-1:])):.4f}"
        return found

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the file, whole or not at all."""
        name = "labels.csv" if trainer.world_size == 1 else f"labels_{trainer.global_rank}.csv"
        replace_file(self.folder / name, self._write)

    def _write(self, draft: Path) -> None:
        with draft.open("w", newline="", encoding="utf-8") as file:
            columns = max(self.rows, key=len, default={})  # images that stop by themselves have looks of their own
            table = csv.DictWriter(file, list(columns))
            table.writeheader()
            table.writerows(self.rows)
