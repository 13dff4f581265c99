"""Cityscapes' layout: cities below each split, labels by id, of which 19 are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from smp_feedback.config.data import MaskValues
from smp_feedback.data.augment import Augmentation
from smp_feedback.data.folder import MaskFolder
from smp_feedback.data.folders.pairing import Found, find_samples
from smp_feedback.data.masks.reader import read_stored
from smp_feedback.errors import InvalidInput

IGNORED = 255
TRAIN_IDS = {  # id in the label map: class, in the order of the train ids 0 to 18
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
KNOWN = (*range(34), IGNORED, -1)  # -1, licence plates, is 255 in a file of bytes


class Cityscapes(MaskFolder):
    """Cityscapes (Cordts et al. 2016) as its archives unpack: the 19 classes of its benchmark, all else ignored.

    ``leftImg8bit/<split>/<city>/*_leftImg8bit.png`` with ``gtFine/<split>/<city>/*_gtFine_labelIds.png``, whose ids
    become train ids, or 255. Nothing is downloaded: https://www.cityscapes-dataset.com wants a registration. The
    labels of ``test`` are withheld there (its files hold no class); score on ``val``.

    Args:
        root: The folder that holds ``leftImg8bit`` and ``gtFine``.
        split: ``train``, ``val`` or ``test``.
        size: Side, or (H, W); the files have 1024 x 2048 pixels.
        transform, count, seed: See `MaskFolder`.

    >>> len(TRAIN_IDS)
    19
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        size: int | Sequence[int] | None = None,
        transform: Augmentation = None,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        options = {"size": size, "transform": transform, "count": count, "seed": seed}
        super().__init__(root, split, classes=tuple(TRAIN_IDS.values()), ignore_index=IGNORED, **options)  # type: ignore[arg-type]

    def find(self, root: Path, split: str, images: str, masks: str) -> Found:
        """The images of every city with their label maps."""
        return find_samples(
            root, split, "leftImg8bit/{split}/{stem}_leftImg8bit.png", "gtFine/{split}/{stem}_gtFine_labelIds.png"
        )

    @property
    def mask_values(self) -> MaskValues:
        """Cityscapes' own ids of the classes."""
        return tuple(TRAIN_IDS)

    def labels(self, path: Path) -> Tensor:
        """The label map at *path* in train ids."""
        return to_train_ids(read_stored(path), path)


def to_train_ids(ids: Tensor, path: Path) -> Tensor:
    """Cityscapes' ids as train ids 0 to 18, or 255.

    >>> to_train_ids(torch.tensor([[0, 7, 33, 255]]), Path("mask.png"))
    tensor([[255,   0,  18, 255]])
    """
    strange = ids[~torch.isin(ids, torch.tensor(KNOWN))]
    if strange.numel():
        raise InvalidInput(f"{path} has ids {sorted(set(strange.tolist()))}; expected those of Cityscapes, 0 to 33.")
    table = torch.full((256,), IGNORED)
    table[list(TRAIN_IDS)] = torch.arange(len(TRAIN_IDS))
    return table[ids]  # -1 is the last, as 255 is
