"""What every dataset shares: the item and its name, and the checks of what it is asked for."""

from __future__ import annotations

import bisect
import math
import operator
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, SupportsIndex, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue

Sample = tuple[Tensor, Tensor]
"""Image (C, H, W), float32 in [0, 1]; mask (H, W) or (classes, H, W), or a label (), int64."""
Corruption = Callable[[Tensor, int, torch.Generator], Tensor]  # of image, severity and generator
Item = TypeVar("Item", covariant=True)
ROUNDING = 1e-4  # how far resizing and arithmetic may lead out of [0, 1]


def checked_index(index: SupportsIndex, count: int) -> int:
    """*index* into a list of *count* items, counted from the end if negative.

    Raises:
        IndexError: Out of range; a ``for`` over a dataset ends by it.
    """
    i = operator.index(index)
    if not -count <= i < count:
        raise IndexError(f"index {i}: expected {-count} to {count - 1}, the dataset has {count} items.")
    return i % count


def checked_int(name: str, value: SupportsIndex, least: int) -> int:
    """*value* as an int that is at least *least*."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise InvalidType(f"{name}={value!r}: expected an int >= {least}, not {type(value).__name__}.")
    if number < least:
        raise InvalidValue(f"{name}={value!r}: expected an int >= {least}.")
    return number


def checked_sigma(name: str, value: float) -> float:
    """*value* as a standard deviation: finite and not negative."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidType(f"{name}={value!r}: expected a number >= 0, not {type(value).__name__}.")
    if not 0 <= value < math.inf:
        raise InvalidValue(f"{name}={value!r}: expected a finite standard deviation >= 0 (images: 0 to 1).")
    return float(value)


