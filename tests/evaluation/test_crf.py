"""The dense CRF that refinement is compared with, where its library is installed."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from smp_feedback.errors import FeedbackError, InvalidInput, InvalidValue
from smp_feedback.evaluation.crf import Smoothing, dense_crf

HERE = importlib.util.find_spec("pydensecrf") is not None
needs_crf = pytest.mark.skipif(not HERE, reason="pydensecrf2 (extra crf) is not installed: it needs a C++ compiler")


@pytest.mark.skipif(HERE, reason="pydensecrf2 is installed")
def test_what_to_install_is_said():
    with pytest.raises(FeedbackError, match=r"pip install .*smp_feedback\[crf\]"):
        dense_crf(torch.ones(1, 2, 4, 4) / 2, torch.zeros(1, 3, 4, 4))


@needs_crf
def test_without_neighbours_it_is_the_prediction():
    y = torch.rand(2, 3, 5, 7).softmax(1)
    found = dense_crf(y, torch.rand(2, 3, 5, 7), smoothing=Smoothing(weight=0, strength=0))
    assert torch.allclose(found, y, atol=1e-5)


@needs_crf
def test_a_lonely_pixel_follows_those_of_its_colour():
    image = torch.zeros(1, 3, 16, 16)
    image[..., 8:] = 1
    y = torch.full((1, 2, 16, 16), 0.2)
    y[:, 0, :, :8] = y[:, 1, :, 8:] = 0.8
    clean = y.argmax(1)
    y[0, :, 4, 3] = torch.tensor([0.3, 0.7])
    assert not torch.equal(y.argmax(1), clean)
    found = dense_crf(y, image)
    assert torch.equal(found.argmax(1), clean)
    assert torch.allclose(found.sum(1), torch.ones(()), atol=1e-4)


@needs_crf
def test_bad_input_is_refused():
    y, image = torch.rand(1, 2, 8, 8).softmax(1), torch.rand(1, 3, 8, 8)
    with pytest.raises(InvalidInput, match=r"of one size"):
        dense_crf(y, image[..., :7])
    with pytest.raises(InvalidInput, match=r"expected \[0, 1\]"):
        dense_crf(y, image * 255)
    with pytest.raises(InvalidValue, match=r"updates=0"):
        dense_crf(y, image, updates=0)
    with pytest.raises(InvalidValue, match=r"far=0"):
        dense_crf(y, image, smoothing=Smoothing(far=0))
