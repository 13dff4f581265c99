"""Augmentations by name."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smp_feedback.data.augment import Transform, as_transform, augmented
from smp_feedback.data.augmentation_probe import DRAWS, scene
from smp_feedback.data.draws import draws_undone
from smp_feedback.errors import FeedbackError
from smp_feedback.registry.public import catalogue

SIZES = ((24, 40), (33, 17))
AGREE = 0.5  # of image and mask, as a correlation, on average


def check_augmentation(name: str) -> None:
    """The augmentation *name* moves an image and its mask alike, and gives an image and labels as it was given.

    It leaves both as they were, draws from torch's generator alone, so that a seed decides, and travels to a loader's
    workers. Images are float32 in [0, 1] (3, H, W), masks whole numbers (H, W).

    Args:
        name: A registered name.

    >>> check_augmentation("flips")
    """
    _ = catalogue().augmentations[name]  # an unknown name is none of its faults
    try:
        transform = as_transform(name)
    except FeedbackError as error:
        raise AssertionError(str(error)) from error
    if transform is None:
        return
    for size in SIZES:
        check_pair(transform, *scene(size))
    check_together(transform)
    check_seeded(transform)
    try:
        there = pickle.loads(pickle.dumps(transform))
    except Exception as error:
        raise AssertionError(f"it does not travel to a loader's workers: {error}") from error
    pair = scene(SIZES[0])
    same = all(torch.equal(*parts) for parts in zip(_drawn(there, 0, *pair), _drawn(transform, 0, *pair), strict=True))
    assert same, "in a worker it does something else"


def check_pair(transform: Transform, image: Tensor, mask: Tensor) -> None:
    """An image in [0, 1] and a mask of its size with labels that were there; what it was given is as it was."""
    before = image.clone(), mask.clone()
    for seed in range(4):
        moved, where = _drawn(transform, seed, image, mask)
        low, high = (float(end) for end in moved.aminmax())
        assert low >= -1e-4, f"it gives an image with values {low:.4g} to {high:.4g}, expected 0 to 1"
        assert high <= 1 + 1e-4, f"it gives an image with values {low:.4g} to {high:.4g}, expected 0 to 1"
        new = sorted({*where.flatten().tolist()} - {*mask.flatten().tolist()})
        assert not new, f"it gives labels that were not there: {new}"
        unchanged = torch.equal(image, before[0]) and torch.equal(mask, before[1])
        assert unchanged, "it wrote into the image or the mask that it was given"


def check_together(transform: Transform) -> None:
    """Where the mask says that a bright shape is, the image is bright, drawn often."""
    image, mask = scene(SIZES[0])
    found = []
    for seed in range(DRAWS):
        moved, where = _drawn(transform, seed, image, mask)
        if where.float().std() > 0.05:  # the shape is still in sight
            found.append(float(torch.corrcoef(torch.stack([moved.mean(0).flatten(), where.float().flatten()]))[0, 1]))
    assert found, f"in {DRAWS} draws the shape was never in sight"
    mean = sum(map(abs, found)) / len(found)
    assert mean > AGREE, f"image and mask are not moved alike: they agree by {mean:.2f} on average, expected 0.5 to 1"


def check_seeded(transform: Transform) -> None:
    """torch's generator decides, wherever those of NumPy and Python are."""
    pair = scene(SIZES[0])
    first = _drawn(transform, 3, *pair)
    with draws_undone():
        for other in range(DRAWS):
            np.random.seed(other)
            random.seed(other)
            again = _drawn(transform, 3, *pair)
            same = torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
            assert same, "from the same seed of torch it does something else: other random numbers are in it"


def _drawn(transform: Any, seed: int, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            moved, where = augmented(transform, image, mask)
        except FeedbackError as error:
            raise AssertionError(str(error)) from error
    return moved, where
