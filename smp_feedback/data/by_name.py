"""Datasets as the registry opens them: ``make(split, *, root, size, seed, count, transform, ...)``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smp_feedback.data.augment import Augmentation
from smp_feedback.data.files import Root, Size, needed
from smp_feedback.data.folder import CAMVID_CLASSES, MaskFolder
from smp_feedback.data.folders.films import film_pattern
from smp_feedback.data.formats.cityscapes import Cityscapes
from smp_feedback.data.masks.colours import Colours
from smp_feedback.data.synthetic.shapes import Shapes
from smp_feedback.errors import InvalidValue

DRIVES = "{film}_{frame}"  # 0016E5_07959


def _of_files(dataset: str, make: Callable[..., MaskFolder], holds: str) -> Callable[..., MaskFolder]:
    """*make* under *dataset*'s name; its *root* is a folder that holds something."""

    def opened(
        split: str = "train",
        *,
        root: Root = None,
        size: Size = None,
        seed: int = 0,
        count: int | None = None,
        transform: Augmentation = None,
    ) -> MaskFolder:
        return make(needed(dataset, root, holds), split, size=size, transform=transform, count=count, seed=seed)

    opened.__name__ = opened.__qualname__ = dataset  # by which it is pickled
    return opened


def _with_drives(*args: Any, **options: Any) -> MaskFolder:
    """The films of CamVid's names; files that are called otherwise have none."""
    opened = MaskFolder(*args, **options)
    if all(film_pattern(DRIVES).fullmatch(image.stem) for image, _ in opened.samples):
        opened.grouping = DRIVES
    return opened


camvid = _of_files("camvid", _with_drives, "train/ and trainannot/")
"""CamVid's 11-class copy: ``root/train``, ``root/trainannot`` and so on, void (11) ignored. Its ``films`` are its
drives: ``val`` is one of 101 frames at 15 Hz, ``train`` and ``test`` have a frame a second."""
cityscapes = _of_files("cityscapes", Cityscapes, "leftImg8bit/ and gtFine/")
"""Cityscapes as its archives unpack, see `Cityscapes`."""


def folder(
    split: str = "train",
    *,
    root: Root = None,
    size: Size = None,
    seed: int = 0,
    count: int | None = None,
    transform: Augmentation = None,
    images: str = "{split}",
    masks: str = "{split}annot",
    classes: Sequence[str] | None = None,
    ignore_index: int | None = None,
    bands: Sequence[int] | None = None,
    channels: int | None = None,
    scale: Any = None,
    values: Mapping[Any, Any] | None = None,
    colours: Colours | None = None,
    offset: int = 0,
    empty_masks: bool = False,
    val_share: float | None = None,
    test_share: float | None = None,
    split_file: str | Path | None = None,
    folds: int | None = None,
    fold: int | None = None,
    group: str | None = None,
    films: str | None = None,
    unlabelled: bool = False,
) -> MaskFolder:
    """Your own images and masks, see `MaskFolder`; the names of the classes have no default."""
    if classes is None:
        raise InvalidValue(f"folder: classes=None: expected the names of labels 0, 1, ..., as in {CAMVID_CLASSES[:2]}.")
    names = {"classes": classes, "ignore_index": ignore_index, "images": images, "masks": masks}
    read = {"bands": bands, "channels": channels, "scale": scale}
    mean = {"values": values, "colours": colours, "offset": offset, "empty_masks": empty_masks}
    rule = {"val_share": val_share, "test_share": test_share, "split_file": split_file}
    rule |= {"folds": folds, "fold": fold, "group": group}
    rule |= {"films": films, "unlabelled": unlabelled}
    make = functools.partial(MaskFolder, **names, **read, **mean, **rule)  # type: ignore[arg-type]
    opened = _of_files("folder", make, f"{images}/ and {masks}")
    return opened(split, root=root, size=size, seed=seed, count=count, transform=transform)


def coloured_shapes(
    split: str = "train",
    *,
    root: Root = None,
    size: Size = None,
    seed: int = 0,
    count: int | None = None,
    transform: Augmentation = None,
    noise: float = 0.0,
    max_shapes: int = 3,
) -> Shapes:
    """Our own synthetic task, see `Shapes`."""
    own = {"noise": noise, "max_shapes": max_shapes}
    return Shapes(count, size, split=split, root=root, seed=seed, transform=transform, **own)  # type: ignore[arg-type]
