"""Nonsense at the front door: every refusal says what was given and what would be right, before any work."""

from __future__ import annotations

import dataclasses

import pytest
import segmentation_models_pytorch as smp
import torch
from conftest import SMPS
from slim import SLIM
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import (
    FeedbackError,
    InvalidInput,
    InvalidType,
    InvalidValue,
    SurgeryError,
    UnknownKeyword,
    UnknownName,
)
from smp_feedback.models.builder import checked_encoder

SMALL = {"encoder": "resnet18", "encoder_weights": None}
SHALLOW = {"encoder_name": "resnet18", "encoder_weights": None, "encoder_depth": 3, "decoder_channels": (16, 8, 4)}
ENCODERS = {"DPT": "tu-vit_tiny_patch16_224"}  # takes no other kind


def refused(kind, words, call, *args, **kwargs):
    """The error of *call*: ours, of *kind*, with all of *words* in its message."""
    with pytest.raises(FeedbackError) as caught:
        call(*args, **kwargs)
    assert isinstance(caught.value, kind), repr(caught.value)
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in {message!r}"
    return caught.value


def plain(**kwargs):
    return smp.Unet("resnet18", encoder_weights=None, **kwargs).eval()


@pytest.fixture(scope="module")
def model():
    return smpf.create("unet", **SMALL, classes=2).eval()


@pytest.fixture
def image():
    return torch.rand(1, 3, 64, 64)


@pytest.fixture
def built(monkeypatch):
    """The modules that were built while the test ran."""
    made, init = [], nn.Module.__init__

    def counted(self, *args, **kwargs):
        made.append(type(self).__name__)
        init(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "__init__", counted)
    return made


def test_the_counter_of_built_modules_counts(built):
    nn.Sequential(nn.ReLU())
    assert sorted(built) == ["ReLU", "Sequential"]


# --- create: architecture


@pytest.mark.parametrize(
    ("arch", "meant"),
    [("unte", "Unet"), ("U-Net", "Unet"), ("deeplabv3+", "DeepLabV3Plus"), ("unet++", "Unet"), ("fpn ", "FPN")],
)
@pytest.mark.parametrize("feedback", [True, False])
def test_an_unknown_architecture_is_answered_with_what_was_meant(built, arch, meant, feedback):
    error = refused(UnknownName, [f"{arch!r}", f"{meant!r}"], smpf.create, arch, **SMALL, feedback=feedback)
    assert (error.kind, error.name) == ("architecture", arch)
    assert meant in error.close
    assert isinstance(error, KeyError)
    assert not built


@pytest.mark.parametrize("arch", ["", "xyz"])
def test_an_architecture_like_no_other_is_answered_with_all_there_are(built, arch):
    refused(UnknownName, [f"No architecture is called {arch!r}", *SMPS], smpf.create, arch, **SMALL)
    assert not built


@pytest.mark.parametrize("arch", [3, None, smp.Unet])
def test_an_architecture_that_is_no_name_is_a_type_error(built, arch):
    words = [f"architecture {arch!r}", "expected a name (str)"]
    assert isinstance(refused(InvalidType, words, smpf.create, arch, **SMALL), TypeError)
    assert not built


# --- create: encoder


@pytest.mark.parametrize(
    ("encoder", "meant"),
    [
        ("resnet81", "resnet18"),
        ("resnet 18", "resnet18"),
        ("ResNet_18", "resnet18"),
        ("tu-resnet81", "tu-resnet18"),
        ("tu_resnet18", "tu-resnet18"),
        ("resnetv2_50", "tu-resnetv2_50"),
        ("vit_tiny_patch16_224", "tu-vit_tiny_patch16_224"),
        ("timm-skresnet81", "timm-skresnet18"),
        ("timm-resnest41d", "tu-resnest14d"),
    ],
)
@pytest.mark.parametrize("spelling", ["encoder", "encoder_name"])
def test_an_unknown_encoder_is_answered_with_what_was_meant(built, encoder, meant, spelling):
    words = [f"No encoder is called {encoder!r}", f"'{meant}'"]
    error = refused(UnknownName, words, smpf.create, "unet", **{spelling: encoder}, encoder_weights=None)
    assert (error.kind, error.name) == ("encoder", encoder)
    assert len(str(error)) < 400
    assert not built


@pytest.mark.parametrize("encoder", ["", "xyz", "tu-", "tu-xyz", "timm-xyz"])
def test_an_encoder_like_no_other_is_answered_shortly(built, encoder):
    error = refused(UnknownName, [f"No encoder is called {encoder!r}"], smpf.create, "fpn", encoder=encoder)
    assert len(str(error)) < 500
    assert not built


