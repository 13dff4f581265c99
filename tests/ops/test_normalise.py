"""The norm of a pixel: our own derivation, blind to whatever lies around, of an rms that is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import reference as ref
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smp_feedback.ops.maps import as_precise_as
from smp_feedback.ops.normalise import normaliser, per_pixel

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7))


def drawn(size, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(scale * rng.standard_normal(size))


@given(size=SIZES, seed=st.integers(0, 999), scale=st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_it_is_our_own_derivation(size, seed, scale):
    x = drawn(size, seed, scale)
    torch.testing.assert_close(normaliser("pixel", size[1])(x), torch.from_numpy(ref.pixel_norm(x.numpy())))


@given(size=SIZES, seed=st.integers(0, 999), scale=st.floats(1e-1, 1e4))
@settings(max_examples=30, deadline=None)
def test_the_channels_of_every_pixel_have_an_rms_of_one(size, seed, scale):
    """Of one below: what is divided by is larger by eps."""
    squares = per_pixel(drawn(size, seed, scale) + 2 * scale).square().mean(1)
    assert (squares <= 1 + 1e-9).all()
    before = (drawn(size, seed, scale) + 2 * scale).square().mean(1)
    torch.testing.assert_close(squares, before / (before + 1e-5))


@given(data=st.data(), size=SIZES, seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_of_a_crop_it_is_the_crop(data, size, seed):
    """So it does not know how large the image is, either. To the last bit or two: a sum's order is the library's."""
    x = drawn(size, seed)
    (top, bottom), (left, right) = (
        sorted(data.draw(st.tuples(st.integers(0, side - 1), st.integers(0, side - 1)))) for side in size[2:]
    )
    crop = (..., slice(top, bottom + 1), slice(left, right + 1))
    torch.testing.assert_close(per_pixel(x[crop]), per_pixel(x)[crop], atol=0, rtol=1e-14)


@pytest.mark.parametrize("norm", ["instance", "layer", 2])
def test_no_other_normalisation_is_blind_to_what_lies_around(norm):
    """Else the test before proved nothing."""
    x = drawn((1, 4, 6, 6), 0)
    whole = normaliser(norm, 4)(x)[..., :3, :3]
    assert (normaliser(norm, 4)(x[..., :3, :3]) - whole).abs().max() > 0.1


@pytest.mark.parametrize("norm", ["instance", "layer", 2])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_of_nearly_even_maps_it_is_as_exact_however_they_lie_in_memory(norm, form):
    """A mean 30 times the deviation: the mean of squares less the squared mean would leave three digits."""
    x = (0.02 * drawn((2, 4, 64, 72), 0) + 0.6).float()
    groups = {"instance": 4, "layer": 1}.get(norm, norm)
    each = x.double().view(2, groups, -1)
    exact = (each - each.mean(-1, keepdim=True)) / (each.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    found = normaliser(norm, 4)(x.to(memory_format=form))
    assert (found - exact.view(x.shape)).abs().max() < 2e-5
    assert found.is_contiguous(memory_format=form)


@pytest.mark.parametrize("norm", ["instance", "layer", 2, "pixel", "none"])
def test_one_image_of_one_pixel_is_as_it_is_in_a_batch(norm):
    """A group of one value has nothing but its mean, and is 0, of however many images."""
    x = drawn((2, 4, 1, 1), 0)
    alone = torch.cat([normaliser(norm, 4)(one) for one in x.split(1)])
    torch.testing.assert_close(alone, normaliser(norm, 4)(x))
    if norm == "instance":
        assert not alone.any()


def test_a_pixel_of_zeros_stays_zero_and_has_a_gradient():
    x = torch.zeros(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    per_pixel(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1e-5**-0.5))


def test_gradients_are_those_of_finite_differences():
    x, weight, bias = (drawn(size, 1).requires_grad_() for size in ((2, 3, 2, 2), 3, 3))
    assert torch.autograd.gradcheck(lambda x, w, b: per_pixel(x, 1e-3, w, b), (x, weight, bias))


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 4), (2, 5, 4, 3), (2, 5, 2, 4, 3)])
def test_it_takes_any_number_of_axes(shape):
    x, weight, bias = drawn(shape, 0), drawn(5, 1), drawn(5, 2)
    each = (slice(None), *[None] * (len(shape) - 2))
    expected = torch.from_numpy(ref.pixel_norm(x.numpy())) * weight[each] + bias[each]
    torch.testing.assert_close(per_pixel(x, weight=weight, bias=bias), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    x = (1e3 * drawn((2, 4, 3, 3), 0)).to(dtype)  # squares of which overflow in float16
    assert torch.equal(per_pixel(x), per_pixel(x.float()).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_under_autocast_nothing_is_lost(dtype):
    x = drawn((2, 4, 3, 3), 0).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found = per_pixel(x)
        with as_precise_as(x):
            assert torch.equal(found, per_pixel(x))
    assert found.dtype == dtype


def test_memory_stays_laid_out_as_it_was():
    x = torch.rand(2, 4, 3, 5).to(memory_format=torch.channels_last)
    assert per_pixel(x).is_contiguous(memory_format=torch.channels_last)
