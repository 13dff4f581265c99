"""Augmentation of an image and its mask together, or of an image alone, by name (torchvision.transforms.v2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from smp_feedback.data.augmentation_probe import check_moves_both
from smp_feedback.data.draws import drawn_alike
from smp_feedback.data.files import by
from smp_feedback.data.images.reader import as_unit
from smp_feedback.data.items import checked_int, in_unit
from smp_feedback.data.keyword_transforms import ByKeyword, takes_keywords
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.registry.public import catalogue

Transform = Callable[..., Any]  # (Image, Mask) -> (Image, Mask), or Image -> Image
Augmentation = str | Transform | None

OURS = "smp_feedback"  # the origin of built-in parts
LEAST_SHARE = 0.5  # of each side, what CropFlip leaves at least: objects grow to twice their size


class CropFlip(v2.Transform):  # type: ignore[misc]
    """A random part of the image, as wide as high in proportion, at the image's own size; every other one mirrored.

    The part's sides are a share of the image's, uniform in [*least*, 1] (scale jitter up to 1 / *least*). It lies
    within the image, so nothing has to be filled in. Masks are resized with ``nearest-exact``; v2's own
    ``RandomResizedCrop`` takes ``nearest``, which shifts them against the image by up to half a pixel.

    Args:
        least: The smallest share, in (0, 1].
    """

    def __init__(self, least: float = LEAST_SHARE) -> None:
        super().__init__()
        self.least = least

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Where, how large, mirrored or not; drawn from torch's global generator, as v2 does."""
        height, width = F.get_size(flat_inputs[0])
        share, y, x, mirror = torch.rand(4).tolist()
        share = self.least + (1 - self.least) * share
        part = max(round(height * share), 1), max(round(width * share), 1)
        corner = int(y * (height - part[0] + 1)), int(x * (width - part[1] + 1))
        return {"corner": corner, "part": part, "size": (height, width), "mirror": mirror < 0.5}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The same part of *inpt*, be it image or mask."""
        part = F.crop(inpt, *params["corner"], *params["part"])
        plain = resize(part.as_subclass(Tensor), params["size"], labels=isinstance(inpt, tv_tensors.Mask))
        return tv_tensors.wrap(plain.flip(-1) if params["mirror"] else plain, like=inpt)


class Crop(v2.Transform):  # type: ignore[misc]
    """A random window, as it is; a side that is no longer than the window's is kept whole.

    Args:
        side: Height and width of the window, in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Where; drawn from torch's global generator, as v2 does."""
        size = [min(self.side, whole) for whole in F.get_size(flat_inputs[0])]
        free = zip(torch.rand(2).tolist(), F.get_size(flat_inputs[0]), size, strict=True)
        return {"window": [*(int(share * (whole - part + 1)) for share, whole, part in free), *size]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The same window of *inpt*, be it image or mask."""
        return F.crop(inpt, *params["window"])


def no_augmentation() -> None:
    """As it is."""


def flip() -> Transform:
    """Left and right."""
    return cast(Transform, v2.RandomHorizontalFlip())


def flips() -> Transform:
    """Left and right, and up and down: cells, not streets."""
    return cast(Transform, v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]))


def colour() -> Transform:
    """Left and right, and brightness, contrast and saturation by up to a quarter."""
    return cast(Transform, v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.25, 0.25, 0.25)]))


def as_transform(augmentation: Augmentation) -> Transform | None:
    """An augmentation by its name, or the callable given; one of Albumentations' is called by keyword.

    Raises:
        UnknownName: If no augmentation is called so.
        InvalidType: If it is neither a name nor callable, or what is called so makes none.
        InvalidValue: If what somebody else registered moves an image, and not its mask.

    >>> as_transform("flip"), as_transform("none")
    (RandomHorizontalFlip(p=0.5), None)
    """
    if isinstance(augmentation, str):
        made, entry = catalogue().augmentations.make(augmentation), catalogue().augmentations.entry(augmentation)
        if made is not None and (isinstance(made, str) or not callable(made)):
            who = f"augmentation {entry.name!r} of {entry.origin}"
            raise InvalidType(f"{who} made {made!r:.60}: expected a callable (image, mask) -> (image, mask), or None.")
        transform = as_transform(made)
        if transform is not None and entry.origin != OURS:
            check_moves_both(f"augmentation {entry.name!r} of {entry.origin}", partial(augmented, transform))
        return transform
    if augmentation is not None and not callable(augmentation):
        known = list(catalogue().augmentations)
        raise InvalidType(f"transform={augmentation!r}: expected a callable, None, or one of {known}.")
    if augmentation is None or isinstance(augmentation, ByKeyword):
        return augmentation
    return ByKeyword(augmentation) if takes_keywords(augmentation) else augmentation


def cropped(augmentation: Augmentation, side: int | None) -> Augmentation:
    """*augmentation*, and then a random window of *side* pixels.

    >>> image, mask = augmented(as_transform(cropped("flip", 4)), torch.zeros(3, 6, 3), torch.zeros(6, 3))
    >>> image.shape, mask.shape
    (torch.Size([3, 4, 3]), torch.Size([4, 3]))
    """
    if side is None:
        return augmentation
    first = as_transform(augmentation)
    crop = Crop(checked_int("crop", side, least=1))
    return crop if first is None else cast(Transform, v2.Compose([first, crop]))


def augmented(transform: Transform | None, *parts: Tensor) -> tuple[Tensor, ...]:
    """Images and, last, their mask after *transform*, as plain tensors; the mask int64.

    Raises:
        InvalidType, InvalidValue: If *transform* returns something else than it was given: another number of parts or
            channels, another type, a mask of another size than its image, labels that are no whole numbers.
    """
    if transform is None:
        return *parts[:-1], parts[-1].long()
    wrapped = *map(tv_tensors.Image, parts[:-1]), tv_tensors.Mask(parts[-1])
    name = f"transform={' '.join(repr(transform).split()):.80}"
    try:
        with drawn_alike():
            given = transform(*wrapped)
    except TypeError as error:
        raise InvalidType(
            f"{name} failed on (image, mask), as torchvision.transforms.v2 and Albumentations' own "
            f"callables take them: {error}"
        ) from error
    except KeyError as error:
        raise InvalidType(
            f"{name} failed on (image, mask) with KeyError: {error}. If it takes keywords alone, give "
            "lambda *, image, mask: transform(image=image, mask=mask)."
        ) from error
    if not isinstance(given, (tuple, list)) or len(given) != len(parts):
        found = f"{len(given)} parts" if isinstance(given, (tuple, list)) else f"a {type(given).__name__}"
        raise InvalidType(f"{name} gave {found}: expected (image, mask), as it was given.")
    plain = [part.as_subclass(Tensor) if isinstance(part, Tensor) else part for part in given]
    _check_augmented(name, parts, plain)
    return *plain[:-1], plain[-1].long()  # a tv_tensor would be a surprise


def _check_augmented(name: str, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    *images, mask = after
    for was, image in zip(before, images, strict=False):
        if not isinstance(image, Tensor) or image.dtype != torch.float32:
            found = image.dtype if isinstance(image, Tensor) else type(image).__name__
            raise InvalidType(f"{name} gave an image of {found}: expected float32 in [0, 1].")
        if image.ndim != 3 or len(image) != len(was):
            raise InvalidValue(f"{name} gave an image of shape {tuple(image.shape)}: expected ({len(was)}, H, W).")
    if not isinstance(mask, Tensor) or mask.is_complex():
        raise InvalidType(f"{name} gave a mask of {type(mask).__name__}: expected whole numbers (H, W).")
    if mask.ndim != before[-1].ndim or mask.shape[:-2] != before[-1].shape[:-2]:
        expected = ", ".join([*map(str, before[-1].shape[:-2]), "H, W"])
        raise InvalidValue(f"{name} gave a mask of shape {tuple(mask.shape)}: expected ({expected}).")
    if {image.shape[-2:] for image in images} != {mask.shape[-2:]}:
        raise InvalidValue(f"{name} gave {by(images[0].shape[-2:])} pixels, and {by(mask.shape[-2:])} of mask.")
    if mask.is_floating_point() and not torch.equal(mask, mask.round()):
        raise InvalidValue(f"{name} interpolated the mask: labels are whole numbers, taken from the nearest pixel.")


def as_item(
    image: Tensor,
    mask: Tensor,
    *,
    size: tuple[int, int] | None,
    transform: Transform | None,
    name: str,
    as_bytes: bool = False,
) -> tuple[Tensor, Tensor]:
    """An image and its mask, as they are read, as the item of a dataset: resized, augmented, float32 in [0, 1].

    With *as_bytes* an image of bytes that nothing augments stays one.

    Raises:
        InvalidInput: If *transform* has led out of [0, 1], with the item's *name*.
    """
    if size is not None:
        image, mask = resize(image, size), resize(mask, size, labels=True)
    if transform is not None or not as_bytes:
        image, mask = augmented(transform, as_unit(image), mask)
    return in_unit(image, name), mask


def resize(picture: Tensor, size: tuple[int, int], *, labels: bool = False) -> Tensor:
    """An image (C, H, W), bilinear and antialiased, or a mask (H, W), nearest, at (H, W) = *size*, both aligned.

    ``v2.Resize`` takes ``nearest`` for masks, which reads the upper left corner of each new pixel instead of
    its centre, and so shifts the mask against the image by up to half a pixel.
    """
    if labels:
        nearest: Tensor = F.resize(picture[None], list(size), InterpolationMode.NEAREST_EXACT)
        return nearest[0]
    smooth: Tensor = F.resize(picture, list(size), InterpolationMode.BILINEAR, antialias=True)
    return smooth
