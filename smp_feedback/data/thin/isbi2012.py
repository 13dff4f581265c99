"""The membranes of the ISBI 2012 challenge: sections of one block, as the pages of two TIFFs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from smp_feedback.checks import check_choice
from smp_feedback.config.data import MaskValues
from smp_feedback.data.augment import Augmentation, as_item, as_transform
from smp_feedback.data.files import Root, Size, by, needed
from smp_feedback.data.images.limits import opened_picture
from smp_feedback.data.images.plain_tiff import check_strips
from smp_feedback.data.images.unreadable import naming_file
from smp_feedback.data.items import Sample, checked_index, height_width
from smp_feedback.data.seeding import SPLITS, check_choice_of_items, choose
from smp_feedback.data.thin.base import check_there
from smp_feedback.errors import InvalidInput, InvalidValue

VOLUME, LABELS, SECTIONS = "train-volume.tif", "train-labels.tif", 30
LAYOUT = f"{VOLUME} and {LABELS}, {SECTIONS} pages each, in one folder"
OF_SPLIT = {"train": range(20), "val": range(20, 24), "test": range(24, 30)}
MEMBRANE, CELL = 0, 255  # as the file has them


class Isbi2012(Dataset[Sample]):
    """ISBI 2012: 30 electron micrographs of a fly's nerve cord, 512 x 512, grey (Arganda-Carreras et al. 2015).

    From https://imagej.net/events/isbi-2012-segmentation-challenge, whose page has the conditions; cite Cardona et al.
    2010, too. ``train-volume.tif`` and ``train-labels.tif`` have a section a page. The file's labels are 0 for membrane
    and 255 for what is inside a cell; here the membrane is the structure: class 1, and a cell is 0. Nothing is ignored.

    The labels of ``test-volume.tif`` are withheld by the authors, so ``test`` is cut from the labelled sections:
    1 to 20 are ``train``, 21 to 24 ``val`` and 25 to 30 ``test``. Each is a run, so that neighbours, which look alike,
    are in two splits at the two seams alone. Scores are not the challenge's.

    Args:
        split: ``train``, ``val`` or ``test``.
        root: The folder that holds both files.
        size, seed, count, transform: See `MaskFolder`.
        channels: 1 keeps grey single; None, and 3, repeat it, as encoders that were trained on colours want it.

    Raises:
        InvalidValue: If a file is missing, with its path and the layout.
        InvalidInput: If one cannot be read, or is not 30 grey pages of 8 bits, naming it.
    """

    classes = ("cell", "membrane")
    ignore_index = None
    normalised = False
    task = "segmentation"

    def __init__(
        self,
        split: str = "train",
        *,
        root: Root = None,
        size: Size = None,
        seed: int = 0,
        count: int | None = None,
        transform: Augmentation = None,
        channels: int | None = None,
    ) -> None:
        check_choice("split", split, SPLITS)
        check_choice_of_items(count, seed)
        if channels not in (None, 1, 3):
            raise InvalidValue(f"channels={channels!r}: expected 1, or 3 equal ones.")
        self.channels = channels or 3
        self.size = None if size is None else height_width(size, least=1)
        self.transform = as_transform(transform)
        top = needed("isbi2012", root, LAYOUT)
        self.volume, self.truth = top / VOLUME, top / LABELS
        check_there([self.volume, self.truth], LAYOUT)
        for path in (self.volume, self.truth):
            check_stack(path)
        mine = OF_SPLIT[split]
        self.sections = [mine[k] for k in choose(len(mine), count, seed, split)]

    @property
    def mask_values(self) -> MaskValues:
        """What the file holds for a cell and for a membrane."""
        return CELL, MEMBRANE

    def name(self, index: SupportsIndex) -> str:
        """Such as ``train-volume.tif, section 21``, counted from 1."""
        return f"{self.volume}, section {self.sections[checked_index(index, len(self))] + 1}"

    def __len__(self) -> int:
        return len(self.sections)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        section = self.sections[checked_index(index, len(self))]
        grey, truth = read_section(self.volume, section), read_section(self.truth, section)
        if grey.shape != truth.shape:
            raise InvalidInput(f"{self.truth} has {by(truth.shape)} pixels, {self.volume} has {by(grey.shape)}.")
        strange = sorted(set(np.unique(truth).tolist()) - {MEMBRANE, CELL})
        if strange:
            raise InvalidInput(f"{self.truth}: section {section + 1} has {strange[:5]}; expected 0 and 255.")
        image = torch.from_numpy(grey)[None].repeat(self.channels, 1, 1)
        mask = torch.from_numpy((truth == MEMBRANE).astype(np.int64))
        return as_item(image, mask, size=self.size, transform=self.transform, name=self.name(index))


def check_stack(path: Path) -> None:
    """*path* is a TIFF of 30 pages.

    Raises:
        InvalidInput: If not, naming it.
    """
    with naming_file(path), opened_picture(path, path, ("TIFF",)) as picture:
        if picture.n_frames != SECTIONS:
            raise InvalidInput(f"{path}: expected {SECTIONS} pages, as published, found {picture.n_frames}.")


def read_section(path: Path, section: int) -> NDArray[np.uint8]:
    """One page of a stack, counted from 0, (H, W).

    Raises:
        InvalidInput: If it cannot be read, or is not grey of 8 bits, naming the file.
    """
    with naming_file(path), opened_picture(path, path, ("TIFF",)) as picture:
        picture.seek(section)
        _check_grey(path, picture, section)
        check_strips(path, picture)
        return np.array(picture)


def _check_grey(path: Path, picture: Any, section: int) -> None:
    inverted = picture.tag_v2.get(262) == 0
    if picture.mode != "L" or inverted:
        found = "white stored as zero" if inverted else f"mode {picture.mode!r}"
        raise InvalidInput(f"{path}: section {section + 1}: expected grey of 8 bits, found {found}.")
