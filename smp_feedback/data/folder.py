"""Folders of images and label maps, in CamVid's layout."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from smp_feedback.data.noise import Sample, checked_index
from smp_feedback.data.shapes import height_width
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue

CAMVID_CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign symbol", "fence", "car", "pedestrian", "bicyclist"),
)
SUFFIXES = (".jpg", ".jpeg", ".png")
LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16B")  # Pillow's modes of one channel of whole numbers

Transform = Callable[[tv_tensors.Image, tv_tensors.Mask], tuple[tv_tensors.Image, tv_tensors.Mask]]


class MaskFolder(Dataset[Sample]):
    """Images in ``root/split`` and their label maps in ``root/{split}annot``, under the same stem.

    The layout of the widely used 11-class copy of CamVid (Brostow et al. 2008), and a simple one for your own
    data. Images are ``.jpg``, ``.jpeg`` or ``.png``; label maps are one-channel ``.png``, palettes included.
    Sorted as people count: ``frame2`` before ``frame10``.

    Args:
        root: The folder that holds the splits.
        split: ``train``, ``val``, ``test``, or whatever else is there.
        size: Side, or (H, W), in pixels, to which images (bilinear, antialiased) and masks (nearest) are
            resized; None leaves them as they are.
        classes: Names of labels 0, 1, ...
        ignore_index: A label that counts for nothing (CamVid's void is 11); None if there is none.
        transform: Augmentation of the resized pair, such as ``v2.RandomHorizontalFlip()``: called with a
            ``tv_tensors.Image``, float32 in [0, 1], and a ``tv_tensors.Mask``, returns both. One that leaves
            gaps should fill them with *ignore_index*.

    Attributes:
        samples: (path of the image, path of its mask), in order.

    Items are (image, mask): float32 (3, H, W) in [0, 1], and int64 (H, W).

    Raises:
        InvalidType: If *classes* is no sequence of names, or *ignore_index* or *size* no whole number.
        InvalidValue: If a folder is missing or without images, or an image has no mask or shares its stem.
        InvalidInput: On access, naming the file: if it cannot be read, if a mask has another size than its
            image, or a label that is neither a class nor *ignore_index*.

    >>> import tempfile
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
        transform: Transform | None = None,
    ) -> None:
        self.size = None if size is None else height_width(size, least=1)
        self.classes = _checked_classes(classes)
        self.ignore_index = _checked_label(ignore_index)
        self.transform = transform
        self.samples = find_samples(Path(root), split)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        image_path, mask_path = self.samples[checked_index(index, len(self))]
        image, mask = read_image(image_path), read_labels(mask_path)
        self._check_pair(image_path, image.shape[-2:], mask_path, mask)
        if self.size:
            image, mask = resize(image, mask, self.size)
        image = image / 255
        if self.transform:
            image, mask = self.transform(tv_tensors.Image(image), tv_tensors.Mask(mask))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor).long()  # plain: a tv_tensor would be a surprise

    def _check_pair(self, image_path: Path, size: torch.Size, mask_path: Path, mask: Tensor) -> None:
        if mask.shape != size:
            raise InvalidInput(
                f"{mask_path} has {_by(mask.shape)} pixels, its image {image_path} has {_by(size)}; "
                "expected the same size."
            )
        unknown = ((mask < 0) | (mask >= len(self.classes))) & (mask != self.ignore_index)
        if unknown.any():
            also = "" if self.ignore_index is None else f" or {self.ignore_index} (ignored)"
            raise InvalidInput(
                f"{mask_path} has labels {sorted(set(mask[unknown].tolist()))}; "
                f"expected 0 to {len(self.classes) - 1} (the classes){also}."
            )


def find_samples(root: Path, split: str) -> list[tuple[Path, Path]]:
    """Each image of ``root/split`` with its mask in ``root/{split}annot``, in natural order."""
    images, masks = root / split, root / f"{split}annot"
    for folder in (images, masks):
        if not folder.is_dir():
            raise InvalidValue(f"{folder}: expected a folder; {_splits(root)}")
    found = [p for p in images.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if not found:
        raise InvalidValue(f"{images}: expected images ({', '.join(SUFFIXES)}), found none.")
    pairs = [(p, masks / f"{p.stem}.png") for p in sorted(found, key=natural_key)]
    _refuse(masks, "masks for every image, missing", [mask.name for _, mask in pairs if not mask.is_file()])
    twice = [stem for stem, times in Counter(p.stem for p in found).items() if times > 1]
    _refuse(images, "one image per mask, several are called", twice)
    return pairs


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """Sorts ``frame2`` before ``frame10``; the name itself decides between ``frame2`` and ``frame02``.

    >>> [path.name for path in sorted([Path("f10.png"), Path("f2.png"), Path("f1.png")], key=natural_key)]
    ['f1.png', 'f2.png', 'f10.png']
    """
    parts = re.split(r"(\d+)", path.stem.lower())  # text and digits take turns, so like is compared with like
    return [int(part) if k % 2 else part for k, part in enumerate(parts)], path.name


def read_image(path: Path) -> Tensor:
    """An image as RGB, uint8 (3, H, W)."""
    return torch.from_numpy(_decode(path, "RGB")).permute(2, 0, 1).contiguous()


def read_labels(path: Path) -> Tensor:
    """A label map as it is stored, int64 (H, W); of a palette, the indices."""
    return torch.from_numpy(_decode(path, None).astype(np.int64))


def resize(image: Tensor, mask: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """An image (bilinear, antialiased) and its mask (nearest) at (H, W) = *size*, aligned.

    ``v2.Resize`` takes ``nearest`` for masks, which reads the upper left corner of each new pixel instead of
    its centre, and so shifts the mask against the image by up to half a pixel.
    """
    small = F.resize(mask[None], list(size), InterpolationMode.NEAREST_EXACT)[0]
    return F.resize(image, list(size), InterpolationMode.BILINEAR, antialias=True), small


def _decode(path: Path, mode: str | None) -> NDArray[np.generic]:
    try:
        with Image.open(path) as picture:
            picture.load()
            if mode is None and picture.mode not in LABEL_MODES:
                raise InvalidInput(f"{path}: expected one channel of labels, found an image of mode {picture.mode!r}.")
            return np.array(picture.convert(mode) if mode else picture)
    except InvalidInput:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        raise InvalidInput(f"{path}: expected an image file, but it cannot be read ({error}).") from error


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes) if isinstance(classes, Sequence) and not isinstance(classes, str) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidType(f"classes={classes!r}: expected the names of labels 0, 1, ..., at least one.")
    return names


def _checked_label(label: int | None) -> int | None:
    if isinstance(label, bool) or not isinstance(label, int | None):
        raise InvalidType(f"ignore_index={label!r}: expected a label (an int) or None.")
    return label


def _splits(root: Path) -> str:
    if not root.is_dir():
        return f"{root} does not exist."
    names = {p.name for p in root.iterdir() if p.is_dir()}
    return f"{root} has the splits {sorted(name for name in names if f'{name}annot' in names)}."


def _refuse(folder: Path, expected: str, names: Sequence[str]) -> None:
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise InvalidValue(f"{folder}: expected {expected} {len(names)}: {shown}.")


def _by(size: torch.Size) -> str:
    return " x ".join(map(str, size))
