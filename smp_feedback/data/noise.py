"""Gaussian noise followed by min-max scaling, and the stream of random numbers that belongs to each item."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import SupportsIndex, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.errors import InvalidType, InvalidValue

Sample = tuple[Tensor, Tensor]  # image (3, H, W) float32 in [0, 1], mask (H, W) int64


def add_noise(image: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Each image plus Gaussian noise, then stretched to [0, 1] by its own minimum and maximum.

    The more noise, the less of [0, 1] is left to the scene: contrast falls as noise rises. As in *Deep
    Recurrence for Dynamical Segmentation Models* (arXiv 2507.10143). Pure: the same generator state gives the
    same noise.

    Args:
        image: (..., C, H, W), floating point, in [0, 1].
        sigma: Standard deviation before scaling, in units of the image, >= 0; 0 returns *image* unchanged,
            unscaled.
        generator: Where the noise is drawn from; it may live on another device than the image.

    Returns:
        (..., C, H, W), as *image*. Scaling runs over C, H and W; where nothing varies, the image becomes 0.

    Raises:
        InvalidType: If *image* is no floating-point tensor, or *sigma* is no number.
        InvalidValue: If *sigma* is negative or not finite, or *image* has no C, H or W.

    >>> noisy = add_noise(torch.full((2, 3, 8, 8), 0.5), 0.1, torch.Generator().manual_seed(0))
    >>> noisy.amin((1, 2, 3)), noisy.amax((1, 2, 3))
    (tensor([0., 0.]), tensor([1., 1.]))
    """
    _check_image(image)
    if checked_sigma("sigma", sigma) == 0:
        return image
    drawn = torch.randn(image.shape, generator=generator, dtype=image.dtype, device=generator.device)
    return _min_max(image + sigma * drawn.to(image.device))


class Noisy(Dataset[Sample]):
    """A dataset with noisy images; the noise of item i depends on (seed, i) only, the masks stay as they are.

    Args:
        dataset: Map-style, with items (image, mask). ``classes`` and ``ignore_index`` are taken from it,
            through wrappers that keep it as ``.dataset``, such as ``torch.utils.data.Subset``; None where
            nobody says.
        sigma: Standard deviation before scaling, see `add_noise`.
        seed: Another seed, other noise; >= 0.

    Raises:
        InvalidType: If *dataset* has no length, or *sigma* or *seed* is no number.
        InvalidValue: If *sigma* or *seed* is negative, or *sigma* is not finite.

    >>> from smp_feedback.data import Shapes
    >>> clean, noisy = Shapes(4), Noisy(Shapes(4), sigma=0.5)
    >>> torch.equal(noisy[2][1], clean[2][1]), torch.equal(noisy[2][0], Shapes(4, noise=0.5)[2][0])
    (True, True)
    """

    def __init__(self, dataset: Dataset[Sample], sigma: float, seed: int = 0) -> None:
        if not hasattr(dataset, "__len__"):
            raise InvalidType(f"dataset={dataset!r}: expected a map-style dataset, with a length.")
        self.dataset = dataset
        self.sigma = checked_sigma("sigma", sigma)
        self.seed = checked_int("seed", seed, least=0)
        classes = _inherited(dataset, "classes")
        self.classes = None if classes is None else tuple(cast("tuple[str, ...]", classes))
        self.ignore_index = cast("int | None", _inherited(dataset, "ignore_index"))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        i = checked_index(index, len(self))
        image, mask = self.dataset[i]
        return add_noise(image, self.sigma, noise_generator(self.seed, i)), mask


def noise_generator(seed: int, index: int) -> torch.Generator:
    """The generator for the noise of item *index*, independent of ``default_rng([seed, index])``.

    The spawn key sets it apart, so that what an item shows and the noise upon it never share random numbers.
    """
    sequence = np.random.SeedSequence([seed, index], spawn_key=(1,))
    return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


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


def _check_image(image: Tensor) -> None:
    if not isinstance(image, Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise InvalidType(f"image: expected a floating-point tensor in [0, 1], not {kind}.")
    if image.ndim < 3 or 0 in image.shape[-3:]:
        raise InvalidValue(f"image of shape {tuple(image.shape)}: expected (..., C, H, W), none of them 0.")


def _min_max(image: Tensor) -> Tensor:
    low, high = image.amin((-3, -2, -1), keepdim=True), image.amax((-3, -2, -1), keepdim=True)
    spread = high - low
    return (image - low) / torch.where(spread > 0, spread, 1)  # a constant image: 0 / 1 rather than 0 / 0


def _inherited(dataset: object, name: str) -> object:
    while not hasattr(dataset, name) and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return getattr(dataset, name, None)
