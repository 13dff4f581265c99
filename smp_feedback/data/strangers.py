"""Datasets that others bring: handed a transform that no call of theirs gets wrong, and looked at before use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from smp_feedback.data.augment import Augmentation, Transform, as_transform, augmented
from smp_feedback.data.batch import image_of, target_of
from smp_feedback.data.draws import draws_undone
from smp_feedback.data.inspection.contract import naming, read_whole, wrong_image, wrong_target
from smp_feedback.data.items import check_map_style, inherited, item_name
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.ops.reading import MULTILABEL
from smp_feedback.registry.public import catalogue

TRANSFORM = "transform"


class PairTransform:
    """A transform as a dataset may call it: on plain tensors, ``transform(image, mask)``, both are moved alike.

    torchvision's own take the second of two plain tensors for something that is left as it is. An image of bytes is
    handed back as one, and so is one of another precision; a label that is no map is left alone.

    Args:
        transform: As a dataset of ours takes it.

    Attributes:
        asked: Whether it has been called, by this process.
        alone: Whether it has been called with an image alone.

    >>> from torchvision.transforms import v2
    >>> mirror = PairTransform(v2.RandomHorizontalFlip(1.0))
    >>> mirror(torch.zeros(3, 1, 2), torch.tensor([[0, 7]]))[1], mirror.asked
    (tensor([[7, 0]]), True)
    """

    def __init__(self, transform: Transform) -> None:
        self.transform, self.asked, self.alone = transform, False, False

    def __repr__(self) -> str:
        return repr(self.transform)

    def __call__(self, *parts: Any, **named: Any) -> Any:
        """The image and its mask, or the image alone, augmented.

        Raises:
            InvalidType: If they are no tensors, or handed over by keyword.
        """
        self.asked, self.alone = True, self.alone or len(parts) == 1
        if named or not 1 <= len(parts) <= 2 or not all(isinstance(part, Tensor) for part in parts):
            said = [*(type(part).__name__ for part in parts), *(f"{key}=..." for key in named)]
            raise InvalidType(f"transform({', '.join(said)}): expected transform(image, mask), two tensors.")
        image = _in_unit(parts[0])
        if len(parts) == 2 and parts[1].ndim:
            moved, mask = augmented(self.transform, image, parts[1])
            return _as_before(moved, parts[0]), mask
        moved = self.transform(tv_tensors.Image(image)).as_subclass(Tensor)
        return (_as_before(moved, parts[0]), *parts[1:]) if len(parts) == 2 else _as_before(moved, parts[0])


def pair_transform(augmentation: Augmentation) -> PairTransform | None:
    """*augmentation*, by name or as a callable, as others' datasets are handed it.

    >>> pair_transform("none"), pair_transform("flip")
    (None, RandomHorizontalFlip(p=0.5))
    """
    if isinstance(augmentation, PairTransform):
        return augmentation
    transform = as_transform(augmentation)
    return None if transform is None else PairTransform(transform)


def as_handed(name: str, augmentation: Augmentation) -> Augmentation:
    """*augmentation* as the dataset *name* is handed it: others' get one that knows whether it was called."""
    return augmentation if catalogue().datasets.entry(name).is_ours else pair_transform(augmentation)


def open_of_stranger(name: str, split: str, options: dict[str, Any]) -> Any:
    """The dataset that another brought under *name*; it is handed no names of augmentations, and None for none.

    Raises:
        InvalidType: If what it makes has no length, or no items.
    """
    if TRANSFORM in options:
        options = {**options, TRANSFORM: pair_transform(options[TRANSFORM])}
    dataset = catalogue().datasets.make(name, split, **options)
    check_map_style(dataset, whose(name))
    return dataset


def whose(name: str) -> str:
    """The dataset *name*, and who brought it."""
    entry = catalogue().datasets.entry(name)
    return f"dataset {entry.name!r} of {entry.origin}"


def check_of_stranger(name: str, dataset: Any, transform: object = None) -> None:
    """The first item of the *dataset* that somebody else brought under *name* is one; nothing is drawn for it.

    Of ours nothing is asked: they look at each item.

    Args:
        name: A registered name.
        dataset: What was opened.
        transform: What it was told to augment with, by name or as a callable.

    Raises:
        InvalidInput: If an image is not float32 (C, H, W) in [0, 1], or its target is none.
        InvalidValue: If it has no items, no classes, or leaves the transform aside.
    """
    if catalogue().datasets.entry(name).is_ours:
        return
    if not len(dataset):
        raise InvalidValue(f"{whose(name)} has no items.")
    classes = inherited(dataset, "classes")
    if not isinstance(classes, (tuple, list)) or not classes:
        raise InvalidValue(f"{whose(name)} has classes={classes!r:.60}: expected the names of its labels, as a tuple.")
    with draws_undone(), naming(dataset, 0):
        item = dataset[0]
    if wrong := wrong_item(dataset, item, len(classes)):
        raise InvalidInput(f"{whose(name)}: {item_name(dataset, 0)}: {wrong}")
    if isinstance(transform, PairTransform) and not transform.asked:
        raise InvalidValue(
            f"{whose(name)} leaves its transform aside, and data.augment or data.crop would do nothing: expected that "
            "each item is transform(image, mask) of what it is handed as transform=."
        )
    if isinstance(transform, PairTransform) and transform.alone and getattr(target_of(item), "ndim", None):
        raise InvalidValue(
            f"{whose(name)} moves the image and not its mask: expected transform(image, mask), with both, instead of "
            "transform(image)."
        )


def wrong_item(dataset: Any, item: Any, classes: int) -> str | None:
    """What of an *item* of *dataset* a model cannot learn from, or None."""
    try:
        image, multilabel = image_of(item), inherited(dataset, "task") == MULTILABEL
        target = read_whole(target_of(item), multilabel)
    except InvalidInput as error:
        return str(error)
    if isinstance(image, Tensor) and image.is_floating_point() and image.dtype != torch.float32:
        return f"an image of {image.dtype}, expected torch.float32: image.float()."
    ignored = inherited(dataset, "ignore_index")
    return wrong_image(image) or wrong_target(image, target, classes, ignored, multilabel=multilabel)


def _in_unit(image: Tensor) -> Tensor:
    """*image* as float32; bytes as shares of 255."""
    return image / 255 if image.dtype == torch.uint8 else image.float()


def _as_before(image: Tensor, before: Tensor) -> Tensor:
    if before.dtype == torch.uint8:
        return (255 * image).round().clamp(0, 255).to(torch.uint8)
    return image.to(before.dtype)
