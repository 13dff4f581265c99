"""What is fed back, against closed forms."""

from __future__ import annotations

import math

import pytest
import reference as ref
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import smp_feedback as smpf
from smp_feedback.errors import InvalidValue
from smp_feedback.ops.normalise import normaliser
from smp_feedback.projections import View, class_probabilities, dirichlet_entropy, softmax_feedback
from smp_feedback.registry.public import catalogue

EVERY = list(catalogue().projections)


def test_softmax_feedback_is_our_own_derivation():
    state = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    ours = softmax_feedback(state, (7, 11), normaliser("instance", 3))
    theirs = ref.softmax(ref.instance_norm(ref.resize_bilinear(state.numpy(), (7, 11), False)))
    torch.testing.assert_close(ours, torch.from_numpy(theirs))


@given(classes=st.integers(2, 12), scale=st.floats(0, 100), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_entropy_lies_between_certainty_and_ignorance(classes, scale, seed):
    torch.manual_seed(seed)
    evidence = scale * torch.randn(1, classes, 3, 3, dtype=torch.float64)
    entropy = dirichlet_entropy(evidence)
    assert (entropy >= 0).all()
    assert (entropy <= math.log(classes) + 1e-12).all()
    torch.testing.assert_close(entropy, torch.from_numpy(ref.dirichlet_entropy(evidence.numpy())))


def test_probabilities_are_softmax_or_for_one_class_sigmoid():
    logits = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(class_probabilities(logits), logits.exp() / logits.exp().sum(1, keepdim=True))
    torch.testing.assert_close(class_probabilities(logits[:, :1]), 1 / (1 + (-logits[:, :1]).exp()))


@pytest.mark.parametrize("name", EVERY)
def test_what_is_fed_back_before_anything_is_known_is_that_of_an_empty_state(name):
    config = smpf.Recurrent(projection=name, channels=3)
    projection = catalogue().projections[name](config, 5)
    view = View(torch.zeros(1, projection.readout, 2, 2), lambda: torch.zeros(1, 5, 4, 4), (4, 4))
    fed = projection(view)
    assert fed.shape == (1, projection.channels, 4, 4)
    before = torch.as_tensor(projection.before()).reshape(-1, 1, 1)
    torch.testing.assert_close(fed, before.expand_as(fed).to(fed.dtype))


def test_entropy_of_one_class_is_refused():
    with pytest.raises(InvalidValue, match="classes >= 2, got classes=1"):
        catalogue().projections["entropy"](smpf.Recurrent(projection="entropy"), 1)


@pytest.mark.parametrize(("norm", "groups"), [("layer", 1), ("instance", 6), (3, 3)])
def test_every_normalisation_is_group_normalisation(norm, groups):
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(normaliser(norm, 6)(x), torch.from_numpy(ref.group_norm(x.numpy(), groups)))


def test_groups_that_do_not_divide_are_refused_with_both_numbers():
    with pytest.raises(InvalidValue, match=r"norm_error=4: .* 6 channels"):
        normaliser(4, 6, "norm_error")
