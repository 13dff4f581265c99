"""Restorers by name."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.config.restoration import Restoration
from smp_feedback.registry.public import catalogue
from smp_feedback.restorers.base import Restored, Restorer, class_feedback
from smp_feedback.restorers.painting import build_restorer
from smp_feedback.testing.bases import broken
from smp_feedback.testing.memory import check_unchanged, contents
from smp_feedback.testing.promises import check_close

CHANNELS, CLASSES = 3, 2
SIZES = ((32, 48), (33, 47))
USUAL: dict[str, Any] = {"depth": 2, "filters": 4, "weight": 1.0}  # fast, and heard above rounding
ROUNDING = 1e-4  # of the largest pixel: what another batch or another thread may change


def check_restorer(name: str, *, sizes: Iterable[tuple[int, int]] = SIZES, **settings: Any) -> None:
    """The restorer *name* makes an image of an image, hears what is fed back, and remembers nothing.

    The image is of the shape and dtype that it was given, the displacement in pixels (B, 2, H, W) or None. In
    evaluation an image's restoration depends on nothing but that image and its feedback; once trained, all parameters
    learn. It is copied, saved and loaded.

    Args:
        name: A registered name.
        sizes: Heights and widths to try; the usual ones divide by 16, and by nothing.
        **settings: Fields of :class:`smp_feedback.Restoration`; unless given, small ones, and a weight of 1, so that
            the feedback is heard above rounding.

    >>> check_restorer("unet")
    """
    assert callable(catalogue().restorers[name]), f"{name} cannot be called"
    config = Restoration(**{**USUAL, "restorer": name, **settings})
    with broken(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        restorer = build(config)
        for size in sizes:
            example = picture(size)
            check_images(restorer, *example)
            check_alone(restorer, *example)
        check_heard(restorer, *example)
        check_learns(restorer, *example)
        check_copied(restorer, build(config), *example)


def build(config: Restoration) -> Restorer:
    """A restorer of *config* that shares nothing with another one; as if trained: nothing in it starts at zero."""
    made, other = (build_restorer(config, CHANNELS, CLASSES) for _ in range(2))
    shared = {id(p) for p in made.parameters()} & {id(p) for p in other.parameters()}
    assert not shared, "its builder handed the same parameters out twice"
    for parameter in made.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return made.eval()


def picture(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Two random images of *size*, and the feedback of a random change of class scores."""
    image = torch.rand(2, CHANNELS, *size)
    return image, class_feedback(torch.randn(2, CLASSES, *size), image)


@torch.no_grad()
def check_images(restorer: Restorer, image: Tensor, feedback: Tensor) -> None:
    """With feedback, with none and with zeros: an image like the one that it was given, which stays as it was."""
    given = image.clone(), feedback.clone()
    for told in (None, torch.zeros_like(feedback), feedback):
        check_restored(restorer(image, told), image)
    assert torch.equal(image, given[0]), "it wrote into the image that it was given"
    assert torch.equal(feedback, given[1]), "it wrote into the feedback that it was given"
    double = copy.deepcopy(restorer).double()
    check_restored(double(image.double(), feedback.double()), image.double())


def check_restored(restored: Restored, image: Tensor) -> None:
    """It is a restoration of *image*."""
    assert isinstance(restored, Restored), f"it gives a {type(restored).__name__}: expected a Restored"
    made, displacement = restored.image, restored.displacement
    assert made.shape == image.shape, f"it gives the shape {tuple(made.shape)}, of {tuple(image.shape)}"
    assert made.dtype == image.dtype, f"it gives {made.dtype}, of {image.dtype}"
    assert made.isfinite().all(), "it gives values that are not finite"
    if displacement is not None:
        expected = (len(image), 2, *image.shape[-2:])
        assert displacement.shape == expected, f"it displaces by {tuple(displacement.shape)}: expected {expected}"


@torch.no_grad()
def check_alone(restorer: Restorer, image: Tensor, feedback: Tensor) -> None:
    """Asked twice, or for one image of two, it answers alike; and a call leaves nothing behind."""
    expected = restorer(image, feedback).image
    before = contents(restorer)
    restorer(image.flip(-1) / 2, feedback / 2)
    check_unchanged(before, contents(restorer))
    again = restorer(image, feedback).image
    assert torch.equal(again, expected), "asked twice, it answers otherwise"
    begun = restorer.begin(image)
    restorer.restore(image, begun, None)
    reused = restorer.restore(image, begun, feedback).image
    assert torch.equal(reused, expected), "restore() depends on the restorations before it from the same begin()"
    for i in range(len(image)):
        alone = restorer(image[i : i + 1], feedback[i : i + 1]).image
        check_close(alone[0], expected[i], "an image alone is restored otherwise than in a batch", ROUNDING)


@torch.no_grad()
def check_heard(restorer: Restorer, image: Tensor, feedback: Tensor) -> None:
    """Another feedback gives another image, and none is allowed."""
    one, other = (restorer(image, told).image for told in (feedback, feedback.flip(-1)))
    assert not torch.equal(one, other), "it does not hear the feedback: two kinds of it give one image"


def check_learns(restorer: Restorer, image: Tensor, feedback: Tensor) -> None:
    """Gradient of the restored image reaches every parameter, image and feedback."""
    leaves = image.clone().requires_grad_(), feedback.clone().requires_grad_()
    weights = torch.randn_like(image)  # a plain sum would be blind to what a normalisation keeps
    (restorer(*leaves).image * weights).sum().backward()
    named = {**dict(restorer.named_parameters()), "the image": leaves[0], "the feedback": leaves[1]}
    for name, leaf in named.items():
        if leaf.requires_grad:
            assert leaf.grad is not None, f"no gradient reaches {name}"
            assert leaf.grad.isfinite().all(), f"the gradient of {name} is not finite"
            assert leaf.grad.any(), f"the gradient of {name} is zero"
    restorer.zero_grad(set_to_none=True)


@torch.no_grad()
def check_copied(restorer: Restorer, other: Restorer, image: Tensor, feedback: Tensor) -> None:
    """Pickled, or its weights loaded into the *other* one, it restores as before."""
    expected = restorer(image, feedback).image
    there = pickle.loads(pickle.dumps(restorer))
    assert torch.equal(there(image, feedback).image, expected), "pickled, it restores otherwise"
    other.load_state_dict(restorer.state_dict(), strict=True)
    assert torch.equal(other(image, feedback).image, expected), "its weights, loaded, restore otherwise"
