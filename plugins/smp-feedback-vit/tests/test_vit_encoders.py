"""Every kind of encoder keeps the promises of a looping model, and gives timm's own tokens."""

from __future__ import annotations

import pytest
import smp_feedback as smpf
import timm
import torch
from smp_feedback.testing import check_architecture, check_heard, check_lossless
from torch import nn

from smp_feedback_vit import ViTClassifier, ViTSegmenter

SMALL = {"depth": 1, "img_size": 64}
ENCODERS = {  # name: keywords, image size
    "vit_tiny_patch16_224": ({"depth": 2, "img_size": 64}, (32, 80)),
    "tu-vit_small_patch32_224": (SMALL, (64, 96)),
    "vit_small_patch8_224": (SMALL, (24, 16)),
    "deit_tiny_patch16_224": (SMALL, (48, 32)),
    "deit_tiny_distilled_patch16_224": (SMALL, (48, 32)),
    "deit3_small_patch16_224": (SMALL, (32, 48)),
    "eva02_tiny_patch14_224": ({"depth": 1, "img_size": 56}, (28, 42)),
    "vit_small_patch14_dinov2": ({"depth": 1, "img_size": 56}, (28, 42)),
    "vit_small_patch14_reg4_dinov2": ({"depth": 1, "img_size": 56}, (42, 28)),
    "vit_small_patch16_dinov3": (SMALL, (32, 48)),
    "flexivit_small": (SMALL, (32, 48)),
    "vit_base_patch16_siglip_224": (SMALL, (32, 48)),  # no class token, attention pooling
    "vit_wee_patch16_reg1_gap_256": (SMALL, (32, 48)),
    "vit_tiny_r_s16_p8_224": (SMALL, (64, 96)),  # a ResNet makes its patches
    "beit_base_patch16_224": ({"depth": 1, "img_size": 32}, (32, 32)),
    "vit_relpos_small_patch16_224": ({"depth": 1, "img_size": (32, 48)}, (32, 48)),
    "cait_xxs24_224": ({"depth": 1, "img_size": 32}, (32, 32)),
    "convit_tiny": ({"depth": 1, "img_size": 32}, (32, 32)),
    "mixer_s16_224": ({"img_size": 32}, (32, 32)),
    "samvit_base_patch16": ({"depth": 1, "img_size": 32, "global_attn_indexes": (0,)}, (32, 32)),  # a map
}
# one of each layout and of each way to its patches; the others in the sweep
FEW = ("vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_small_patch14_reg4_dinov2")
SLOW = ("mixer_s16_224", "vit_base_patch16_siglip_224")  # timm fixes their depth or width


def made(cls, name, **more):
    options, size = ENCODERS[name]
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    return cls(name, classes=3, **options, **more).eval(), image


def place(net):
    return f"after:{(net.encoder.patches if hasattr(net, 'encoder') else net.patches).reader}"


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        pytest.param(name, cls, marks=[] if name in FEW else pytest.mark.sweep)
        for name in ENCODERS
        for cls in (ViTSegmenter, ViTClassifier)
        if name not in SLOW or cls is ViTSegmenter
    ],
)
def test_an_encoder_keeps_its_answers_and_all_that_a_loop_promises(name, cls):
    net, image = made(cls, name)
    with torch.no_grad():
        assert net(image).shape == ((2, 3, *image.shape[-2:]) if cls is ViTSegmenter else (2, 3))
    for insert in ("input", place(net)) if name not in SLOW else ("input",):
        loop = {"insert": insert, "steps": 2}
        check_architecture(cls.__name__, image, encoder_name=name, classes=3, feedback=loop, **ENCODERS[name][0])


