"""What an augmentation of somebody else's does to a made-up pair, before it is trusted with an epoch of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from smp_feedback.data.draws import draws_undone
from smp_feedback.errors import FeedbackError, InvalidValue

DRAWS = 16
SIZE = (24, 40)
Augmented = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def scene(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """An image, and a mask of a shape in it that is alike from no two sides."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size[0]), torch.linspace(0, 1, size[1]), indexing="ij")
    mask = (((x < 0.35) & (y < 0.8)) | ((y > 0.6) & (y < 0.8) & (x < 0.9))).long()
    shade = 0.15 + 0.6 * mask + 0.1 * torch.sin(7 * x + 4 * y)
    return torch.stack([shade, shade * 0.9, shade * 0.95]), mask


def check_moves_both(who: str, augmented: Augmented) -> None:
    """In a few draws *augmented* never puts an image's pixels elsewhere and leaves the mask as it was.

    What turns, cuts or bends an image has other pixels, as what changes its colours has: that is for
    :func:`smp_feedback.testing.check_augmentation`. Nobody's random numbers are used up.

    Args:
        who: Whose, for the error.
        augmented: Of an image (3, H, W) and a mask (H, W) both, as plain tensors.

    Raises:
        InvalidValue: If it does.

    >>> check_moves_both("mine", lambda image, mask: (image.flip(-1), mask))
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: mine moves an image and leaves its mask where it was...
    """
    image, mask = scene(SIZE)
    with draws_undone(), torch.random.fork_rng(devices=[]):
        for seed in range(DRAWS):
            torch.manual_seed(seed)
            try:
                moved, where = augmented(image.clone(), mask.clone())
            except (FeedbackError, RuntimeError, ValueError):  # not made for such a pair: said where it is used
                return
            if torch.equal(where, mask) and _rearranged(image, moved):
                raise InvalidValue(
                    f"{who} moves an image and leaves its mask where it was: expected one draw for both, as "
                    "torchvision.transforms.v2 makes of (image, mask)."
                )


def _rearranged(image: Tensor, moved: Any) -> bool:
    """Whether *moved* has the pixels of *image*, in other places."""
    if moved.shape != image.shape or torch.equal(moved, image):
        return False
    return all(
        torch.equal(one.flatten().sort().values, other.flatten().sort().values)
        for one, other in zip(moved, image, strict=True)
    )
