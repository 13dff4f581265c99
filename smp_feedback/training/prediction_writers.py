"""Predictions as files, batch by batch: maps and what goes with them of each image, or a table of labels."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from smp_feedback.data.augment import resize
from smp_feedback.data.batch import image_of, indices_of, is_clips
from smp_feedback.data.inspection.headers import header_of
from smp_feedback.data.items import inherited, item_name
from smp_feedback.errors import InvalidValue
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.ops.reading import SEGMENTATION, chances_of, labels_of
from smp_feedback.saving.files import replace_file
from smp_feedback.training.answer_maps import entropy
from smp_feedback.training.image_files import ImageFiles
from smp_feedback.training.image_outputs import ImageOutputs
from smp_feedback.training.output_kinds import OutputKinds
from smp_feedback.training.prediction_shares import gathered, in_order, put_together, share_of
from smp_feedback.training.unread import unread_of

LABELS, COLUMNS = "labels.csv", ("image", "label", "probability")


class ItemWriter(BasePredictionWriter, ABC):
    """Hands on each batch of predictions as soon as it is there, with the places of its items in the dataset.

    Args:
        folder: Where files go.
        dataset: Names the items.

    Attributes:
        unread: Images that could not be read, and why.
        images: The items' names.
    """

    def __init__(self, folder: Path, dataset: Any) -> None:
        super().__init__("batch")
        self.folder, self.dataset = folder, dataset
        self.unread: dict[str, str] = {}
        self.images = [item_name(dataset, i) for i in range(len(cast(Sized, dataset)))]

    def gather_unread(self, trainer: Any) -> None:
        """Know what no process could read."""
        every = {image: why for share in gathered(trainer, self.unread) for image, why in share.items()}
        self.unread = in_order(every, self.images) if trainer.world_size > 1 else every

    def write_on_batch_end(
        self, trainer: Any, pl_module: Any, prediction: Tensor, batch_indices: Any, batch: Any, *where: int
    ) -> None:
        """Called by Lightning; a batch is (images, targets, indices), of films these are (B, T)."""
        self.unread |= unread_of(batch)
        images = image_of(batch)
        if (refused := getattr(pl_module, "refused", None)) is not None:
            name = item_name(self.dataset, int(cast(Tensor, indices_of(batch))[0]))
            self.unread[name] = f"{name}: {refused}"
            return
        looks = getattr(pl_module, "looked", None)
        self.write(
            prediction,
            cast(Tensor, indices_of(batch)).flatten().tolist(),
            images=images.flatten(0, 1) if is_clips(images) else images,
            looks=None if looks is None else looks.tolist(),
        )

    @abstractmethod
    def write(
        self,
        prediction: Tensor,
        indices: list[int],
        *,
        images: Tensor | None = None,
        looks: Sequence[int] | None = None,
    ) -> None:
        """Write or note one batch.

        Args:
            prediction: Logits of every look, or of the last alone (T, B, classes, ...).
            indices: The items' places.
            images: As they were shown, in [0, 1].
            looks: How many each took.
        """

    @property
    def written(self) -> int:
        """How many images have been answered."""
        raise NotImplementedError


class PredictionWriter(ItemWriter):
    """Writes the files of each image at its own size: that of its file, where it has one and was resized from it.

    With *looks* also ``NAME.look_1.png``, ...: the labels of every look; with *uncertainty* ``NAME.uncertainty.png``:
    the entropy of the last look, black for none, white for log C. See :class:`ImageOutputs` for the rest.

    Args:
        folder, dataset: Those of :class:`ItemWriter`.
        classes: The classes' names; None numbers them.
        task: ``segmentation`` or ``multilabel``.
        outputs: What writes; None makes one of *folder*, *classes* and *task*.
        **kinds: What is written, see :class:`OutputKinds`.
    """

    def __init__(
        self,
        folder: Path,
        dataset: Any,
        classes: Sequence[str] | None = None,
        *,
        task: str = SEGMENTATION,
        outputs: ImageOutputs | None = None,
        **kinds: Any,
    ) -> None:
        super().__init__(folder, dataset)
        self.outputs = outputs or ImageOutputs(folder, classes, task=task, kinds=OutputKinds(**kinds))
        self.names = self.outputs.names_for(self.images)
        self.outputs.check_free(self.names)

    def write(
        self,
        prediction: Tensor,
        indices: list[int],
        *,
        images: Tensor | None = None,
        looks: Sequence[int] | None = None,
    ) -> None:
        """Write one batch, (T, B, classes, H, W)."""
        for b, index in enumerate(indices):
            size = own_size(self.dataset, index) or size_of(prediction)
            picture = None if images is None else Picture(self.dataset, index, images[b], size)
            name, took = item_name(self.dataset, index), None if looks is None else looks[b]
            self.outputs.write(name, self.names[index], prediction[:, b], size, looks=took, picture=picture)

    @property
    def written(self) -> int:
        """How many images have been answered."""
        return 0 if self.outputs.summary is None else len(self.outputs.summary.rows)

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the tables; of several processes the first writes those of all, in the order of the images."""
        self.gather_unread(trainer)
        shares = gathered(trainer, share_of(self.outputs))
        if trainer.world_size > 1:
            put_together(self.outputs, shares, self.images)
        if trainer.is_global_zero:
            self.outputs.finish()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """What there is so far is in the tables, too; of several processes each writes its own ``summary_0.csv``."""
        self.outputs.finish(None if trainer.world_size == 1 else f"summary_{trainer.global_rank}.csv")