def check_corruptible(image: Tensor) -> None:
    """*image* is a floating-point tensor (..., C, H, W) with something in it."""
    if not isinstance(image, Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise InvalidType(f"image: expected a floating-point tensor in [0, 1], not {kind}.")
    if image.ndim < 3 or 0 in image.shape[-3:]:
        raise InvalidValue(f"image of shape {tuple(image.shape)}: expected (..., C, H, W), none of them 0.")


def in_unit(image: Tensor, name: str) -> Tensor:
    """*image*, the item *name* of a dataset, in [0, 1]; what rounding left outside is clamped.

    Raises:
        InvalidInput: If it is not, naming the item: a transform has normalised it, say.
    """
    if not image.is_floating_point() or not image.numel():
        return image
    if wrong := beyond_unit(image):
        raise InvalidInput(
            f"{name}: {wrong} Leave a Normalize out of the dataset's transform: the model normalises what it is shown, "
            "by data.mean and data.std of the command line, or by model.data_config = "
            "smp_feedback.DataConfig(mean=..., std=...)."
        )
    return image.clamp(0, 1)


def beyond_unit(image: Tensor) -> str | None:
    """What is wrong with values that lie outside [0, 1] by more than rounding, or are none; None for others.

    >>> beyond_unit(torch.tensor([-1e-6, 1.0])), beyond_unit(torch.tensor([0.0, 255.0]))
    (None, 'an image with values 0 to 255, expected 0 to 1.')
    """
    low, high = (float(value) for value in image.aminmax())
    if low >= -ROUNDING and high <= 1 + ROUNDING:  # every comparison with NaN is false
        return None
    return f"an image with values {low:.4g} to {high:.4g}, expected 0 to 1."


def check_map_style(dataset: object, name: str) -> None:
    """*dataset*, the argument *name*, has a length, and items by their place.

    Raises:
        InvalidType: If it has not; a loader has the dataset that is meant.

    >>> check_map_style(iter([]), "data")
    Traceback (most recent call last):
    smp_feedback.errors.InvalidType: data is a list_iterator: expected a map-style dataset, with a length and items...
    """
    if isinstance(dataset, DataLoader):
        raise InvalidType(f"{name} is a DataLoader: expected the dataset that it loads, such as loader.dataset.")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise InvalidType(
            f"{name} is a {type(dataset).__name__}: expected a map-style dataset, with a length and items by their "
            "place; list(...) makes one of what comes one by one."
        )


def height_width(size: int | Sequence[int], least: int, unit: str = "pixels", name: str = "size") -> tuple[int, int]:
    """A side, or a pair (H, W), as a pair; each at least *least* of a *unit*; *name* is what asks for it."""
    sides = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else [size, size]
    if len(sides) != 2:
        raise InvalidType(f"{name}={size!r}: expected an int or a pair (H, W), each >= {least} {unit}.")
    height, width = (checked_int(name, side, least) for side in sides)
    return height, width


def inherited(dataset: object, name: str) -> object:
    """*dataset*'s attribute *name*, or that of the dataset it wraps as ``.dataset``; None where nobody says.

    Of several that are put together, as ``ConcatDataset`` has them, it is what all say.

    >>> from smp_feedback.data import Shapes
    >>> inherited(Shapes(2) + Shapes(3), "classes"), inherited(Shapes(2, size=32) + Shapes(2, size=64), "size")
    (('background', 'polygon', 'circle'), None)
    """
    while not hasattr(dataset, name):
        if parts := parts_of(dataset):
            said = [inherited(part, name) for part in parts]
            said = [tuple(one) if isinstance(one, list) else one for one in said]
            return said[0] if all(one == said[0] for one in said) else None
        if not hasattr(dataset, "dataset"):
            return None
        dataset = dataset.dataset
    return getattr(dataset, name)


def parts_of(dataset: Any) -> Sequence[Any]:
    """Those that *dataset* puts together, as ``torch.utils.data.ConcatDataset`` has them; none of another."""
    parts = getattr(dataset, "datasets", None)
    return parts if isinstance(parts, (list, tuple)) else ()


def item_name(dataset: object, index: int) -> str:
    """What *dataset* calls item *index* (its file, if it has one), also behind ``torch.utils.data.Subset``.

    >>> from smp_feedback.data import Shapes
    >>> item_name(torch.utils.data.Subset(Shapes(4), [3, 1]), 0), item_name([], 7)
    ('coloured_shapes[3] of seed 0', 'item 7')
    """
    named, place = source(dataset, index, "name")
    return str(named.name(place)) if hasattr(named, "name") else f"item {index}"


def source(dataset: Any, index: int, having: str = "samples") -> tuple[Any, int]:
    """The first of *dataset* and those that it wraps with an attribute *having*, and the place of item *index* there.

    The innermost, if none has it; ``Subset`` and whatever else has ``indices`` are looked through, and so is
    ``ConcatDataset``.
    """
    while not hasattr(dataset, having):
        if parts_of(dataset) and hasattr(dataset, "cumulative_sizes"):
            index = range(dataset.cumulative_sizes[-1])[index]
            part = bisect.bisect_right(dataset.cumulative_sizes, index)
            index -= dataset.cumulative_sizes[part - 1] if part else 0
            dataset = dataset.datasets[part]
        elif hasattr(dataset, "dataset"):
            index = int(dataset.indices[index]) if hasattr(dataset, "indices") else index
            dataset = dataset.dataset
        else:
            break
    return dataset, index


def files_of(dataset: Any, index: int) -> list[Path]:
    """The files that item *index* is read from, its image first, by ``samples``; none where the dataset has none.

    >>> class Mine(list):
    ...     samples = [("a.png", 0), ("b.png", 1)]
    >>> [path.name for path in files_of(torch.utils.data.Subset(Mine(), [1]), 0)], files_of([1, 2], 0)
    (['b.png'], [])
    """
    base, place = source(dataset, index)
    samples = getattr(base, "samples", None)
    if not isinstance(samples, (list, tuple)) or not 0 <= place < len(samples):
        return []
    return _paths(samples[place])


def _paths(sample: Any) -> list[Path]:
    """Those in a sample: (image, mask), (image, {class: mask}), or what a stranger's dataset has."""
    if isinstance(sample, (str, Path)):
        return [Path(sample)]
    parts = sample.values() if isinstance(sample, dict) else sample if isinstance(sample, (list, tuple)) else ()
    return [path for part in parts for path in _paths(part)]
