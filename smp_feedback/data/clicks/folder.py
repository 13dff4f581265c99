"""Folders of images and of masks that tell one object from another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smp_feedback.data.augment import Augmentation
from smp_feedback.data.clicks.objects import Objects
from smp_feedback.data.files import Root, needed
from smp_feedback.data.folder import MaskFolder
from smp_feedback.data.masks.files import read_mask
from smp_feedback.errors import InvalidInput


class InstanceFolder(MaskFolder):
    """Images, and under the same stem masks in which each value above 0 is one object, as 16-bit PNG or TIFF hold them.

    Args:
        root, split, size, transform, images, count, seed, and what parts splits: See `MaskFolder`.
        masks: The folder of masks, or the path of one with ``{stem}``.

    Items are (image, labels): float32 (C, H, W) in [0, 1], and int64 (H, W), 0 where no object is.

    Raises:
        InvalidInput: On access, naming the file: as `MaskFolder`, or if a mask has colours.

    >>> import tempfile
    >>> from PIL import Image
    >>> root = Path(tempfile.mkdtemp())
    >>> for folder, picture in ("train", Image.new("RGB", (8, 6))), ("traininstances", Image.new("I;16", (8, 6), 300)):
    ...     (root / folder).mkdir()
    ...     picture.save(root / folder / "cells.png")
    >>> InstanceFolder(root)[0][1].unique()
    tensor([300])
    """

    def __init__(self, root: str | Path, split: str = "train", *, masks: str = "{split}instances", **told: Any) -> None:
        super().__init__(root, split, masks=masks, classes=("background", "object"), ignore_index=None, **told)

    def labels(self, path: Path) -> Tensor:
        """The objects of the mask at *path*, int64 (H, W), as they are stored."""
        stored = read_mask(path)
        if stored.values.ndim != 2 or (stored.palette is not None and len(np.unique(stored.values)) > 256):
            raise InvalidInput(f"{path} has colours: expected one channel, a number for each object.")
        return torch.from_numpy(stored.values.astype(np.int64))

    def _check_labels(self, path: Path, mask: Tensor) -> None:
        """Any number is an object."""


def instances(
    split: str = "train",
    *,
    root: Root = None,
    size: int | Sequence[int] | None = None,
    seed: int = 0,
    count: int | None = None,
    transform: Augmentation = None,
    window: int | None = None,
    least: int = 20,
    **told: Any,
) -> Objects:
    """The objects of your own images, see `InstanceFolder` and `Objects`; in training the window is moved."""
    root = needed("instances", root, "train/ and traininstances/")
    pairs = InstanceFolder(root, split, size=size, seed=seed, count=count, transform=transform, **told)
    return Objects(pairs, window=window, least=least, moved=split == "train")
