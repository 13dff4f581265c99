"""A few validation images in TensorBoard, epoch by epoch: the image, what is so, and what the model says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from smp_feedback.checks import check_whole
from smp_feedback.data.batch import image_of, indices_of
from smp_feedback.data.items import item_name
from smp_feedback.errors import InvalidValue
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL, labels_of
from smp_feedback.training.label_pictures import voc_colour

SAMPLES = 4
VOID = (255, 255, 255)
BETWEEN = 4
"""White columns between two panels."""


class ShowsSamples(Callback):
    """Writes what the last look says of some validation images, always the same, to TensorBoard.

    Shown are the very answers that are scored, so that nothing is run once more, and no random number is drawn. The
    images are as the dataset gives them, before they are normalised.

    Args:
        data: The validation pairs.
        every: Epochs between two pictures.
        classes: The names of the classes.
        task: ``segmentation``, ``multilabel`` (of several labels the last is shown) or ``classification``, of which
            the names are written beside the image.

    Raises:
        InvalidValue: If there is no validation image.
    """

    def __init__(self, data: Any, every: int, classes: Sequence[str], task: str) -> None:
        check_whole("samples_every", every)
        if not data:
            raise InvalidValue(f"samples_every={every} shows validation images, and there is none.")
        self.data, self.every, self.classes, self.task = data, every, tuple(classes), task

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Write those of this batch that are shown."""
        places, due = indices_of(batch), (trainer.current_epoch + 1) % self.every == 0
        if trainer.state.fn != "fit" or trainer.sanity_checking or not due or places is None:
            return
        board = next((log for log in trainer.loggers if isinstance(log, TensorBoardLogger)), None)
        if board is None or not trainer.is_global_zero or not isinstance(outputs, dict):
            return
        shown = chosen(len(self.data), trainer.world_size)
        for i, place in enumerate(places.tolist()):
            if place in shown:
                self._write(board.experiment, place, image_of(batch)[i], outputs, i, trainer.global_step)

    def _write(self, board: Any, place: int, image: Tensor, outputs: dict[str, Tensor], i: int, step: int) -> None:
        said = labels_of(outputs["logits"][i : i + 1].float(), self.task)[0]
        panel, name = in_colour(image), f"val/{item_name(self.data, place)}"
        if self.task == CLASSIFICATION:
            so = self._class(int(outputs["target"][i]))
            board.add_image(name, panel, step)
            board.add_text(name, f"truth: {so}; prediction: {self._class(int(said))}", step)
            return
        maps = (painted(labels, len(self.classes), self.task) for labels in (outputs["target"][i], said))
        board.add_image(name, beside([panel, *maps]), step)

    def _class(self, label: int) -> str:
        return self.classes[label] if 0 <= label < len(self.classes) else "none"


def chosen(count: int, processes: int = 1) -> list[int]:
    """The places of a few of *count* images, from all over them, that the first of *processes* scores.

    >>> chosen(10), chosen(2), chosen(9, processes=2)
    ([0, 2, 5, 7], [0, 1], [0, 2, 4, 6])
    """
    few = min(SAMPLES, count)
    places = (i * count // few for i in range(few))
    return sorted({place - place % processes for place in places})


def in_colour(image: Tensor) -> Tensor:
    """An image (C, H, W) in [0, 1] as bytes (3, H, W): its first three bands, or its first in grey."""
    seen = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    return seen.float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu()


def painted(labels: Tensor, classes: int, task: str) -> Tensor:
    """A label map (H, W), or (classes, H, W) of 0 and 1, as bytes (3, H, W) in PASCAL VOC's palette; void is white.

    >>> painted(torch.tensor([[1, 255]]), 2, "segmentation").flatten(1).T.tolist()
    [[128, 0, 0], [255, 255, 255]]
    """
    labels = labels.cpu()
    if task == MULTILABEL:  # each label has the colour behind the background's
        number = torch.arange(1, classes + 1).view(-1, 1, 1)
        void = ((labels != 0) & (labels != 1)).all(0)
        labels, classes = torch.where(void, -1, ((labels == 1) * number).amax(0)), classes + 1
    table = torch.tensor([*(voc_colour(k) for k in range(classes)), VOID], dtype=torch.uint8)
    known = torch.where((labels >= 0) & (labels < classes), labels, classes)
    return table[known].permute(2, 0, 1)


def beside(panels: Sequence[Tensor]) -> Tensor:
    """Panels (3, H, W) of bytes side by side, with white between them."""
    gap = torch.full((3, panels[0].shape[1], BETWEEN), 255, dtype=torch.uint8)
    parts = [part for panel in panels for part in (panel, gap)]
    return torch.cat(parts[:-1], 2)
