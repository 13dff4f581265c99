"""Folders of images and label maps: which files belong together, and what is refused."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.config.data import MaskValues
from smp_feedback.data.augment import Augmentation, as_item, as_transform
from smp_feedback.data.files import as_path, by
from smp_feedback.data.folders.films import film_pattern, group_frames, say_missing
from smp_feedback.data.folders.finding import warn_left_out
from smp_feedback.data.folders.pairing import Found, find_samples
from smp_feedback.data.folders.splits import SplitRule
from smp_feedback.data.images.reader import ImageReader
from smp_feedback.data.items import Sample, checked_index, height_width
from smp_feedback.data.masks.colours import Colours
from smp_feedback.data.masks.multilabel import LayerReader, mask_reader
from smp_feedback.data.masks.writing import mask_values
from smp_feedback.data.seeding import check_choice_of_items, choose
from smp_feedback.data.wrapped import Films
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue

CAMVID_CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign symbol", "fence", "car", "pedestrian", "bicyclist"),
)
"""The eleven classes of CamVid as they are usually scored; label 11 counts for nothing."""


class MaskFolder(Dataset[Sample]):
    r"""Images in one folder and their label maps in another, under the same stem.

    The default folders are those of the widely used 11-class copy of CamVid (Brostow et al. 2008): ``root/split``
    and ``root/{split}annot``. Images are what `ImageReader` reads, label maps what `MaskReader` reads. Sorted as people
    count: ``frame2`` before ``frame10``.

    Args:
        root: The folder that holds the splits.
        split: ``train``, ``val``, ``test``, or whatever else is there.
        size: Side, or (H, W), in pixels, to which images (bilinear, antialiased) and masks (nearest) are
            resized; None leaves them as they are.
        classes: Names of labels 0, 1, ...
        ignore_index: A label that counts for nothing (CamVid's void is 11); None if there is none.
        transform: Augmentation of the resized pair: a name of ``list_augmentations()``, or a callable such as
            ``v2.RandomHorizontalFlip()``, which is called with a ``tv_tensors.Image``, float32 in [0, 1], and a
            ``tv_tensors.Mask`` and returns both. One that leaves gaps should fill them with *ignore_index*.
        images: The folder of images, below *root*; ``{split}`` stands for the split. Subfolders are read where the
            masks have the same. Or, as *masks*, a path with ``{stem}``, such as ``{split}/{stem}/image.png``.
        masks: The folder of masks, or, where their names differ, the path of one with ``{stem}`` for the image's
            own, such as ``labels/{split}/{stem}_mask.png``. With ``{class}``, one file a class: see `LayerReader`.
        count: Use only so many images, see `seeding.choose`; None is all.
        seed: Which images those are, in training.
        bands, channels, scale: Which bands of an image are read, how many channels it has, what becomes [0, 1]: see
            `ImageReader`.
        values, colours, offset: What masks hold instead of labels, see `MaskReader`.
        empty_masks: Whether a file of a class that is missing says that nothing of the class is there, where *masks*
            has ``{class}``; if not, it is refused.
        val_share: Share of the images that is held out as ``val``, in (0, 1), where *images* has no ``{split}`` or
            there is no folder of that split, which is then taken from ``train``: those whose names come first in an
            order that nobody chose (of their hashes), the same for every seed and on every machine.
        test_share: The same for ``test``.
        split_file: A table (CSV) with the columns ``image``, or ``stem``, and ``split``; or a list of names a split,
            such as ``lists/{split}.txt``. Below *root*, or else where the program runs.
        folds: So many parts of equal size, by name, of which one is ``val`` and the others are ``train``.
        fold: Which one, from 0.
        group: A regular expression with one group in parentheses, searched in each image's path below *root*, such
            as ``patient(\d+)``: images for which it finds the same are never parted, and shares count groups.
        films: Which images are the frames of a film: ``folder``, where each film has a folder of its own, or a pattern
            of their names such as ``{film}_{frame}``, the suffix left out; None is none. Frames are in the order of
            the last number in their names, and a film ends where numbers are missing. See ``films``.
        unlabelled: Whether an image may have no mask: its item has one that is full of *ignore_index*.

    Attributes:
        as_bytes: Whether images of 8 bits stay bytes, and masks become such, for who makes them [0, 1] and int64 part
            by part.
        left_out: Files beside the images and masks that look like such and are not used; said once in a warning.
        normalised: False: images are in [0, 1], and whoever shows them to a model normalises them.
        samples: (path of the image, path of its mask, in which ``{class}`` stays as it is, or None), in order.
        task: ``segmentation``, or ``multilabel`` of one file a class.

    Items are (image, mask): float32 (C, H, W) in [0, 1], and int64 (H, W), or (classes, H, W) of 0 and 1 where
    *masks* has ``{class}``.

    Raises:
        InvalidType: If *classes* is no sequence of names, or *ignore_index* or *size* no whole number.
        InvalidValue: If a folder is missing or without images, if an image has no mask or shares its stem, or if
            nothing tells one split from another. ``split="all"`` opens what no rule has parted yet.
        InvalidInput: On access, naming the file: if it cannot be read, if a mask has another size than its
            image, or a label that is neither a class nor *ignore_index*. `check_dataset` looks at all at once.

    >>> import tempfile
    >>> from PIL import Image
    >>> root = Path(tempfile.mkdtemp())
    >>> for folder, mode in ("train", "RGB"), ("trainannot", "L"):
    ...     (root / folder).mkdir()
    ...     Image.new(mode, (8, 6)).save(root / folder / "street.png")
    >>> image, mask = MaskFolder(root, size=(3, 4))[0]
    >>> image.shape, mask.shape, mask.dtype
    (torch.Size([3, 3, 4]), torch.Size([3, 4]), torch.int64)
    """

    normalised = False
    as_bytes = False

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        size: int | Sequence[int] | None = None,
        classes: Sequence[str] = CAMVID_CLASSES,
        ignore_index: int | None = 11,
        transform: Augmentation = None,
        images: str = "{split}",
        masks: str = "{split}annot",
        count: int | None = None,
        seed: int = 0,
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
    ) -> None:
        check_choice_of_items(count, seed)
        self.size = None if size is None else height_width(size, least=1)
        self.images = ImageReader(bands=bands, channels=channels, scale=scale)
        mean = {"values": values, "colours": colours, "offset": offset}
        names = {"classes": classes, "ignore_index": ignore_index}
        self.masks = mask_reader(masks, empty_masks=empty_masks, **names, **mean)  # type: ignore[arg-type]
        self.task = "multilabel" if isinstance(self.masks, LayerReader) else "segmentation"
        self.classes, self.ignore_index = tuple(self.masks.classes), ignore_index
        self.transform = as_transform(transform)
        shares = {"val_share": val_share, "test_share": test_share}
        self.rule = SplitRule(**shares, split_file=split_file, folds=folds, fold=fold, group=group)
        self.unlabelled = _checked_unlabelled(unlabelled, ignore_index, masks)
        self.grouping = films
        if films is not None:
            film_pattern(films)
        pairs, left_out = self.find(as_path("root", root), split, images, masks)
        self.samples = [pairs[i] for i in choose(len(pairs), count, seed, split)]
        if isinstance(self.masks, LayerReader):
            self.masks.check_files([mask for _, mask in self.samples if mask is not None])
        self.left_out = tuple(path for _, path in left_out)
        warn_left_out(f"{root}, {split}", left_out, len(self.samples))

    def find(self, root: Path, split: str, images: str, masks: str) -> Found:
        """Each image of the split with its mask, in order, and the files beside them that are not used."""
        empty = isinstance(self.masks, LayerReader) and self.masks.empty_masks
        how: Any = {"empty_masks": empty, "unlabelled": self.unlabelled}
        return find_samples(root, split, images, masks, rule=self.rule, classes=self.classes, **how)

    @functools.cached_property
    def films(self) -> Films:
        """Of each film the indices of its frames, in order; see *films* above.

        Raises:
            AttributeError: If *films* is None.
            InvalidValue: If a name does not say which frame it is, or two say the same.

        Warns:
            DataWarning: If frames are missing, with where.
        """
        if self.grouping is None:
            raise AttributeError(f"films=None: {type(self).__name__} was not told which images are frames of a film")
        found, missing = group_frames([image for image, _ in self.samples], self.grouping)
        say_missing(self.samples[0][0].parent, missing)
        return found

    @property
    def mask_values(self) -> MaskValues | None:
        """What its masks hold for each class, see `writing.mask_values`; None is the label itself."""
        return mask_values(self.masks)

    def labels(self, path: Path) -> Tensor:
        """The mask at *path*, int64 (H, W), or (C, H, W) of one file a class."""
        return self.masks.read(path)

    def name(self, index: SupportsIndex) -> str:
        """The path of image *index*."""
        return str(self.samples[checked_index(index, len(self))][0])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        image_path, mask_path = self.samples[checked_index(index, len(self))]
        how: Any = {"size": self.size, "transform": self.transform, "as_bytes": self.as_bytes}
        image = self.images.read(image_path)
        if mask_path is None:
            mask = torch.full(image.shape[-2:], cast(int, self.ignore_index))
            return self._narrowed(as_item(image, mask, name=str(image_path), **how))
        mask = self.labels(mask_path)
        if not mask.numel():  # one file a class, and of none of them
            mask = mask.new_zeros(len(mask), *image.shape[-2:])
        self._check_pair(image_path, image.shape[-2:], mask_path, mask)
        return self._narrowed(as_item(image, mask, name=str(image_path), **how))

    def _narrowed(self, item: Sample) -> Sample:
        """*item* with a mask of bytes, an eighth of the memory, where these are asked for and hold every label."""
        image, mask = item
        ignored = 0 if self.ignore_index is None else self.ignore_index
        fit = self.as_bytes and self.transform is None and 0 <= ignored < 256 >= len(self.classes)
        return (image, mask.byte()) if fit else item

    def _check_pair(self, image_path: Path, size: torch.Size, mask_path: Path, mask: Tensor) -> None:
        if mask.shape[-2:] != size:
            turned = mask.shape[-2:] == size[::-1]
            hint = " Was it drawn on the image as stored, before its EXIF orientation turned it?" if turned else ""
            raise InvalidInput(
                f"{mask_path} has {by(mask.shape[-2:])} pixels, its image {image_path} has {by(size)}; "
                f"expected the same size.{hint}"
            )
        self._check_labels(mask_path, mask)

    def _check_labels(self, path: Path, mask: Tensor) -> None:
        self.masks.check(mask, path)


def _checked_unlabelled(unlabelled: bool, ignore_index: int | None, masks: str) -> bool:
    if not isinstance(unlabelled, bool):
        raise InvalidType(f"unlabelled={unlabelled!r}: expected True or False.")
    if unlabelled and ignore_index is None:
        raise InvalidValue(
            "unlabelled=True: the mask of an image without one is full of ignore_index, which is None: expected a "
            "label that counts for nothing, such as ignore_index=255."
        )
    if unlabelled and "{class}" in masks:
        raise InvalidValue(f"unlabelled=True with masks={masks!r}: expected one mask an image, not one a class.")
    return unlabelled