@pytest.mark.parametrize("name", ENCODERS)
def test_the_state_is_timms_patch_tokens_normalised_row_by_row(name):
    net, image = made(ViTSegmenter, name)
    model, stride = net.encoder.model, net.encoder.output_stride
    h, w = image.shape[-2] // stride, image.shape[-1] // stride
    with torch.no_grad():
        (state,) = net.encoder(image)
        features = model.forward_features(image)
    expected = features
    if features.ndim == 3:
        prefix = 0 if name == "convit_tiny" else getattr(model, "num_prefix_tokens", 0)
        assert features.shape[1] == prefix + h * w
        tokens = features if not isinstance(model.norm, nn.Identity) else model.fc_norm(features)
        expected = tokens[:, prefix:].reshape(2, h, w, -1).permute(0, 3, 1, 2)
    assert state.shape == (2, net.encoder.out_channels[-1], h, w)
    assert torch.equal(state, expected)
    assert state.mean(1).abs().max() < 1e-3  # each token over its channels
    assert (state.var(1, correction=0) - 1).abs().max() < 0.05


def test_tokens_that_timm_would_normalise_after_averaging_are_normalised_before():
    net = ViTSegmenter("vit_small_patch16_224", depth=1, img_size=32, global_pool="avg").eval()
    nn.init.normal_(net.encoder.model.fc_norm.weight)
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        raw = net.encoder.model.forward_features(image)[:, 1:]
        expected = net.encoder.model.fc_norm(raw).mT.reshape(1, -1, 2, 2)
        assert isinstance(net.encoder.model.norm, nn.Identity)
        assert torch.equal(net.encoder(image)[0], expected)
        assert not torch.allclose(raw.mT.reshape(1, -1, 2, 2), expected)


def test_positions_at_another_size_are_those_that_timm_resamples():
    net = ViTSegmenter("vit_tiny_patch16_224", depth=1, img_size=64).eval()
    twin = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64, num_classes=0, dynamic_img_size=True).eval()
    twin.load_state_dict(net.encoder.model.state_dict())
    image = torch.rand(1, 3, 48, 112)
    with torch.no_grad():
        expected = twin.forward_features(image)[:, 1:].mT.reshape(1, 192, 3, 7)
        assert torch.equal(net.encoder(image)[0], expected)


def test_a_pooling_that_nobody_would_read_is_taken_off():
    net = ViTSegmenter("vit_base_patch16_siglip_224", depth=1, img_size=32)
    net(torch.rand(1, 3, 32, 32)).sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]


@pytest.mark.parametrize("patch", [8, 20])
def test_any_size_of_patch_can_be_asked_for(patch):
    net = ViTSegmenter("vit_tiny_patch16_224", depth=1, patch_size=patch, img_size=2 * patch)
    assert net.encoder.output_stride == patch
    assert net(torch.rand(1, 3, 3 * patch, patch)).shape == (1, 1, 3 * patch, patch)


@pytest.mark.sweep
def test_naflexvit_works_where_a_convolution_makes_its_patches():
    told = {"encoder_name": "naflexvit_base_patch16_gap", "classes": 2, "depth": 1, "img_size": 32}
    net = ViTSegmenter(**told, embed_proj_type="conv")
    check_lossless(net, torch.rand(1, 3, 32, 48))
    check_heard(smpf.wrap(net), torch.rand(1, 3, 32, 48))
    with pytest.raises(smpf.errors.SurgeryError, match="a linear patch embedding"):
        smpf.wrap(ViTSegmenter(**told))


def test_the_classifiers_answer_is_timms():
    net = ViTClassifier("deit_tiny_distilled_patch16_224", classes=4, depth=1, img_size=32).eval()
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(image), net.model(image))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_tiny_patch16_225", "Did you mean 'vit_tiny_patch16_224'"),
        ("crossvit_tiny_240", "got a list"),
        (7, "expected a name"),
    ],
)
def test_what_is_no_encoder_is_refused(name, words):
    with pytest.raises(smpf.FeedbackError, match=words):
        ViTSegmenter(name)


def test_a_keyword_that_timm_does_not_take_is_named():
    with pytest.raises(smpf.errors.UnknownKeyword, match="takes no 'dpeth'"):
        smpf.create("ViTSegmenter", "vit_tiny_patch16_224", dpeth=2)
    with pytest.raises(smpf.errors.InvalidValue, match=r"decoder='liner'.*Did you mean 'linear'"):
        smpf.create("ViTSegmenter", "vit_tiny_patch16_224", decoder="liner")
