"""Datasets as the registry opens them: ``make(split, *, root, size, seed, count, transform, ...)``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smp_feedback.data.augment import Augmentation
from smp_feedback.data.cityscapes import Cityscapes
from smp_feedback.data.folder import CAMVID_CLASSES, MaskFolder
from smp_feedback.data.synthetic.shapes import Shapes
from smp_feedback.errors import InvalidValue

Root = str | Path | None
Size = int | Sequence[int] | None


def camvid(
    split: str = "train",
    *,
    root: Root = None,
    size: Size = None,
    seed: int = 0,
    count: int | None = None,
    transform: Augmentation = None,
) -> MaskFolder:
    """CamVid's 11-class copy: ``root/train``, ``root/trainannot`` and so on, void (11) ignored."""
    folder = needed("camvid", root, "train/ and trainannot/")
    return MaskFolder(folder, split, size=size, transform=transform, count=count, seed=seed)


def cityscapes(
    split: str = "train",
    *,
    root: Root = None,
    size: Size = None,
    seed: int = 0,
    count: int | None = None,
    transform: Augmentation = None,
) -> Cityscapes:
    """Cityscapes as its archives unpack, see `Cityscapes`."""
    folder = needed("cityscapes", root, "leftImg8bit/ and gtFine/")
    return Cityscapes(folder, split, size=size, transform=transform, count=count, seed=seed)


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
) -> MaskFolder:
    """Your own images and masks, see `MaskFolder`; the names of the classes have no default."""
    if classes is None:
        raise InvalidValue(f"folder: classes=None: expected the names of labels 0, 1, ..., as in {CAMVID_CLASSES[:2]}.")
    return MaskFolder(
        needed("folder", root, f"{images}/ and {masks}"),
        split,
        size=size,
        classes=classes,
        ignore_index=ignore_index,
        transform=transform,
        images=images,
        masks=masks,
        count=count,
        seed=seed,
    )


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
    options = {"split": split, "root": root, "seed": seed, "noise": noise, "max_shapes": max_shapes}
    return Shapes(count, size, transform=transform, **options)  # type: ignore[arg-type]


def needed(dataset: str, root: Root, holds: str) -> Path:
    """*root* as a path.

    >>> needed("camvid", None, "train/ and trainannot/")
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: camvid: root=None: expected the folder that holds train/ and trainannot/.
    """
    if root is None:
        raise InvalidValue(f"{dataset}: root=None: expected the folder that holds {holds}.")
    return Path(root)
