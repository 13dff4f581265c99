"""Images as tensors; a file that cannot be read whole is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from smp_feedback.errors import InvalidInput

SIXTEEN_BITS = 65535  # what becomes 1, of one channel of 16 bits


@dataclass(frozen=True, kw_only=True)
class ImageReader:
    """How images are read: RGB, whatever was stored."""

    def read(self, path: Path) -> Tensor:
        """An image, uint8 (3, H, W), or float32 in [0, 1] where its file says more than 8 bits do.

        Raises:
            InvalidInput: If it cannot be read, naming the file.
        """
        return torch.from_numpy(_decode(path)).permute(2, 0, 1).contiguous()


def as_unit(image: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1]; what is floating point already, as it is.

    >>> as_unit(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([0., 1.])
    """
    return image if image.is_floating_point() else image / 255


def _decode(path: Path) -> NDArray[np.generic]:
    try:
        with Image.open(path) as picture:
            picture.load()
            if picture.mode in ("I", "F"):
                raise InvalidInput(f"{path}: expected 8 or 16 bits a channel, found Pillow's mode {picture.mode!r}.")
            if picture.mode.startswith("I;16"):  # Pillow would clip: all but the darkest pixels become white
                return np.repeat(np.array(picture, np.float32)[..., None] / SIXTEEN_BITS, 3, axis=2)
            return np.array(picture.convert("RGB"))
    except InvalidInput:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        raise InvalidInput(f"{path}: expected an image file, but it cannot be read ({error}).") from error