@pytest.mark.parametrize("encoder", [3, ["resnet18"], nn.ReLU])
def test_an_encoder_that_is_no_name_is_a_type_error(built, encoder):
    words = ["encoder", repr(encoder), "str"]
    assert isinstance(refused(InvalidType, words, smpf.create, "unet", encoder=encoder), TypeError)
    assert not built


@pytest.mark.parametrize("first", ["resnet18", "resnet34", "resnet50"])
def test_both_spellings_of_the_encoder_are_one_too_many(built, first):
    words = ["encoder='resnet18'", f"encoder_name={first!r}", "one of them"]
    refused(InvalidValue, words, smpf.create, "unet", encoder_name=first, encoder="resnet18")
    refused(InvalidValue, words, smpf.create, "unet", first, encoder="resnet18")
    assert not built


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("RESNET18", "resnet18"),
        ("Efficientnet-B0", "efficientnet-b0"),
        ("TU-resnet18", "tu-resnet18"),
        ("tu-ResNet18", "tu-resnet18"),
        ("tu-resnet18.a1_in1k", "tu-resnet18.a1_in1k"),
    ],
)
def test_an_encoder_is_found_in_any_case(given, name):
    assert checked_encoder(given) == name


@pytest.mark.parametrize("name", sorted(smp.encoders.encoders))
def test_every_encoder_of_smp_is_taken_as_it_is_and_in_capitals(name):
    assert checked_encoder(name) == checked_encoder(name.upper()) == name


# --- create: keywords


@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("arch", SMPS)
def test_a_keyword_that_smp_would_swallow_is_refused_by_every_architecture(built, arch, feedback):
    words = [f"{arch} takes no 'foo'", "encoder_name"]
    error = refused(UnknownKeyword, words, smpf.create, arch, encoder="resnet18", foo=1, feedback=feedback)
    assert isinstance(error, TypeError)
    assert not built


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("decoder_chanels", "decoder_channels"), ("in_chans", "in_channels"), ("aux_param", "aux_params")],
)
def test_a_misspelt_keyword_is_answered_with_what_was_meant(built, wrong, meant):
    refused(UnknownKeyword, [f"Unet takes no {wrong!r}", f"{meant!r}"], smpf.create, "unet", **SMALL, **{wrong: 1})
    assert not built


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Recurrent)])
def test_a_setting_of_the_loop_given_to_create_is_sent_where_it_belongs(built, field):
    words = [f"Unet takes no {field!r}", f"feedback=Recurrent({field}=...)"]
    refused(UnknownKeyword, words, smpf.create, "unet", **SMALL, **{field: 3})
    assert not built


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("steps", ["feedback=Recurrent(steps=...)"]),
        ("tau", ["feedback=Recurrent(tau=...)"]),
        ("decoder_chanels", ["'decoder_channels'"]),
        ("foo", ["tu-resnet18"]),
    ],
)
def test_a_wrong_keyword_is_refused_with_timms_encoders_too(wrong, words):
    words = [f"takes no {wrong!r}", *words]
    refused(UnknownKeyword, words, smpf.create, "unet", encoder="tu-resnet18", encoder_weights=None, **{wrong: 3})


def test_keywords_of_timms_encoders_reach_them():
    net = smpf.create("unet", encoder="tu-resnet18", encoder_weights=None, act_layer="silu", feedback=False)
    assert any(isinstance(module, nn.SiLU) for module in net.encoder.modules())


# --- create: numbers


