"""Erosion and dilation against scipy's, their gradients against differences and pooling's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from smp_feedback.ops.morphology import dilated, eroded

ndimage = pytest.importorskip("scipy.ndimage")

CROSS = ndimage.generate_binary_structure(2, 1)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_what_scipy_gives(height: int, width: int, seed: int) -> None:
    """Of any size, one pixel included; scipy's ``nearest`` repeats what the border has already counted."""
    image = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    for plane, less, more in zip(
        image.flatten(0, 1), *(f(image).flatten(0, 1) for f in (eroded, dilated)), strict=True
    ):
        assert (ndimage.grey_erosion(plane.numpy(), footprint=CROSS, mode="nearest") == less.numpy()).all()
        assert (ndimage.grey_dilation(plane.numpy(), size=3, mode="nearest") == more.numpy()).all()


@pytest.mark.parametrize("of", [eroded, dilated])
def test_gradients(of: object) -> None:
    """Of the first order and of the second."""
    image = torch.rand(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(of, (image,))
    assert torch.autograd.gradgradcheck(of, (image,))


@given(st.integers(0, 2**31))
def test_the_gradient_of_equals_goes_where_poolings_does(seed: int) -> None:
    """To the first in the order of reading: few values, so that most are equal to a neighbour."""
    drawn = torch.Generator().manual_seed(seed)
    image = torch.randint(3, (1, 1, 6, 7), generator=drawn).double().requires_grad_()
    weight = torch.rand(1, 1, 6, 7, generator=drawn, dtype=torch.float64)
    ours, pooled = (
        torch.autograd.grad((weight * of(image)).sum(), image)[0]
        for of in (dilated, lambda x: F.max_pool2d(x, 3, 1, 1))
    )
    torch.testing.assert_close(ours, pooled)


def test_what_was_given_stays() -> None:
    """Nothing is written into the image."""
    image = torch.rand(1, 1, 4, 4)
    before = image.clone()
    eroded(image), dilated(image)
    assert torch.equal(image, before)


def test_a_compiled_one_is_one_graph() -> None:
    """Losses are compiled with the model that they train."""
    image = torch.rand(1, 1, 6, 5, requires_grad=True)
    compiled = torch.compile(lambda x: dilated(eroded(x)), backend="aot_eager", fullgraph=True)
    ours, theirs = (
        torch.autograd.grad((f(image) ** 2).sum(), image)[0] for f in (lambda x: dilated(eroded(x)), compiled)
    )
    torch.testing.assert_close(ours, theirs)
