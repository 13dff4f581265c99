"""Where bases are cut: by class, by layout; what a base reads out itself; a head that knows the image's size."""

from __future__ import annotations

import pickle

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.errors import InvalidType, InvalidValue, NameTaken, SurgeryError
from smp_feedback.ops.normalise import most_groups
from smp_feedback.surgery.cuts import FEATURES_CUT, LRASPP_CUT, SMP_CUT, TORCHVISION_CUT, Cut, cut_of
from smp_feedback.surgery.feature_layout import Layout, grid_of
from smp_feedback.surgery.layout_runs import layout_of
from smp_feedback.testing import check_agreement, check_heard, check_lossless, check_same_keys, hearing

IMAGE = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))

LAYOUTS = {  # small, and one of each layout; what it is made with, and its layout
    "test_resnet": ({}, Layout()),
    "convnext_atto": ({}, Layout()),
    "swin_tiny_patch4_window7_224": ({"img_size": 64, "window_size": 2, "depths": (1, 1), "num_heads": (2, 2)}, "last"),
    "vit_tiny_patch16_224": ({"img_size": 64, "depth": 2}, Layout("tokens", 1, (16, 16))),
    "deit_tiny_distilled_patch16_224": ({"img_size": 64, "depth": 2}, Layout("tokens", 2, (16, 16))),
    "mixer_s32_224": ({"img_size": 64}, Layout("tokens", 0, (32, 32))),
    "cait_xxs24_224": ({"img_size": 64, "depth": 2}, Layout("tokens", 1, (16, 16))),
}


class Net(nn.Module):
    """A base of no known kind: it answers at its image's size, whatever that is."""

    def __init__(self, extra=0):
        super().__init__()
        self.first, self.head, self.extra = nn.Conv2d(3, 6 + extra, 3, 2, 1), nn.Conv2d(6, 2, 1), extra

    def forward(self, image):
        logits = self.head(self.first(image)[:, :6])
        return F.interpolate(logits, image.shape[-2:], mode="bilinear", align_corners=False)


def net_body(net, image):
    return net.first(image), None


def net_head(net, output, size):
    return F.interpolate(net.head(output), size, mode="bilinear", align_corners=False)


def net_readout(net):
    return net.extra


NET_CUT = Cut(net_body, net_head, readout=net_readout)


class Child(Net):
    pass


# --- by class


def test_a_class_is_cut_as_it_is_registered_and_its_subclasses_too(restored):
    with pytest.raises(SurgeryError, match="register_cut"):
        smpf.wrap(Net())
    smpf.register_cut(Net, NET_CUT)
    image = torch.rand(1, 3, 33, 47)
    for net in (Net(), Child()):
        assert cut_of(net) is NET_CUT
        check_lossless(net.eval(), image)
        check_heard(smpf.wrap(net), image)


def test_the_most_specific_class_decides(restored):
    own = Cut(net_body, net_head)
    smpf.register_cut(Net, NET_CUT)
    smpf.register_cut(f"{__name__}.Child", own)
    assert cut_of(Child()) is own
    assert cut_of(Net()) is NET_CUT


def test_a_cut_that_is_none_and_a_second_one_are_refused(restored):
    smpf.register_cut(Net, "json:dumps")
    with pytest.raises(InvalidType, match=r"Net.*smp_feedback\.Cut"):
        smpf.wrap(Net())
    with pytest.raises(NameTaken, match="Net"):
        smpf.register_cut(Net, NET_CUT)


def test_the_known_cuts_are_found():
    segmentation = torchvision.models.segmentation
    weights = {"weights": None, "weights_backbone": None}
    assert cut_of(smpf.create("Unet", "resnet18", None, feedback=False)) is SMP_CUT
    assert cut_of(segmentation.fcn_resnet50(**weights)) is TORCHVISION_CUT
    assert cut_of(segmentation.lraspp_mobilenet_v3_large(**weights)) is LRASPP_CUT
    assert cut_of(timm.create_model("test_resnet")) is FEATURES_CUT


# --- what the base reads out itself


