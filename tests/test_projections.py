"""What is fed back, against closed forms."""

from __future__ import annotations

import math

import numpy as np
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

TINY, SHALLOW = "tu-test_resnet.r160_in1k", {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
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


def shown(readout, classes=4, seed=1):
    """A view of *readout* beside random logits of half its size, for an image of twice its size."""
    height, width = readout.shape[-2:]
    logits = torch.randn(len(readout), classes, height, width, generator=torch.Generator().manual_seed(seed))
    return logits.to(readout.dtype), View(readout, lambda: logits.to(readout.dtype), (2 * height, 2 * width))


@given(channels=st.integers(1, 6), size=st.tuples(st.integers(1, 5), st.integers(1, 5)), scale=st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_the_state_is_fed_back_as_it_is(channels, size, scale):
    projection = catalogue().projections["state"](smpf.Recurrent(projection="state", channels=channels), 4)
    readout = scale * torch.randn(2, channels, *size, dtype=torch.float64)
    at_its_size = View(readout, lambda: pytest.fail("it reads no logits"), size)
    assert projection(at_its_size) is readout
    _, view = shown(readout)
    expected = ref.resize_bilinear(readout.numpy(), view.size, False)
    torch.testing.assert_close(projection(view), torch.from_numpy(expected))
    assert (projection.readout, projection.channels, projection.before()) == (channels, channels, 0)


@pytest.mark.parametrize("classes", [1, 4])
def test_answer_and_state_are_the_answers_probabilities_and_then_the_state(classes):
    config = smpf.Recurrent(projection="answer+state", channels=3)
    projection = catalogue().projections["answer+state"](config, classes)
    readout = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    logits, view = shown(readout, classes)
    wide = ref.resize_bilinear(logits.numpy(), view.size, False)
    answer = ref.softmax(wide) if classes > 1 else 1 / (1 + np.exp(-wide))
    state = ref.resize_bilinear(readout.numpy(), view.size, False)
    torch.testing.assert_close(projection(view), torch.from_numpy(np.concatenate([answer, state], 1)))
    assert (projection.readout, projection.channels) == (3, classes + 3)
    assert projection.before() == (1 / max(2, classes),) * classes + (0.0,) * 3


def test_the_first_look_of_answer_and_state_hears_a_value_for_each_channel():
    config = smpf.Recurrent(projection="answer+state", channels=2, steps=2, dynamics="gated", feedback_init=1.0)
    model = smpf.create("Unet", TINY, None, classes=2, **SHALLOW, feedback=config).eval()
    heard = []
    hook = model.feedback.readers[0].register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    with torch.no_grad():
        model(torch.rand(3, 3, 32, 32))
    hook.remove()
    assert torch.equal(heard[0][:, :2], torch.full((3, 2, 32, 32), 0.5))
    assert not heard[0][:, 2:].any()
    assert heard[1][:, 2:].any()


@pytest.mark.parametrize("name", ["state", "answer+state"])
def test_what_normalises_nothing_takes_no_norm(name):
    with pytest.raises(InvalidValue, match=f"norm_feedback='layer': projection='{name.replace('+', '.')}' feeds the"):
        smpf.Recurrent(projection=name, norm_feedback="layer")
    assert smpf.Recurrent(projection=name, norm_feedback="none").projection == name


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


def test_the_softmax_may_be_of_what_is_normalised_at_each_pixel():
    config = smpf.Recurrent(channels=3, norm_feedback="pixel")
    readout = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    _, view = shown(readout)
    expected = ref.softmax(ref.pixel_norm(ref.resize_bilinear(readout.numpy(), view.size, False)))
    torch.testing.assert_close(catalogue().projections["softmax"](config, 2)(view), torch.from_numpy(expected))


@pytest.mark.parametrize(("norm", "groups"), [("layer", 1), ("instance", 6), (3, 3)])
def test_every_normalisation_is_group_normalisation(norm, groups):
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(normaliser(norm, 6)(x), torch.from_numpy(ref.group_norm(x.numpy(), groups)))


def test_groups_that_do_not_divide_are_refused_with_both_numbers():
    with pytest.raises(InvalidValue, match=r"norm_error=4: .* 6 channels"):
        normaliser(4, 6, "norm_error")
