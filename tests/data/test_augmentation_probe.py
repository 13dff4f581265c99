"""What somebody else's augmentation does to an image alone is refused where it is asked for by name."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from smp_feedback.data.augment import as_transform, augmented
from smp_feedback.data.augmentation_probe import check_moves_both
from smp_feedback.errors import InvalidValue
from smp_feedback.registry.public import catalogue


def alone(image, mask):
    """Mirrors every other image, and no mask."""
    return (image.flip(-1) if torch.rand(()) < 0.5 else image), mask


def shifted(image, mask):
    return image.roll(3, -1), mask


@pytest.mark.parametrize("transform", [alone, shifted])
def test_an_image_that_moves_without_its_mask_is_refused_by_name(transform, restored):
    restored.augmentations.register("mine", lambda: transform)
    with pytest.raises(InvalidValue, match=r"augmentation 'mine' of .* moves an image and leaves its mask"):
        as_transform("mine")
    assert as_transform(transform) is transform, "a callable of one's own is nobody's part"


FINE = {
    "both": lambda image, mask: (image.flip(-1), mask.flip(-1)),
    "colours": v2.ColorJitter(0.25, 0.25, 0.25),
    "nothing": lambda image, mask: (image, mask),
    "for larger images": v2.RandomCrop((128, 128)),
}


@pytest.mark.parametrize("kind", FINE)
def test_others_are_taken_and_nobodys_random_numbers_are_used_up(kind, restored):
    restored.augmentations.register("mine", lambda: FINE[kind])
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    assert as_transform("mine") is FINE[kind]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]


@pytest.mark.parametrize("name", [name for name in catalogue().augmentations if name != "none"])
def test_every_augmentation_moves_both(name):
    check_moves_both(name, lambda image, mask: augmented(as_transform(name), image, mask))