def test_channels_that_the_base_makes_itself_are_fed_back_and_not_read_by_its_head(restored):
    smpf.register_cut(Net, NET_CUT)
    net = Net(extra=2).eval()
    model = smpf.wrap(net, smpf.Recurrent(steps=2, norm_error="none", norm_feedback="none", tau=float("inf")))
    assert model.feedback.readout is None
    nn.init.normal_(model.feedback.readers[0].weight)
    with torch.no_grad():
        first, read = net.first(IMAGE), model.feedback.readers[0]
        one = first + read(torch.full((2, 2, 32, 48), 0.5))
        two = one + first + read(fed_after(one))
        assert torch.allclose(model(IMAGE), net_head(net, two[:, :6], IMAGE.shape[-2:]), atol=1e-5)


def fed_after(state):
    return F.interpolate(state[:, 6:], IMAGE.shape[-2:], mode="bilinear").softmax(1)


def test_other_channels_than_those_the_base_makes_are_refused(restored):
    smpf.register_cut(Net, NET_CUT)
    with pytest.raises(InvalidValue, match=r"makes 2 channels.*feeds back 3"):
        smpf.wrap(Net(extra=2), smpf.Recurrent(channels=3))


# --- by layout


@pytest.mark.parametrize(
    ("count", "size", "grid"), [(196, (224, 224), (14, 14)), (8, (32, 64), (2, 4)), (1, (7, 9), (1, 1))]
)
def test_tokens_are_a_grid_of_the_images_shape(count, size, grid):
    assert grid_of(count, size) == grid


def test_tokens_that_are_no_grid_are_refused():
    with pytest.raises(SurgeryError, match="13 tokens are no grid of an image of 64 x 64"):
        grid_of(13, (64, 64))


def test_tokens_lie_in_space_row_by_row_without_those_before_them():
    tokens = torch.arange(2 * 7 * 3.0).reshape(2, 7, 3)  # one before, then two rows of three
    layout = Layout("tokens", 1)
    spread = layout.spread(layout.to_state(tokens), (32, 48))
    assert torch.equal(spread, tokens[:, 1:].mT.reshape(2, 3, 2, 3))


def test_patches_that_are_not_square_lie_where_they_were_cut_from_the_image():
    net = timm.create_model("vit_tiny_patch16_224", patch_size=(8, 16), img_size=64, depth=1).eval()
    image = torch.rand(2, 3, 64, 64)
    cut = cut_of(net, image)
    means = F.unfold(image[:, :1], (8, 16), stride=(8, 16)).mean(1)  # (B, N), in the order of the tokens
    state = torch.cat([torch.zeros(2, 1), means], 1)[:, None, :, None]
    assert torch.allclose(cut.spread(net, state, (64, 64)), F.avg_pool2d(image[:, :1], (8, 16)))