@pytest.mark.parametrize("name", ["classes", "in_channels"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [(0, InvalidValue), (-1, InvalidValue), (2.5, InvalidType), (True, InvalidType), ("3", InvalidType)],
)
@pytest.mark.parametrize("feedback", [True, False])
def test_channels_are_whole_numbers_from_one(built, name, value, kind, feedback):
    words = [f"{name}={value!r}", "whole number >= 1"]
    refused(kind, words, smpf.create, "unet", **SMALL, **{name: value}, feedback=feedback)
    assert not built


# --- create: feedback


@pytest.mark.parametrize("feedback", [3, 1, 0, 1.5, [], Recurrent, object()])
def test_feedback_of_a_wrong_type_is_refused_by_create_and_wrap(feedback):
    net = plain()
    words = [f"feedback={feedback!r}", type(feedback).__name__, "True", "False", "Recurrent(", "dict"]
    refused(InvalidType, words, smpf.create, "unet", **SMALL, feedback=feedback)
    refused(InvalidType, words, smpf.wrap, net, feedback=feedback)


@pytest.mark.parametrize(
    ("feedback", "kind", "words"),
    [
        ("recurent", UnknownName, ["No loop or preset is called 'recurent'", "'recurrent'"]),
        ({"loop": "scoer"}, UnknownName, ["No loop is called 'scoer'"]),
        ({"step": 3}, UnknownKeyword, ["no field 'step'", "'steps'"]),
        ({"steps": 0}, InvalidValue, ["steps=0", "whole number >= 1"]),
        ({"dynamics": "leakly"}, UnknownName, ["No dynamics is called 'leakly'", "'leaky'"]),
        ({"projection": "sofmax"}, UnknownName, ["No projection is called 'sofmax'", "'softmax'"]),
    ],
)
def test_wrong_feedback_is_refused_before_anything_is_built(built, feedback, kind, words):
    refused(kind, words, smpf.create, "unet", **SMALL, feedback=feedback)
    assert not built


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Recurrent(norm_error=7), ["norm_error=7", "divide", "18 channels"]),
        (Recurrent(norm_feedback=3, channels=2), ["norm_feedback=3", "divide", "2 channels"]),
        (Recurrent(projection="entropy"), ["projection='entropy'", "classes >= 2", "classes=1"]),
    ],
)
def test_settings_that_do_not_fit_this_model_are_named(config, words):
    refused(InvalidValue, words, smpf.create, "unet", **SMALL, feedback=config)


# --- wrap


@pytest.mark.parametrize("thing", [3, None, "unet", smp.Unet, [nn.ReLU()], lambda image: image])
def test_only_a_module_is_wrapped(thing):
    refused(InvalidType, ["model", type(thing).__name__, "torch.nn.Module"], smpf.wrap, thing)


def test_a_model_that_looks_again_is_not_wrapped_again(model):
    refused(InvalidValue, [type(model).__name__, "already", "plain model"], smpf.wrap, model)


@pytest.mark.parametrize("feedback", [False, None])
def test_wrapping_without_feedback_is_refused(feedback):
    refused(InvalidValue, [f"feedback={feedback!r}", "True", "config"], smpf.wrap, plain(), feedback=feedback)


@pytest.mark.parametrize("net", [nn.Linear(3, 3), nn.Conv2d(3, 1, 1), nn.Sequential(nn.Conv2d(3, 1, 1)), nn.ReLU()])
def test_a_module_that_cannot_be_cut_is_told_what_it_needs(net):
    words = [type(net).__name__, "forward_features", "forward_head", "SegmentationModel"]
    assert isinstance(refused(SurgeryError, words, smpf.wrap, net), RuntimeError)


def test_a_refused_wrap_leaves_the_model_as_it_was(image):
    net = Doubled(**SHALLOW).eval()
    before, answer = {k: v.clone() for k, v in net.state_dict().items()}, net(image)
    refused(SurgeryError, [], smpf.wrap, net)
    assert type(net) is Doubled
    assert not hasattr(net, "feedback")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert len(before) == len(net.state_dict())
    assert torch.equal(net(image), answer)


# --- bases whose forward does more than the cut knows


class Doubled(smp.Unet):
    def forward(self, x):
        return 2 * super().forward(x)


class Enlarged(smp.Unet):
    def forward(self, x):
        return F.interpolate(super().forward(x), scale_factor=2.0)


class Smoothed(smp.Unet):
    def forward(self, x):
        return F.avg_pool2d(super().forward(x), 3, stride=1, padding=1)


@pytest.mark.parametrize("base", [Doubled, Enlarged, Smoothed])
def test_a_forward_that_does_more_than_its_parts_is_found_out(base):
    words = [base.__name__, "does more", "encoder -> decoder -> segmentation_head", "forward_features"]
    refused(SurgeryError, words, smpf.wrap, base(**SHALLOW))


def test_labels_that_are_more_than_the_classification_head_are_found_out():
    class Scaled(smp.Unet):
        def forward(self, x):
            masks, labels = super().forward(x)
            return masks, 2 * labels

    net = Scaled(**SHALLOW, aux_params={"classes": 3})
    refused(SurgeryError, ["Scaled", "does more"], smpf.wrap, net)


# --- bases that are not smp's


