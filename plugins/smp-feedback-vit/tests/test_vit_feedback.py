"""Where the feedback enters: beside the image, or behind the patch embedding, which then runs once."""

from __future__ import annotations

import pytest
import smp_feedback as smpf
import torch
from smp_feedback.testing import hearing
from smp_feedback.testing.conformance import check_freezing, check_trains
from torch import nn
from torch.nn import functional as F

from smp_feedback_vit import ViTClassifier, ViTSegmenter

IMAGE = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
ARCHS = ("ViTSegmenter", "ViTClassifier")
PLAIN_LOOP = {"dynamics": "leaky", "norm_error": "none", "tau": 1.0, "steps": 1, "channels": 2}


def made(arch, **loop):
    return smpf.create(arch, "test_vit", classes=3, img_size=32, feedback=loop).eval()


def timm_model(model):
    return model.encoder.model if hasattr(model, "encoder") else model.model


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("insert", "runs"), [("after:patch_embed", 1), ("input", 5)])
def test_the_patch_embedding_runs_once_per_image_if_the_feedback_enters_behind_it(arch, insert, runs):
    model = made(arch, insert=insert, steps=5)
    calls = {"norm": 0, "proj": 0, "block": 0}
    net = timm_model(model)
    for name, module in (("norm", net.patch_embed.norm), ("proj", net.patch_embed.proj), ("block", net.blocks[0])):
        module.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    with torch.no_grad():
        model(IMAGE)
    assert calls["block"] == 5
    assert calls["norm"] == runs
    if insert != "input":
        assert calls["proj"] == 1


@pytest.mark.parametrize("arch", ARCHS)
def test_what_enters_behind_the_patch_embedding_is_tokens_and_a_known_matrix(arch):
    model = made(arch, insert="after:patch_embed", **PLAIN_LOOP)
    matrix = torch.randn(64, 2)  # tokens of 64 channels, 2 fed back
    model.feedback.readers[0].weight.data = matrix[:, :, None, None]
    net = timm_model(model)
    with torch.no_grad():
        found = model(IMAGE)
        tokens = net.patch_embed(IMAGE)  # outside of a look: (B, h, w, D)
        u = torch.full((2, 2, 3, 2), 0.5)  # softmax of nothing known: 1/K
        expected = by_hand(model, net, tokens + u @ matrix.T)
        assert torch.allclose(found, expected, atol=1e-5)
        assert not torch.allclose(found, by_hand(model, net, tokens), atol=1e-3)


@pytest.mark.parametrize("arch", ARCHS)
def test_what_enters_beside_the_image_is_a_wider_patch_embedding(arch):
    model = made(arch, insert="input", **PLAIN_LOOP)
    net = timm_model(model)
    extra = torch.randn_like(model.feedback.readers[0].weight)
    model.feedback.readers[0].weight.data = extra
    proj = net.patch_embed.proj
    with torch.no_grad():
        wide = F.conv2d(
            torch.cat([IMAGE, torch.full((2, 2, 32, 48), 0.5)], 1),
            torch.cat([proj.weight, extra], 1),
            proj.bias,
            stride=16,
        )
        expected = by_hand(model, net, net.patch_embed.norm(wide.permute(0, 2, 3, 1)))
        assert torch.allclose(model(IMAGE), expected, atol=1e-5)


def by_hand(model, net, tokens):
    """The answer of a model that looks once, from its patch embedding (B, h, w, D) on."""
    x = net.norm(net.blocks(net.norm_pre(net.patch_drop(net._pos_embed(tokens)))))
    if isinstance(model, ViTClassifier):
        return net.forward_head(x)
    state = x[:, net.num_prefix_tokens :].reshape(2, 2, 3, -1).permute(0, 3, 1, 2)
    return F.interpolate(model.segmentation_head[0](state), scale_factor=16, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("insert", ["input", "after:patch_embed"])
def test_it_learns_where_the_plain_model_does(arch, insert):
    def build(feedback):
        loop = {"insert": insert} if feedback is True else feedback
        return smpf.create(arch, "test_vit", classes=3, img_size=32, feedback=loop)

    check_trains(build, IMAGE)


@pytest.mark.parametrize("insert", ["input", "after:patch_embed"])
def test_a_frozen_encoder_stands_still_and_the_feedback_learns(insert):
    check_freezing(made("ViTSegmenter", insert=insert), IMAGE)


@pytest.mark.parametrize("more", [{"recompute": True}, {"detach": True}, {"projection": "probabilities"}, {"steps": 7}])
def test_the_other_ways_of_the_loop_go_with_it(more):
    model = made("ViTSegmenter", insert="after:patch_embed", **more)
    with hearing(model):
        model.train()(IMAGE).square().mean().backward()
    assert timm_model(model).patch_embed.proj.weight.grad.abs().max() > 0
    assert model.feedback.readers[0].weight.grad.abs().max() > 0


def test_a_token_is_normalised_with_its_neighbours_unless_the_caller_says_otherwise():
    assert smpf.create("ViTSegmenter", "test_vit").loop_config == smpf.Recurrent(
        norm_error="layer", norm_feedback="layer"
    )
    assert smpf.wrap(ViTSegmenter("test_vit")).loop_config == smpf.Recurrent(
        dynamics="residual", norm_error="layer", norm_feedback="layer"
    )
    assert made("ViTSegmenter", norm_error="instance").loop_config.norm_error == "instance"


def test_the_plain_model_is_what_feedback_false_gives():
    plain = smpf.create("ViTSegmenter", "test_vit", classes=3, feedback=False)
    assert type(plain) is ViTSegmenter
    assert isinstance(made("ViTSegmenter"), ViTSegmenter)
    assert not [name for name in plain.state_dict() if name.startswith("feedback.")]
    assert isinstance(plain.segmentation_head, nn.Sequential)
