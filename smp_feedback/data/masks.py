"""Label maps as tensors of class indices; what is neither a class nor ignored is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from smp_feedback.errors import InvalidInput, InvalidType

LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16B")  # Pillow's modes of one channel of whole numbers


@dataclass(frozen=True, kw_only=True)
class MaskReader:
    """How label maps are read, and what their values mean.

    Args:
        classes: Names of labels 0, 1, ...
        ignore_index: A label that counts for nothing; None if there is none.

    Raises:
        InvalidType: If *classes* is no sequence of names, or *ignore_index* no whole number.
    """

    classes: Sequence[str]
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", _checked_classes(self.classes))
        _checked_label(self.ignore_index)

    def read(self, path: Path) -> Tensor:
        """The label map at *path*, int64 (H, W).

        Raises:
            InvalidInput: If it cannot be read, naming the file.
        """
        return read_stored(path)

    def check(self, mask: Tensor, path: Path) -> None:
        """Every value of *mask* is a class or ignored.

        Raises:
            InvalidInput: With those that are not.
        """
        unknown = ((mask < 0) | (mask >= len(self.classes))) & (mask != self.ignore_index)
        if unknown.any():
            also = "" if self.ignore_index is None else f" or {self.ignore_index} (ignored)"
            raise InvalidInput(
                f"{path} has labels {sorted(set(mask[unknown].tolist()))}; "
                f"expected 0 to {len(self.classes) - 1} (the classes){also}."
            )


def read_stored(path: Path) -> Tensor:
    """A label map as it is stored, int64 (H, W); of a palette, the indices.

    Raises:
        InvalidInput: If it cannot be read, or has several channels, naming the file.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            if picture.mode not in LABEL_MODES:
                raise InvalidInput(f"{path}: expected one channel of labels, found an image of mode {picture.mode!r}.")
            return torch.from_numpy(np.array(picture).astype(np.int64))
    except InvalidInput:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        raise InvalidInput(f"{path}: expected an image file, but it cannot be read ({error}).") from error


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes) if isinstance(classes, Sequence) and not isinstance(classes, str) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidType(f"classes={classes!r}: expected the names of labels 0, 1, ..., at least one.")
    return names


def _checked_label(label: int | None) -> int | None:
    if isinstance(label, bool) or not isinstance(label, int | None):
        raise InvalidType(f"ignore_index={label!r}: expected a label (an int) or None.")
    return label
