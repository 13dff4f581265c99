"""Cracks in roads and walls: CrackForest, whose masks are MATLAB files, and DeepCrack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from smp_feedback.data.folders.pairing import Found, find_samples
from smp_feedback.data.folders.splits import SplitRule
from smp_feedback.data.thin.base import IGNORED, NumberedFolder, Numbers, ThinFolder
from smp_feedback.errors import InvalidInput, InvalidValue, one_line, require

GROUND, CRACK = 1, 2  # regions of groundTruth.Segmentation
MIRRORS = ("groundTruth/{}.mat", "groundTruth/{}.png", "groundTruthPngImg/{}.png")
PHOTOGRAPH = r"([^/]+?)(?:-\d+)?\.\w+$"  # 11125-1 and 11125-2 are parts of one


class CrackForest(NumberedFolder):
    """CrackForest (CFD): 118 photographs of roads, 480 x 320 (Shi et al. 2016, IEEE Trans. ITS 17(12)).

    From https://github.com/cuilimeng/CrackForest-dataset, for non-commercial research alone. ``image/001.jpg`` with
    ``groundTruth/001.mat``, whose ``groundTruth.Segmentation`` numbers regions: 1 is ground, 2 a crack. Some files have
    regions 3 and 4, of which the authors do not say what they are: ignored (255). Where there is no ``.mat``, a black
    and white ``groundTruth/001.png`` or ``groundTruthPngImg/001.png`` is read. There is no official split: 001 to 080
    are ``train``, 081 to 093 ``val`` and 094 to 118 ``test``. Images above 118, which have no truth, are not used.

    Args:
        split, root, size, seed, count, transform, channels: See `ThinFolder`.

    Raises:
        MissingExtra: If the truth is in MATLAB's files and scipy is not installed.
    """

    dataset, structure = "crackforest", "crack"
    layout = "image/001.jpg and groundTruth/001.mat (or groundTruth/001.png) up to 118"
    numbers: ClassVar[Numbers] = {"train": range(1, 81), "val": range(81, 94), "test": range(94, 119)}

    def files(self, root: Path, split: str, number: int) -> Sequence[tuple[Path, ...]]:
        """A photograph and its truth, of whichever kind there is."""
        name = f"{number:03}"
        truths = [root / mirror.format(name) for mirror in MIRRORS]
        return [(root / f"image/{name}.jpg", next((path for path in truths if path.is_file()), truths[0]))]

    def labels(self, path: Path) -> Tensor:
        """The truth at *path*, of a MATLAB file or a picture."""
        return read_regions(path) if path.suffix == ".mat" else super().labels(path)


def read_regions(path: Path) -> Tensor:
    """``groundTruth.Segmentation`` of a MATLAB file: 0 ground, 1 crack, 255 what is neither, int64 (H, W).

    Raises:
        InvalidInput: If it cannot be read or holds something else, naming the file.
    """
    require("scipy", "matlab")
    from scipy.io import loadmat

    expected = "expected a MATLAB file with groundTruth.Segmentation, regions by number, from 1 (ground; 2 is a crack)"
    try:
        regions = np.asarray(loadmat(path, variable_names="groundTruth")["groundTruth"]["Segmentation"].item())
    except Exception as error:  # scipy raises all kinds
        raise InvalidInput(f"{path}: {expected}, but it cannot be read so ({one_line(error)}).") from error
    if regions.ndim != 2 or not np.issubdtype(regions.dtype, np.integer) or regions.min(initial=1) < GROUND:
        raise InvalidInput(f"{path}: {expected}, found {regions.dtype} of shape {regions.shape}.")
    labels = np.where(regions == GROUND, 0, np.where(regions == CRACK, 1, IGNORED))
    return torch.from_numpy(labels.astype(np.int64))


class DeepCrack(ThinFolder):
    """DeepCrack: 537 photographs of cracks in several scenes, 544 x 384 (Liu et al. 2019, Neurocomputing 338).

    From https://github.com/yhlleo/DeepCrack; who uses it cites the paper, no licence is given. ``train_img/*.jpg`` with
    ``train_lab/*.png``, ``test_img`` with ``test_lab``: the official split of 300 and 237. Of the training photographs
    a tenth is ``val``, by a hash of their names; parts of one photograph (``11125-1``, ``11125-2``) stay together.
    Nothing is ignored.

    Args:
        split, root, size, seed, count, transform, channels: See `ThinFolder`.
    """

    dataset, structure = "deepcrack", "crack"
    layout = "train_img/*.jpg with train_lab/*.png and test_img/*.jpg with test_lab/*.png"

    def find(self, root: Path, split: str, images: str, masks: str) -> Found:
        """The photographs of the split with their cracks."""
        rule = SplitRule(val_share=0.1, group=PHOTOGRAPH)
        try:
            return find_samples(root, split, "{split}_img", "{split}_lab", rule=rule)
        except InvalidValue as error:
            raise InvalidValue(f"{error} The published layout is {self.layout}.") from None