class Net(nn.Module):
    """Two convolutions and a head, cut where timm cuts."""

    def __init__(self, inner="inner"):
        super().__init__()
        self.first, self.head, self.name = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1), inner
        self.add_module(inner, nn.Conv2d(4, 4, 1))

    def forward_features(self, image):
        return self._modules[self.name](self.first(image))

    def forward_head(self, features):
        return self.head(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


class SpaceToDepth(Net):
    """No convolution reads the image itself."""

    def __init__(self, in_channels=3):
        super().__init__()
        self.first = nn.Conv2d(4 * in_channels, 4, 3, padding=1)

    def forward_features(self, image):
        return super().forward_features(F.pixel_unshuffle(image, 2))

    def forward_head(self, features):
        return F.interpolate(super().forward_head(features), scale_factor=2.0)


class Says(SpaceToDepth):
    """And it says how many channels the image has, as smp does."""

    def __init__(self):
        super().__init__()
        self.config = {"in_channels": 3}


class Vector(Net):
    """Its features are pooled already."""

    def forward_features(self, image):
        return super().forward_features(image).mean((2, 3))

    def forward_head(self, features):
        return features


class Listed(Net):
    def forward_features(self, image):
        return [super().forward_features(image)]

    def forward_head(self, features):
        return super().forward_head(features[0])


class Dictionary(Net):
    def forward(self, image):
        return {"out": super().forward(image)}


class NoConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)

    def forward_features(self, image):
        return self.body(image.movedim(1, -1)).movedim(-1, 1)

    def forward_head(self, features):
        return features.sigmoid()

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


@pytest.mark.parametrize("base", [Says, SpaceToDepth])
def test_a_base_whose_image_no_convolution_reads_is_told_how_to_name_one(base):
    refused(SurgeryError, [base.__name__, "stem=", "first"], smpf.wrap, base())


@pytest.mark.parametrize("base", [Says, SpaceToDepth])
def test_a_named_stem_reads_the_feedback_and_keeps_the_answers(base, image):
    net = base().eval()
    model = smpf.wrap(net, feedback=Recurrent(stem="first", dynamics="residual"))
    torch.testing.assert_close(model(image, steps=3), net(image), atol=1e-6, rtol=0)

    listening = smpf.wrap(net, feedback=Recurrent(stem="first", feedback_init=1.0)).eval()
    path = listening.trajectory(image, steps=3)
    assert (path[1] - path[2]).abs().max() > 1e-3


def test_create_knows_the_channels_of_the_image_where_the_base_does_not_say(restored, image):
    smpf.register_architecture(
        "S2D", lambda encoder_name, encoder_weights, in_channels, classes: SpaceToDepth(in_channels)
    )
    model = smpf.create("s2d", in_channels=5, classes=2, feedback=Recurrent(stem="first", dynamics="residual"))
    many = torch.rand(1, 5, 64, 64)
    theirs = model.forward_head(model.forward_features(many))
    torch.testing.assert_close(model(many, steps=2), theirs, atol=1e-6, rtol=0)
    refused(InvalidInput, ["has 3 channels", "expected 5"], model, image)


def test_a_base_without_any_convolution_is_told_that_nothing_can_read_the_feedback():
    refused(SurgeryError, ["NoConvolution", "No convolution", "insert='after:NAME'"], smpf.wrap, NoConvolution())


def test_features_that_are_no_map_are_refused_with_their_shape():
    words = ["Vector", "(B, S, h, w)", "(1, 4)"]
    assert len(str(refused(SurgeryError, words, smpf.wrap, Vector()))) < 200


def test_features_in_a_list_are_refused_with_their_type():
    assert len(str(refused(SurgeryError, ["Listed", "(B, S, h, w)", "list"], smpf.wrap, Listed()))) < 200


def test_an_answer_that_is_no_tensor_is_refused_with_its_type():
    refused(SurgeryError, ["Dictionary", "a dict (out)", "expected logits"], smpf.wrap, Dictionary())


@pytest.mark.parametrize("name", ["feedback", "cut", "iterate", "loop_config"])
def test_a_base_with_a_part_of_our_name_is_refused_and_not_broken(name):
    refused(SurgeryError, ["Net", f"{name!r}"], smpf.wrap, Net(name))


# --- stem=


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("encoder.conv2", ["'encoder.conv1'"]),
        ("encoder.bn1", ["no convolution"]),
        ("encoder", ["encoder.conv1"]),
        ("", ["encoder.conv1"]),
        ("conv1", ["encoder.conv1"]),
    ],
)
def test_a_stem_that_does_not_exist_is_answered_with_convolutions_that_do(stem, words):
    error = refused(
        SurgeryError, [f"stem={stem!r}", "Unet", *words], smpf.create, "unet", **SMALL, feedback=Recurrent(stem=stem)
    )
    assert len(str(error)) < 1000