class Picture:
    """An image at the size of its file, for an overlay; read again when it is called for."""

    def __init__(self, dataset: Any, index: int, shown: Tensor, size: Size) -> None:
        self.dataset, self.index, self.shown, self.size = dataset, index, shown, size

    def __call__(self) -> Tensor:
        """(C, H, W)."""
        if isinstance(self.dataset, ImageFiles):
            return self.dataset.whole(self.index)
        return resize(self.shown.float(), self.size)


def own_size(dataset: Any, index: int) -> Size | None:
    """(H, W) of the file of item *index*, where the item is all of it, resized; None where nobody knows."""
    if not isinstance(dataset, ImageFiles) and inherited(dataset, "size") is None:
        return None
    header = header_of(dataset, index)
    return None if header is None else header.size


def check_table(path: Path) -> None:
    """No table of somebody else's is written over by that of labels.

    Raises:
        InvalidValue: If one would be.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        begins = file.read(len(",".join(COLUMNS)))
    if begins and begins != ",".join(COLUMNS).encode():
        raise InvalidValue(
            f"{path} is there, and is no table that was written before; it would be written over. Give another folder."
        )


class LabelWriter(ItemWriter):
    """Writes ``labels.csv``: each image's name, its label after the last look, and how probable that is.

    With *looks* also a column for the label after each look; with *uncertainty* the entropy after the last look, 0 for
    none, 1 for log C. Of several processes the first writes the rows of all, in the order of the images.

    Args:
        folder, dataset: Those of :class:`ItemWriter`.
        classes: Their names.
        looks, uncertainty: What else is written.
        before: Rows that the table begins with.
    """

    def __init__(
        self,
        folder: Path,
        dataset: Any,
        classes: Sequence[str],
        *,
        looks: bool = False,
        uncertainty: bool = False,
        before: Sequence[dict[str, str]] = (),
    ) -> None:
        super().__init__(folder, dataset)
        check_table(folder / LABELS)
        self.classes, self.looks, self.uncertainty = classes, looks, uncertainty
        self.before, self.rows = before, list[dict[str, str]]()
        self.places: list[int] = []

    @property
    def written(self) -> int:
        """How many images have been answered."""
        return len(self.rows)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin anew."""
        self.rows, self.places = [*self.before], []

    def write(
        self,
        prediction: Tensor,
        indices: list[int],
        *,
        images: Tensor | None = None,
        looks: Sequence[int] | None = None,
    ) -> None:
        """Note one batch, (T, B, classes)."""
        names = [self.images[index] for index in indices]
        self.places += indices
        self.rows += [self.row(name, prediction[:, b].float().cpu()) for b, name in enumerate(names)]

    def row(self, name: str, logits: Tensor) -> dict[str, str]:
        """One image's, from its logits (T, classes)."""
        p = chances_of(logits[-1:])[0]
        label, sure = self.classes[int(p.argmax())], f"{float(p.max()):.4f}"
        found = dict(zip(COLUMNS, (name, label, sure), strict=True))
        if self.looks:
            found |= {f"look_{t}": self.classes[k] for t, k in enumerate(labels_of(logits).tolist(), start=1)}
        if self.uncertainty:
            found["uncertainty"] = f"{float(entropy(logits[-1:])):.4f}"
        return found

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the file, whole or not at all."""
        self.gather_unread(trainer)
        mine = list(zip(self.places, self.rows[len(self.before) :], strict=True))
        if trainer.world_size > 1:
            every = [one for share in gathered(trainer, mine) for one in share]
            self.rows = [*self.before, *(row for _, row in sorted(every, key=lambda one: one[0]))]
        if trainer.is_global_zero:
            replace_file(self.folder / LABELS, self._write)

    def _write(self, draft: Path) -> None:
        with draft.open("w", newline="", encoding="utf-8") as file:
            columns = max(self.rows, key=len, default={})  # images that stop by themselves have looks of their own
            table = csv.DictWriter(file, list(columns))
            table.writeheader()
            table.writerows(self.rows)
