"""The any-time loop as a whole: our own derivation of it, and what is promised of any loop."""

from __future__ import annotations

import numpy as np
import pytest
import reference as ref
import torch
from torch import nn

import smp_feedback as smpf
from smp_feedback.testing import conformance

ANYTIME = {"preset": "anytime", "steps": 4, "channels": 3, "feedback_init": 0.3}
TINY = {"encoder_name": "tu-test_resnet.r160_in1k", "encoder_weights": None, "classes": 2}
TINY |= {"encoder_depth": 3, "decoder_channels": (16, 8, 8), "base_norm": "pixel"}
each_projection = pytest.mark.parametrize("projection", ["state", "answer+state"])


class Plain(nn.Module):
    """One convolution, one head."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 2, 1)

    def forward_features(self, image):
        return self.body(image)

    def forward_head(self, features):
        return self.head(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def looped(base=None, **changes):
    torch.manual_seed(0)
    if base is not None:
        return smpf.wrap(base, {**ANYTIME, **changes}).eval()
    return smpf.create("Unet", **TINY, feedback={**ANYTIME, **changes}).eval()


def array(x):
    return x.detach().numpy()


@each_projection
@pytest.mark.parametrize("rule", [{}, {"dynamics": "gated"}], ids=["leaky", "gated"])
def test_the_whole_loop_is_our_own_derivation(projection, rule):
    model = looped(Plain(), projection=projection, **rule).double()
    image, own = torch.rand(2, 3, 6, 7, dtype=torch.float64), model.feedback
    x, both = array(image), projection == "answer+state"
    body, head = (array(model.body.weight), array(model.body.bias)), array(model.head.weight)[..., 0, 0]
    reader, readout = array(own.readers[0].weight), array(own.readout.weight)[..., 0, 0]
    gated = rule and (array(own.dynamics.gate.weight)[..., 0, 0], array(own.dynamics.gate.bias))
    h, u = np.zeros((2, 8, 6, 7)), np.zeros((2, 3, 6, 7))
    if both:
        u = np.concatenate([np.full((2, 2, 6, 7), 0.5), u], 1)
    for step in model.iterate(image):
        y = ref.conv2d(x, *body, padding=1) + ref.conv2d(u, reader, padding=1)
        e = ref.pixel_norm(np.concatenate([y, ref.mix(readout, y)], 1))
        h = ref.gated(h, e, *gated) if gated else e
        logits = ref.mix(head, h[:, :5]) + array(model.head.bias)[:, None, None]
        np.testing.assert_allclose(array(step.state), h, atol=1e-12)
        np.testing.assert_allclose(array(step.logits), logits, atol=1e-12)
        u = np.concatenate([ref.softmax(logits), h[:, 5:]], 1) if both else h[:, 5:]


def test_inside_a_crop_it_answers_as_in_the_whole_image_where_no_border_is_seen():
    """Four looks of 3 x 3 see four pixels far; a normalisation over space would see all of them."""
    model, image = looped(Plain()), torch.rand(1, 3, 24, 26)
    with torch.no_grad():
        whole, part = model(image), model(image[..., 4:20, 6:22])
        torch.testing.assert_close(whole[..., 8:16, 10:18], part[..., 4:12, 4:12], atol=1e-5, rtol=1e-5)
        blind = looped(Plain(), norm_error="instance")
        assert (blind(image)[..., 8:16, 10:18] - blind(image[..., 4:20, 6:22])[..., 4:12, 4:12]).abs().max() > 1e-3


@each_projection
@torch.no_grad()
def test_under_autocast_the_loop_reckons_in_single_precision(projection):
    model, heard = looped(projection=projection), []
    model.feedback.readers[0].register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    with torch.autocast("cpu", torch.bfloat16):
        steps = list(model.iterate(torch.rand(1, 3, 32, 32)))
    for step, u in zip(steps, heard[1:], strict=False):
        assert step.state.dtype == u.dtype == torch.float32
        digits = step.state[step.state != 0]  # what a ReLU made zero has none
        assert (digits.bfloat16().float() == digits).float().mean() < 0.1, "normalised in half precision"
        assert step.state.square().mean(1).max() <= step.state.shape[1]
        torch.testing.assert_close(u[:, -3:], step.state[:, -3:], atol=0, rtol=0)


@each_projection
def test_gradients_are_the_same_recomputed_and_reach_the_gate(projection):
    kept, again = (looped(projection=projection, recompute=recompute).train() for recompute in (False, True))
    image = torch.rand(1, 3, 32, 32)
    for model in (kept, again):
        model(image).square().mean().backward()
    for (name, ours), theirs in zip(again.named_parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
        assert ours.grad.any() or not name.startswith("feedback."), name


@pytest.mark.sweep
def test_it_is_one_graph_and_one_program():
    model, image = looped(projection="answer+state", steps=2), torch.rand(2, 3, 32, 32)
    conformance.check_compiles(model, image)
    conformance.check_exports(model, image)


@each_projection
def test_it_answers_in_every_floating_type(projection):
    conformance.check_dtypes(looped(projection=projection), torch.rand(1, 3, 32, 32))
