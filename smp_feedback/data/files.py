"""Files of images and label maps, as tensors; one that cannot be read is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from smp_feedback.errors import InvalidInput

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
LABEL_SUFFIXES = (".png", ".tif", ".tiff")  # JPEG would blur labels into one another
SIXTEEN_BITS = 65535 / 255  # one of 8 bits
LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16B")  # Pillow's modes of one channel of whole numbers


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """Sorts ``frame2`` before ``frame10``; the name itself decides between ``frame2`` and ``frame02``.

    >>> [path.name for path in sorted([Path("f10.png"), Path("f2.png"), Path("f1.png")], key=natural_key)]
    ['f1.png', 'f2.png', 'f10.png']
    """
    parts = re.split(r"(\d+)", path.stem.lower())  # text and digits take turns, so like is compared with like
    return [int(part) if k % 2 else part for k, part in enumerate(parts)], path.name


def some(names: Sequence[str]) -> str:
    """The first three of *names*, for an error."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def by(size: Sequence[int]) -> str:
    """``480 x 640``."""
    return " x ".join(map(str, size))


def read_image(path: Path) -> Tensor:
    """An image as RGB, from 0 to 255: uint8 (3, H, W), or float32 where one channel of 16 bits says more."""
    return torch.from_numpy(_decode(path, "RGB")).permute(2, 0, 1).contiguous()


def read_labels(path: Path) -> Tensor:
    """A label map as it is stored, int64 (H, W); of a palette, the indices."""
    return torch.from_numpy(_decode(path, None).astype(np.int64))


def _decode(path: Path, mode: str | None) -> NDArray[np.generic]:
    try:
        with Image.open(path) as picture:
            picture.load()
            if mode is None and picture.mode not in LABEL_MODES:
                raise InvalidInput(f"{path}: expected one channel of labels, found an image of mode {picture.mode!r}.")
            if mode and picture.mode in ("I", "F"):
                raise InvalidInput(f"{path}: expected 8 or 16 bits a channel, found Pillow's mode {picture.mode!r}.")
            if mode and picture.mode.startswith("I;16"):  # Pillow would clip: all but the darkest pixels become white
                return np.repeat(np.array(picture, np.float32)[..., None] / SIXTEEN_BITS, 3, axis=2)
            return np.array(picture.convert(mode) if mode else picture)
    except InvalidInput:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        raise InvalidInput(f"{path}: expected an image file, but it cannot be read ({error}).") from error
