"""Corruptions by name."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from smp_feedback.registry.public import catalogue

SEVERITIES = (1, 2, 3, 4, 5)
SHAPES = ((3, 48, 64), (3, 16, 16), (3, 33, 17))


def check_corruption(name: str) -> None:
    """The corruption *name* is a pure function of image, severity and generator, and 5 is worse than 1.

    It gives an image in [0, 1] of the shape and dtype that it was given, and leaves that one as it was. All of its
    random numbers come from its generator, and it travels to a loader's workers.

    >>> check_corruption("gaussian_blur")
    """
    assert callable(catalogue().corruptions[name]), f"{name} cannot be called"
    for shape in SHAPES:
        check_corrupted(name, picture(shape))
    check_random_numbers(name, picture(SHAPES[0]))
    check_severity(name)
    there = pickle.loads(pickle.dumps(catalogue().corruptions[name]))
    image = picture(SHAPES[0])
    assert torch.equal(there(image, 3, seeded()), _corrupted(name, image, 3)), "in a worker it does something else"


def seeded(seed: int = 0) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)


def picture(shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Smooth and sharp, bright and dark: an image (3, H, W) in [0, 1]."""
    y, x = torch.meshgrid(torch.linspace(0, 1, shape[1]), torch.linspace(0, 1, shape[2]), indexing="ij")
    phase = torch.rand(shape[0], 1, 1, generator=seeded(seed))
    waves = 0.5 + 0.3 * torch.sin(9 * x + 5 * y + 6 * phase)
    return torch.where((x - 0.5).square() + (y - phase).square() < 0.05, 0.9, waves).float()


def _corrupted(name: str, image: Tensor, severity: int, seed: int = 0) -> Tensor:
    result: Tensor = catalogue().corruptions[name](image, severity, seeded(seed))
    return result


def check_corrupted(name: str, image: Tensor) -> None:
    """For every severity an image like the one that it was given, which stays as it was; in float64, too."""
    given = image.clone()
    for severity in SEVERITIES:
        result = _corrupted(name, image, severity)
        words = f"at severity {severity} it gives"
        assert isinstance(result, Tensor), f"{words} a {type(result).__name__}"
        assert result.shape == image.shape, f"{words} the shape {tuple(result.shape)}, of {tuple(image.shape)}"
        assert result.dtype == image.dtype, f"{words} {result.dtype}, of {image.dtype}"
        inside = bool(((result >= 0) & (result <= 1)).all())
        assert inside, f"{words} values from {result.min():.4g} to {result.max():.4g}, expected 0 to 1"
        assert torch.equal(image, given), "it wrote into the image that it was given"
        assert not torch.equal(result, image), f"at severity {severity} nothing happens"
    assert _corrupted(name, image.double(), 1).dtype == torch.float64, "of float64 it gives another dtype"


def check_random_numbers(name: str, image: Tensor) -> None:
    """The generator decides, and the global generators of torch and numpy are neither asked nor moved."""
    results = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            before, old = torch.get_rng_state(), np.random.get_state()
            results.append(_corrupted(name, image, 3))
            moved = not torch.equal(torch.get_rng_state(), before) or str(np.random.get_state()) != str(old)
            assert not moved, "it moved the global random numbers"
    assert torch.equal(*results), "from the same generator it does something else: other random numbers are in it"


def check_severity(name: str) -> None:
    """The mean change grows with the severity, averaged over a few images."""
    images = [picture(SHAPES[0], seed) for seed in range(4)]
    change = [
        float(torch.stack([(_corrupted(name, x, s, i) - x).square().mean() for i, x in enumerate(images)]).mean())
        for s in SEVERITIES
    ]
    grows = all(small < large for small, large in pairwise(change))
    said = ", ".join(f"{c:.2g}" for c in change)
    assert grows, f"from severity 1 to 5 images change by {said}: expected more each time"
