"""Gaussian noise followed by min-max scaling."""

from __future__ import annotations

from typing import SupportsIndex, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.data.items import (
    Sample,
    check_image,
    checked_index,
    checked_int,
    checked_sigma,
    inherited,
    item_name,
)
from smp_feedback.data.streams import noise_generator
from smp_feedback.errors import InvalidType


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
    check_image(image)
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
        classes = inherited(dataset, "classes")
        self.classes = None if classes is None else tuple(cast("tuple[str, ...]", classes))
        self.ignore_index = cast("int | None", inherited(dataset, "ignore_index"))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        i = checked_index(index, len(self))
        image, mask = self.dataset[i]
        return add_noise(image, self.sigma, noise_generator(self.seed, i)), mask

    def name(self, index: SupportsIndex) -> str:
        """What the wrapped dataset calls item *index*."""
        return item_name(self.dataset, checked_index(index, len(self)))


def _min_max(image: Tensor) -> Tensor:
    low, high = image.amin((-3, -2, -1), keepdim=True), image.amax((-3, -2, -1), keepdim=True)
    spread = high - low
    return (image - low) / torch.where(spread > 0, spread, 1)  # a constant image: 0 / 1 rather than 0 / 0