@pytest.mark.parametrize("size", [(64, 64), (24, 96), (8, 16)])
def test_a_random_first_state_is_drawn_for_each_token_at_any_size(size):
    net = timm.create_model("vit_tiny_patch16_224", patch_size=(8, 16), depth=1, dynamic_img_size=True).eval()
    model = smpf.wrap(net, smpf.Recurrent(init_std=0.1, steps=1)).eval()
    image = torch.rand(2, 3, *size)
    first = model.feedback.first_state(image)
    with torch.no_grad():
        assert first.shape == next(model.iterate(image)).state.shape
    assert first.shape[2:] == (1 + size[0] // 8 * (size[1] // 16), 1)
    assert abs(float(first.std()) / 0.1 - 1) < 0.1


def made(name):
    arguments, layout = LAYOUTS[name]
    return timm.create_model(name, num_classes=5, **arguments).eval(), Layout("last") if layout == "last" else layout


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_recognised_and_undone(name):
    net, layout = made(name)
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert layout_of(net, image) == layout
        features = net.forward_features(image)
        assert torch.equal(layout.from_state(layout.to_state(features)), features)


@pytest.mark.parametrize("name", LAYOUTS)
def test_timms_classifiers_of_every_layout_keep_their_answers_and_hear_the_feedback(name):
    net, _ = made(name)
    image = torch.rand(2, 3, 64, 64)
    check_lossless(net, image)
    model = smpf.wrap(net, True)
    check_agreement(model, image)
    check_heard(model, image)
    check_same_keys(model, net)


def test_a_vision_transformers_looks_are_those_written_out_by_hand():
    """h = e_0 + e_1 exp(-1), e = GN(tokens + readout), fed back by a softmax over the image's tokens, on the image."""
    net, _ = made("vit_tiny_patch16_224")
    config = smpf.Recurrent(steps=2, channels=3, norm_error=3, norm_feedback="layer")
    model = smpf.wrap(net, config).eval()
    image = torch.rand(2, 3, 64, 64)
    conv, reader = net.patch_embed.proj, model.feedback.readers[0]
    nn.init.normal_(reader.weight, std=0.1)
    wide = timm.create_model("vit_tiny_patch16_224", num_classes=5, in_chans=6, img_size=64, depth=2).eval()
    wide.load_state_dict(net.state_dict() | {"patch_embed.proj.weight": torch.cat([conv.weight, reader.weight], 1)})
    mix = model.feedback.readout.weight[:, :, 0, 0]

    def correction(u):
        tokens = wide.forward_features(torch.cat([image, u], 1))
        return F.group_norm(torch.cat([tokens, tokens @ mix.T], 2).mT, 3)  # (B, C + K, N)

    with torch.no_grad():
        first = correction(torch.full((2, 3, 64, 64), 1 / 3))
        fed = F.interpolate(first[:, -3:, 1:].reshape(2, 3, 4, 4), (64, 64), mode="bilinear")
        state = first + correction(F.group_norm(fed, 1).softmax(1)) * torch.tensor(-1.0).exp()
        expected = net.forward_head(state[:, :-3].mT)
        assert torch.allclose(model(image), expected, atol=2e-5)


# --- classifiers


@pytest.mark.parametrize(("channels", "groups"), [(512 + 8, 8), (512 + 10, 6), (7, 7), (11, 1)])
def test_as_many_groups_as_divide_the_state_up_to_eight(channels, groups):
    assert most_groups(channels) == groups


def test_what_a_classifier_feeds_back_survives_a_state_of_one_pixel():
    model = smpf.create("timm/resnet18", classes=4).eval()
    with hearing(model), torch.no_grad():
        fed = []
        model.feedback.readers[0].register_forward_pre_hook(lambda module, inputs: fed.append(inputs[0]))
        *_, last = model.iterate(IMAGE[..., :32], steps=3)
        assert last.state.shape[-2:] == (1, 1)
        assert last.logits.std(0).max() > 1e-3, "the answer is the same for every image"
        assert (fed[1] - 0.5).abs().max() > 1e-2, "nothing is fed back"


def test_a_normalisation_that_leaves_a_classifier_nothing_is_refused():
    with pytest.raises(InvalidValue, match="norm_error='instance': a classifier averages"):
        smpf.create("timm/test_resnet", feedback=smpf.Recurrent(norm_error="instance"))


@pytest.mark.parametrize("projection", ["probabilities", "entropy"])
def test_a_classifiers_prediction_is_fed_back_everywhere_alike(projection):
    model = smpf.create("timm/test_resnet", classes=4, feedback=smpf.Recurrent(steps=2, projection=projection)).eval()
    fed = []
    model.feedback.readers[0].register_forward_pre_hook(lambda module, inputs: fed.append(inputs[0]))
    with torch.no_grad():
        first, _ = list(model.iterate(IMAGE))
    if projection == "probabilities":
        expected = first.logits.softmax(1)
    else:
        mean = (1 + F.softplus(first.logits)) / (1 + F.softplus(first.logits)).sum(1, keepdim=True)
        expected = -(mean * mean.log()).sum(1, keepdim=True)
    assert torch.allclose(fed[1], expected[:, :, None, None].expand_as(fed[1]), atol=1e-6)


def test_a_model_of_tokens_can_be_pickled_and_answers_alike():
    model = smpf.create("timm/vit_tiny_patch16_224", classes=3, img_size=32, depth=1).eval()
    image = torch.rand(1, 3, 32, 32)
    again = pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        assert torch.equal(again(image), model(image))


# --- answers that are more than logits


class Told(Net):
    """It answers a dict, as torchvision's do."""

    def forward(self, image):
        return {"out": super().forward(image)}


def test_the_plain_model_of_a_base_that_answers_more_answers_its_logits_too(restored):
    smpf.register_cut(Told, Cut(net_body, net_head, answer=lambda answer: answer["out"]))
    smpf.register_architecture("Told", lambda: Told())
    plain, model = smpf.create("Told", feedback=False).eval(), smpf.create("Told", feedback={"dynamics": "residual"})
    model.load_feedforward(plain.state_dict())
    assert isinstance(plain, Told)
    with torch.no_grad():
        assert torch.equal(plain(IMAGE), Told.forward(plain, IMAGE)["out"])
        assert torch.allclose(model.eval()(IMAGE), plain(IMAGE), atol=1e-5)
