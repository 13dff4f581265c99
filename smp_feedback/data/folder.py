"""Folders of images and label maps: which files belong together, and what is refused."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex

import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.data.augment import Augmentation, as_transform, augmented, resize
from smp_feedback.data.files import LABEL_SUFFIXES, SUFFIXES, by, natural_key, read_image, read_labels, some
from smp_feedback.data.items import Sample, checked_index, height_width
from smp_feedback.data.seeding import check_choice_of_items, choose
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue

CAMVID_CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign symbol", "fence", "car", "pedestrian", "bicyclist"),
)
Pair = tuple[Path, Path]  # an image and its mask


class MaskFolder(Dataset[Sample]):
    """Images in one folder and their label maps in another, under the same stem.

    The default folders are those of the widely used 11-class copy of CamVid (Brostow et al. 2008): ``root/split``
    and ``root/{split}annot``. Images are JPEG, PNG or TIFF; label maps are one-channel PNG or TIFF, palettes
    included (of which the indices count). Sorted as people count: ``frame2`` before ``frame10``.

    Args:
        root: The folder that holds the splits.
        split: ``train``, ``val``, ``test``, or whatever else is there.
        size: Side, or (H, W), in pixels, to which images (bilinear, antialiased) and masks (nearest) are
            resized; None leaves them as they are.
        classes: Names of labels 0, 1, ...
        ignore_index: A label that counts for nothing (CamVid's void is 11); None if there is none.
        transform: Augmentation of the resized pair: a name of `augment.AUGMENTATIONS`, or a callable such as
            ``v2.RandomHorizontalFlip()``, which is called with a ``tv_tensors.Image``, float32 in [0, 1], and a
            ``tv_tensors.Mask`` and returns both. One that leaves gaps should fill them with *ignore_index*.
        images: The folder of images, below *root*; ``{split}`` stands for the split.
        masks: The folder of masks, or, where their names differ, the path of one with ``{stem}`` for the image's
            own, such as ``labels/{split}/{stem}_mask.png``.
        count: Use only so many images, see `seeding.choose`; None is all.
        seed: Which images those are, in training.

    Attributes:
        samples: (path of the image, path of its mask), in order.

    Items are (image, mask): float32 (3, H, W) in [0, 1], and int64 (H, W).

    Raises:
        InvalidType: If *classes* is no sequence of names, or *ignore_index* or *size* no whole number.
        InvalidValue: If a folder is missing or without images, or an image has no mask or shares its stem.
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
    ) -> None:
        check_choice_of_items(count, seed)
        self.size = None if size is None else height_width(size, least=1)
        self.classes = _checked_classes(classes)
        self.ignore_index = _checked_label(ignore_index)
        self.transform = as_transform(transform)
        found = self.find(Path(root), split, images, masks)
        self.samples = [found[i] for i in choose(len(found), count, seed, split)]

    def find(self, root: Path, split: str, images: str, masks: str) -> list[Pair]:
        """Each image of the split with its mask, in order."""
        return find_samples(root, split, images, masks)

    def labels(self, path: Path) -> Tensor:
        """The mask at *path*, int64 (H, W)."""
        return read_labels(path)

    def name(self, index: SupportsIndex) -> str:
        """The path of image *index*."""
        return str(self.samples[checked_index(index, len(self))][0])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        image_path, mask_path = self.samples[checked_index(index, len(self))]
        image, mask = read_image(image_path), self.labels(mask_path)
        self._check_pair(image_path, image.shape[-2:], mask_path, mask)
        if self.size:
            image, mask = resize(image, self.size), resize(mask, self.size, labels=True)
        image, mask = augmented(self.transform, image / 255, mask)
        return image, mask

    def _check_pair(self, image_path: Path, size: torch.Size, mask_path: Path, mask: Tensor) -> None:
        if mask.shape != size:
            raise InvalidInput(
                f"{mask_path} has {by(mask.shape)} pixels, its image {image_path} has {by(size)}; "
                "expected the same size."
            )
        unknown = ((mask < 0) | (mask >= len(self.classes))) & (mask != self.ignore_index)
        if unknown.any():
            also = "" if self.ignore_index is None else f" or {self.ignore_index} (ignored)"
            raise InvalidInput(
                f"{mask_path} has labels {sorted(set(mask[unknown].tolist()))}; "
                f"expected 0 to {len(self.classes) - 1} (the classes){also}."
            )


def find_samples(root: Path, split: str, images: str = "{split}", masks: str = "{split}annot") -> list[Pair]:
    """Each image with its mask, in natural order; folders as `MaskFolder` takes them."""
    folder = root / images.replace("{split}", split)
    pattern = masks.replace("{split}", split)
    mask_folder = (root / pattern).parent if "{stem}" in pattern else root / pattern
    for one in (folder, mask_folder):
        if not one.is_dir():
            raise InvalidValue(f"{one}: expected a folder; {_splits(root, images, masks)}")
    found = sorted(_files(folder, SUFFIXES), key=natural_key)
    if not found:
        raise InvalidValue(f"{folder}: expected images ({', '.join(SUFFIXES)}), found none.")
    twice = [stem for stem, times in Counter(p.stem for p in found).items() if times > 1]
    _refuse(folder, "one image per mask, several are called", twice)
    if "{stem}" in pattern:
        paired = [(p, root / pattern.replace("{stem}", p.stem)) for p in found]
    else:
        paired = [(p, mask) for p, mask in zip(found, _same_stem(found, mask_folder), strict=True)]
    _refuse(mask_folder, "masks for every image, missing", [mask.name for _, mask in paired if not mask.is_file()])
    return paired


def _same_stem(images: Sequence[Path], folder: Path) -> list[Path]:
    """For each image the mask of its stem in *folder*, as PNG where there is none."""
    masks: defaultdict[str, list[Path]] = defaultdict(list)
    for path in _files(folder, LABEL_SUFFIXES):
        masks[path.stem].append(path)
    _refuse(folder, "one mask per image, several are called", [p.stem for p in images if len(masks[p.stem]) > 1])
    return [(masks[p.stem] or [folder / f"{p.stem}.png"])[0] for p in images]


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes) if isinstance(classes, Sequence) and not isinstance(classes, str) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidType(f"classes={classes!r}: expected the names of labels 0, 1, ..., at least one.")
    return names


def _checked_label(label: int | None) -> int | None:
    if isinstance(label, bool) or not isinstance(label, int | None):
        raise InvalidType(f"ignore_index={label!r}: expected a label (an int) or None.")
    return label


def _splits(root: Path, images: str, masks: str) -> str:
    if not root.is_dir():
        return f"{root} does not exist."
    if (images, masks) != ("{split}", "{split}annot"):
        return f"{root} has the folders {sorted(p.name for p in root.iterdir() if p.is_dir())}."
    names = {p.name for p in root.iterdir() if p.is_dir()}
    return f"{root} has the splits {sorted(name for name in names if f'{name}annot' in names)}."


def _refuse(folder: Path, expected: str, names: Sequence[str]) -> None:
    if names:
        raise InvalidValue(f"{folder}: expected {expected} {len(names)}: {some(names)}.")