def test_a_stem_that_the_image_never_passes_on_its_way_to_the_head_is_refused():
    config = Recurrent(stem="segmentation_head.0")
    refused(SurgeryError, ["stem='segmentation_head.0'", "feedback"], smpf.create, "unet", **SMALL, feedback=config)


def test_a_stem_that_is_never_used_is_refused():
    net = Net()
    net.spare = nn.Conv2d(3, 4, 1)
    refused(SurgeryError, ["stem='spare'", "feedback"], smpf.wrap, net, feedback=Recurrent(stem="spare"))


# --- the image

CALLS = ["__call__", "iterate", "trajectory", "predict"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (1, 4, 64, 64), (1, 64, 64, 3), (2, 0, 64, 64)])
def test_an_image_of_other_channels_is_refused_at_the_call(model, call, shape):
    words = [str(shape), f"{shape[1]} channels", "expected 3", "in_channels=3"]
    error = refused(InvalidInput, words, getattr(model, call), torch.rand(shape))
    assert isinstance(error, ValueError)
    assert isinstance(error, RuntimeError)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("shape", [(), (64,), (64, 64), (3, 64, 64), (1, 1, 3, 64, 64)])
def test_an_image_of_another_rank_is_refused_at_the_call(model, call, shape):
    refused(InvalidInput, [str(shape), "(B, 3, H, W)", "rank 4"], getattr(model, call), torch.rand(shape))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("thing", [None, "image.png", [[0.0]], torch.rand(1, 3, 64, 64).numpy()])
def test_an_image_that_is_no_tensor_is_a_type_error_at_the_call(model, call, thing):
    words = [type(thing).__name__, "tensor (B, 3, H, W)"]
    assert isinstance(refused(InvalidType, words, getattr(model, call), thing), TypeError)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_an_image_of_whole_numbers_is_refused_at_the_call(model, call, dtype):
    words = [str(dtype), "float"]
    refused((TypeError, RuntimeError), words, getattr(model, call), torch.ones(1, 3, 64, 64, dtype=dtype))


def test_the_channels_expected_are_those_of_this_model():
    grey = smpf.wrap(plain(in_channels=1))
    refused(InvalidInput, ["has 3 channels", "expected 1", "in_channels=1"], grey, torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize("arch", SMPS)
def test_a_size_that_does_not_divide_is_refused_or_taken_exactly_as_by_smp(arch):
    net = getattr(smp, arch)(ENCODERS.get(arch, "tu-test_resnet"), encoder_weights=None, **SLIM[arch]).eval()
    model, odd = smpf.wrap(net), torch.rand(1, 3, 70, 72)
    try:
        theirs = net(odd)
    except RuntimeError as error:
        said = str(error)
    else:
        assert arch == "Unet"
        torch.testing.assert_close(model(odd, steps=2), theirs, atol=1e-5, rtol=0)
        return
    assert "height=70, width=72" in said
    assert "pad your images to shape" in said
    for call in CALLS:
        with pytest.raises(RuntimeError) as caught:
            getattr(model, call)(odd)
        assert str(caught.value) == said


def test_the_size_named_by_the_refusal_is_taken():
    fpn = smpf.create("fpn", **SMALL).eval()
    with pytest.raises(RuntimeError, match=r"divisible by 32.*pad your images to shape \(96, 64\)"):
        fpn(torch.rand(1, 3, 65, 64))
    assert torch.isfinite(fpn(torch.rand(1, 3, 96, 64))).all()


# --- steps


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        (0, InvalidValue),
        (-1, InvalidValue),
        (2.5, InvalidType),
        (True, InvalidType),
        ("3", InvalidType),
        ([1], InvalidType),
    ],
)
def test_steps_that_are_no_count_are_refused_at_the_call_and_not_at_the_first_look(model, image, call, steps, kind):
    words = [f"steps={steps!r}", "whole number >= 1", "steps=1 looks once"]
    refused(kind, words, getattr(model, call), image, steps=steps)


@pytest.mark.parametrize("call", CALLS)
def test_a_refused_call_leaves_the_model_as_it_was(model, image, call):
    before = model.trajectory(image, steps=2)
    refused(InvalidValue, ["steps=0"], getattr(model, call), image, steps=0)
    refused(InvalidInput, ["channels"], getattr(model, call), image[:, :1])
    assert torch.equal(model.trajectory(image, steps=2), before)


def test_a_misspelt_argument_of_a_call_is_a_type_error(model, image):
    with pytest.raises(TypeError, match="step"):
        model(image, step=3)
