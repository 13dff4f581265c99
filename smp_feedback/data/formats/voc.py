"""PASCAL VOC's folders: lists of names a split, photographs, and label maps with a palette."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smp_feedback.data.augment import Augmentation
from smp_feedback.data.files import Root, Size, absent, needed, some
from smp_feedback.data.folder import MaskFolder
from smp_feedback.data.folders.pairing import Found
from smp_feedback.data.folders.split_files import COMMENT
from smp_feedback.data.masks.colours import Colours
from smp_feedback.errors import InvalidValue

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
LISTS, IMAGES, MASKS = "ImageSets/Segmentation", "JPEGImages", "SegmentationClass"


class Voc(MaskFolder):
    """PASCAL VOC (Everingham et al. 2010) as its archives unpack, and what others write in its layout.

    ``ImageSets/Segmentation/<split>.txt`` names the images ``JPEGImages/<name>.jpg`` and their label maps
    ``SegmentationClass/<name>.png``, palettes whose indices are the labels; 255, the outlines, is ignored. The label
    maps of ``test`` are withheld by its authors.

    Args:
        split: ``train``, ``val``, ``trainval``, or whatever list is there.
        root: The folder that holds the three, ``VOC2012`` or the one around ``VOCdevkit``.
        classes: Names of labels 0, 1, ...; VOC's 21 by default.
        ignore_index: The label that counts for nothing.
        size, seed, count, transform, bands, channels, scale, values, colours, offset: See `MaskFolder`.

    Raises:
        InvalidValue: If a folder or a file is missing, with what is there.

    >>> len(VOC_CLASSES)
    21
    """

    def __init__(
        self,
        split: str = "train",
        *,
        root: Root = None,
        size: Size = None,
        seed: int = 0,
        count: int | None = None,
        transform: Augmentation = None,
        classes: Sequence[str] = VOC_CLASSES,
        ignore_index: int | None = 255,
        bands: Sequence[int] | None = None,
        channels: int | None = None,
        scale: Any = None,
        values: Mapping[Any, Any] | None = None,
        colours: Colours | None = None,
        offset: int = 0,
    ) -> None:
        top = needed("voc", root, f"{LISTS}, {IMAGES} and {MASKS}")
        unpacked = next((path for path in sorted(top.glob("VOCdevkit/VOC*")) if (path / LISTS).is_dir()), top)
        options: dict[str, Any] = {"size": size, "seed": seed, "count": count, "transform": transform}
        options |= {"bands": bands, "channels": channels, "scale": scale}
        options |= {"values": values, "colours": colours, "offset": offset}
        super().__init__(unpacked, split, classes=classes, ignore_index=ignore_index, **options)

    def find(self, root: Path, split: str, images: str, masks: str) -> Found:
        """The images of the split's list, in its order, with their label maps."""
        lists = root / LISTS
        told = lists / f"{split}.txt"
        if not told.is_file():
            there = sorted(path.stem for path in lists.glob("*.txt"))
            raise InvalidValue(
                f"{told}: expected a list of names; {f'there is {some(there, 9)}.' if there else absent(lists)}"
            )
        lines = map(str.strip, told.read_text(encoding="utf-8-sig").splitlines())
        names = [line.split()[0] for line in lines if line and not line.startswith(COMMENT)]
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            raise InvalidValue(f"{told} names {len(twice)} images twice: {some(twice)}.")
        pairs = [(_image(root / IMAGES, name), root / MASKS / f"{name}.png") for name in names]
        if not pairs:
            raise InvalidValue(f"{told}: expected a name in each line, found none.")
        for k, what in enumerate(("images", "label maps")):
            missing = [pair[k].name for pair in pairs if not pair[k].is_file()]
            if missing:
                folder = pairs[0][k].parent
                told_of = f"{folder}: expected {what} of every name in {told.name}"
                raise InvalidValue(f"{told_of}, missing {len(missing)} of {len(pairs)}: {some(missing)}.")
        return Found(pairs)


def _image(folder: Path, name: str) -> Path:
    """The photograph *name*: VOC's are JPEG, those of others may be PNG."""
    jpeg, png = (folder / f"{name}{suffix}" for suffix in (".jpg", ".png"))
    return png if png.is_file() and not jpeg.is_file() else jpeg
