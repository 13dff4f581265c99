"""The masks of a film as files, a label map a frame, written as soon as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from smp_feedback.ops.reading import MULTILABEL
from smp_feedback.saving.files import replace_file
from smp_feedback.training.label_pictures import label_picture
from smp_feedback.training.output_names import file_names


class FilmMasks:
    """Writes ``NAME.png`` for each frame; where a pixel may have several labels a ``NAME.CLASS.png`` for each class.

    Args:
        folder: Where they go; made with the first.
        names: The frames' names; None numbers them, ``frame_000000`` first, for as many as come.
        classes: The classes' names, where a pixel may have several; else they are not needed.
        task: ``segmentation`` or ``multilabel``.
    """

    def __init__(self, folder: Path, names: Sequence[str] | None, classes: Sequence[str], task: str) -> None:
        self.folder, self.classes, self.task = folder, classes, task
        self.names = None if names is None else file_names(names)

    def write(self, place: int, labels: Tensor, channels: int) -> None:
        """Write the *labels* of the frame at *place*, read off so many *channels*; whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = f"frame_{place:06d}" if self.names is None else self.names[place]
        if self.task != MULTILABEL:
            self._write(stem, labels, channels)
            return
        names = self.classes or [str(k) for k in range(channels)]
        for ending, one in zip(file_names([name.replace(".", "_") for name in names]), labels, strict=True):
            self._write(f"{stem}.{ending}", one, 1)

    def _write(self, stem: str, labels: Tensor, channels: int) -> None:
        picture = label_picture(labels, channels)
        replace_file(self.folder / f"{stem}.png", lambda draft: picture.save(draft, format="png"))
