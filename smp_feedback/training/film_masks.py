"""The masks of a film as files, a label map a frame, written as soon as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from smp_feedback.ops.reading import MULTILABEL
from smp_feedback.training.label_pictures import label_picture
from smp_feedback.training.output_names import file_names
from smp_feedback.training.own_maps import check_free, save_map

NUMBERED = "frame_"


class FilmMasks:
    """Writes ``NAME.png`` for each frame; where a pixel may have several labels a ``NAME.CLASS.png`` for each class.

    Args:
        folder: Where they go; made with the first.
        names: The frames' names; None numbers them, ``frame_000000`` first, for as many as come.
        classes: The classes' names, where a pixel may have several; else they are not needed.
        task: ``segmentation`` or ``multilabel``.

    Raises:
        InvalidValue: If what is in *folder* already, and is no label map of before, would be written over.
    """

    def __init__(self, folder: Path, names: Sequence[str] | None, classes: Sequence[str], task: str) -> None:
        self.folder, self.classes, self.task = folder, classes, task
        self.names = None if names is None else file_names(names)
        if self.names is None:
            stems = [path.stem for path in folder.glob(f"{NUMBERED}*.png")]
        else:
            stems = [f"{name}{ending}" for name in self.names for ending in self._endings(len(classes))]
        check_free(folder, stems)

    def older(self, frames: int) -> list[Path]:
        """Maps in the folder of a longer film before, of frames that one of so many *frames* has not."""
        if self.names is not None:
            return []
        last = f"{NUMBERED}{frames - 1:06d}"
        found = self.folder.glob(f"{NUMBERED}*.png")
        return sorted(path for path in found if path.name.split(".")[0] > last)

    def _endings(self, channels: int) -> list[str]:
        """What stands behind a frame's name: nothing, or each class where a pixel may have several."""
        if self.task != MULTILABEL:
            return [""]
        names = self.classes or [str(k) for k in range(channels)]
        return [f".{name}" for name in file_names([name.replace(".", "_") for name in names])]

    def write(self, place: int, labels: Tensor, channels: int) -> None:
        """Write the *labels* of the frame at *place*, read off so many *channels*; whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = f"{NUMBERED}{place:06d}" if self.names is None else self.names[place]
        several = self.task == MULTILABEL
        for ending, one in zip(self._endings(channels), labels if several else [labels], strict=True):
            save_map(label_picture(one, 1 if several else channels), self.folder / f"{stem}{ending}.png")
