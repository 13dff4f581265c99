"""torchvision's classification datasets by name, as (image, label)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import datasets, tv_tensors

from smp_feedback.checks import check_choice
from smp_feedback.data.augment import Augmentation, as_transform, resize
from smp_feedback.data.files import as_path
from smp_feedback.data.items import Sample, checked_index, height_width, in_unit
from smp_feedback.data.seeding import SPLITS, check_choice_of_items, choose
from smp_feedback.errors import InvalidInput, InvalidValue

Arguments = Mapping[str, Mapping[str, Any]]  # what torchvision calls each of its splits

FLAG: Arguments = {"train": {"train": True}, "test": {"train": False}}
TWO: Arguments = {"train": {"split": "train"}, "test": {"split": "test"}}
THREE: Arguments = {**TWO, "val": {"split": "val"}}
PETS: Arguments = {"train": {"split": "trainval"}, "test": {"split": "test"}}
LAYOUTS: dict[str, Arguments] = {
    **dict.fromkeys(("MNIST", "FashionMNIST", "KMNIST", "USPS", "CIFAR10", "CIFAR100"), FLAG),
    **dict.fromkeys(("SVHN", "STL10", "GTSRB", "Food101"), TWO),
    **dict.fromkeys(("DTD", "Flowers102", "FGVCAircraft"), THREE),
    "OxfordIIITPet": PETS,
}
UNNAMED = {"USPS": 10, "SVHN": 10, "GTSRB": 43, "Flowers102": 102}  # classes that torchvision counts but does not name
HELD_OUT = 0.1  # of the training images, as val where torchvision has none


class Classification(Dataset[Sample]):
    """A dataset of torchvision as (image, label): float32 (3, H, W) in [0, 1], and an int64 scalar tensor.

    Where torchvision has no ``val``, a tenth of its training images is held out, the same for every seed; ``train``
    is the rest. Grey images repeat their channel.

    Args:
        dataset: Its name in ``torchvision.datasets``, one of `LAYOUTS`.
        split: ``train``, ``val`` or ``test``.
        root: The folder that torchvision keeps its files in.
        size: Side, or (H, W), to which images are resized (bilinear, antialiased); None leaves them as they are.
        seed: Which images a *count* selects, in training.
        count: Use only so many images, see `seeding.choose`; None is all.
        transform: Augmentation of the resized image: a name of ``list_augmentations()``, or a callable.
        download: Whether torchvision may fetch what is not under *root*.

    Raises:
        InvalidValue: If *root* is None, or there are fewer images than *count*.
        InvalidInput: If the files are not there, or (on access, naming it) an item cannot be read.
    """

    ignore_index: int | None = None
    normalised = False  # whoever shows images to a model normalises them

    def __init__(
        self,
        dataset: str,
        split: str = "train",
        *,
        root: str | Path | None = None,
        size: int | Sequence[int] | None = None,
        seed: int = 0,
        count: int | None = None,
        transform: Augmentation = None,
        download: bool = False,
    ) -> None:
        check_choice("dataset", dataset, tuple(LAYOUTS))
        check_choice("split", split, SPLITS)
        check_choice_of_items(count, seed)
        if root is None:
            raise InvalidValue(
                f"torchvision/{dataset}: root=None: expected the folder of its files; download=True fills it."
            )
        self.size = None if size is None else height_width(size, least=1)
        self.transform = as_transform(transform)
        part = split if split in LAYOUTS[dataset] else "train"
        self.kind = f"torchvision/{dataset} {part}"
        self.source = _open(dataset, as_path("root", root), LAYOUTS[dataset][part], download)
        shared = part == "train" and "val" not in LAYOUTS[dataset]
        rows = _tenth(len(self.source), split) if shared else range(len(self.source))
        self.indices = [rows[i] for i in choose(len(rows), count, seed, split)]
        named = getattr(self.source, "classes", None) or range(UNNAMED.get(dataset, 0))
        self.classes = tuple(map(str, named))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        i = checked_index(index, len(self))
        try:
            picture, label = self.source[self.indices[i]]
            image = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
        except Exception as error:  # Pillow's decoders raise whatever they stumble over
            raise InvalidInput(f"{self.name(i)}: expected an image, but it cannot be read ({error}).") from error
        if not 0 <= int(label) < len(self.classes):
            raise InvalidInput(f"{self.name(i)} has the label {label}; expected 0 to {len(self.classes) - 1}.")
        return in_unit(self._prepared(image), self.name(i)), torch.tensor(int(label))

    def _prepared(self, image: Tensor) -> Tensor:
        image = (resize(image, self.size) if self.size else image) / 255
        if self.transform:
            image = self.transform(tv_tensors.Image(image)).as_subclass(Tensor)
        return image

    def name(self, index: SupportsIndex) -> str:
        """Such as ``torchvision/MNIST test[3]``, by torchvision's own index."""
        return f"{self.kind}[{self.indices[checked_index(index, len(self))]}]"


def _open(dataset: str, root: Path, arguments: Mapping[str, Any], download: bool) -> Any:
    try:
        return getattr(datasets, dataset)(root, **arguments, download=download)
    except (RuntimeError, FileNotFoundError) as error:
        raise InvalidInput(
            f"torchvision/{dataset}: its files are not, or not whole, under root={str(root)!r}; download=True fetches "
            f"them ({str(error).rstrip('.')})."
        ) from error


def _tenth(total: int, split: str) -> list[int]:
    """The tenth that is held out (``val``), or the rest (``train``), in order."""
    held = set(choose(total, max(1, round(HELD_OUT * total)), 0, "val"))
    return [i for i in range(total) if (i in held) == (split == "val")]


def __getattr__(name: str) -> functools.partial[Classification]:
    """Each dataset by its name, which the registry's addresses end in."""
    if name not in LAYOUTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()[name] = functools.partial(Classification, name)  # kept: a name leads to one part
    return made
