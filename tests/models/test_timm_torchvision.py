"""Bases by name from timm and torchvision, and what nobody says: each source's own defaults."""

from __future__ import annotations

import inspect
import json

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from conftest import a_few

import smp_feedback as smpf
from smp_feedback.errors import InvalidType, InvalidValue, SurgeryError, UnknownKeyword, UnknownName
from smp_feedback.registry.public import catalogue
from smp_feedback.testing import check_agreement, check_heard

SEGMENTERS = smpf.list_architectures("torchvision/*")
IMAGE = torch.rand(2, 3, 65, 51, generator=torch.Generator().manual_seed(1))


def torchvisions(name, **arguments):
    arguments = {"weights": None, "weights_backbone": None, "num_classes": 3} | arguments
    return torchvision.models.get_model(name.partition("/")[2], **arguments).eval()


# --- names


def test_families_are_listed_only_when_the_pattern_names_them():
    assert not [name for name in smpf.list_architectures() if "/" in name]
    assert smpf.list_architectures("timm/resnet1[08]*") == sorted(f"timm/{n}" for n in timm.list_models("resnet1[08]*"))
    assert len(SEGMENTERS) == len(torchvision.models.list_models(module=torchvision.models.segmentation)) > 5
    assert "timm/resnet18" in catalogue().architectures
    assert "TIMM/ResNet18" in catalogue().architectures
    assert "timm/resnet19" not in catalogue().architectures


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("timm/resnt18", "timm/resnet18"),
        ("torchvision/fcn_resnet5", "torchvision/fcn_resnet50"),
        ("tim/resnet18", "No architecture"),
    ],
)
def test_a_name_that_a_family_does_not_have_is_answered_with_what_was_meant(name, meant):
    with pytest.raises(UnknownName, match=meant) as caught:
        smpf.create(name)
    assert name in str(caught.value)


# --- what nobody says


def test_what_is_not_given_is_the_builders_own_default(restored):
    told = {}

    @smpf.register_architecture("Own")
    def own(encoder_name="mine", encoder_weights=None, in_channels=4, classes=7):
        told.update(
            encoder_name=encoder_name, encoder_weights=encoder_weights, in_channels=in_channels, classes=classes
        )
        return timm.create_model("test_resnet", in_chans=in_channels, num_classes=classes)

    @smpf.register_architecture("Bare")
    def bare(encoder_name, encoder_weights, in_channels, classes):
        told.update(
            encoder_name=encoder_name, encoder_weights=encoder_weights, in_channels=in_channels, classes=classes
        )
        return timm.create_model("test_resnet", in_chans=in_channels, num_classes=classes)

    smpf.create("Own")
    assert told == {"encoder_name": "mine", "encoder_weights": None, "in_channels": 4, "classes": 7}
    smpf.create("Own", "resnet34", "imagenet", 3, 1)  # given, though they are the usual ones
    assert told == {"encoder_name": "resnet34", "encoder_weights": "imagenet", "in_channels": 3, "classes": 1}
    smpf.create("Bare")
    assert told == {"encoder_name": "resnet34", "encoder_weights": "imagenet", "in_channels": 3, "classes": 1}


def test_the_signature_shows_smps_defaults():
    defaults = {name: p.default for name, p in inspect.signature(smpf.create).parameters.items()}
    assert [defaults[n] for n in ("encoder_name", "encoder_weights", "in_channels", "classes")] == [
        *("resnet34", "imagenet", 3, 1),
    ]


def test_an_encoder_is_refused_where_there_is_none_to_choose():
    with pytest.raises(UnknownKeyword, match="timm/resnet18 takes no 'encoder_name'"):
        smpf.create("timm/resnet18", encoder="resnet50")


def test_a_builder_that_names_it_is_told_how_many_channels_are_fed_back(restored):
    told = []

    @smpf.register_architecture("Told", feedback={"loop": "recurrent", "channels": 5, "tau": 2.0, "steps": 3})
    def build(in_channels, classes, feedback_channels=0):
        told.append(feedback_channels)
        return timm.create_model("test_resnet", in_chans=in_channels, num_classes=classes)

    assert smpf.create("Told").loop_config == smpf.Recurrent(channels=5, tau=2.0, steps=3)
    assert smpf.create("Told", feedback={"steps": 2}).loop_config == smpf.Recurrent(channels=5, tau=2.0, steps=2)
    smpf.create("Told", feedback=smpf.Recurrent(channels=4))
    smpf.create("Told", feedback=smpf.Recurrent(projection="probabilities"), classes=3)
    smpf.create("Told", feedback=False)
    assert told == [5, 5, 4, 0, 0]
    with pytest.raises(InvalidValue, match=r"feedback_channels=6: the loop feeds back 5.*'channels': 6"):
        smpf.create("Told", feedback_channels=6)


def test_a_wrapped_model_has_its_architectures_own_loop_by_the_dynamics_that_keep_its_outputs(restored):
    class Slim(smp.Unet):
        pass

    smpf.register_architecture("Slim", Slim, feedback={"loop": "recurrent", "norm_error": "layer", "tau": 3.0})
    plain = Slim("resnet18", encoder_weights=None).eval()
    model = smpf.wrap(plain)
    assert model.loop_config == smpf.Recurrent(norm_error="layer", tau=3.0, dynamics="residual")
    assert smpf.wrap(plain, {"steps": 2}).loop_config.tau == 3.0
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model(image), plain(image), atol=1e-5)


# --- timm


def test_a_classifier_of_timm_is_timms_own():
    plain = smpf.create("timm/test_resnet", classes=4, feedback=False, drop_rate=0.1)
    assert type(plain) is type(timm.create_model("test_resnet"))
    assert (plain.num_classes, plain.drop_rate) == (4, 0.1)
    assert smpf.create("timm/test_resnet", feedback=False).num_classes == 1000


def test_timms_own_words_are_kept_when_it_refuses():
    with pytest.raises(UnknownKeyword, match="drop_rat"):
        smpf.create("timm/resnet18", drop_rat=0.1)
    with pytest.raises(InvalidValue, match=r"timm/resnet18\.no_such_tag"):
        smpf.create("timm/resnet18.no_such_tag", encoder_weights="imagenet")


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/vit_tiny_patch16_224"])
def test_a_classifier_comes_back_from_disk_the_same(name, tmp_path):
    more = {"img_size": 64, "depth": 1} if "vit" in name else {}
    model = smpf.create(name, in_channels=1, classes=3, feedback={"steps": 2}, **more).eval()
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(image), model(image))
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["architecture"] == name
    assert saved["arguments"] == {"encoder_weights": None, "in_channels": 1, "classes": 3} | more


# --- torchvision


@pytest.mark.parametrize("name", a_few(SEGMENTERS, *(name for name in SEGMENTERS if "resnet101" not in name)))
def test_torchvisions_models_answer_their_logits_at_the_images_size(name):
    torch.manual_seed(0)
    model = smpf.create(name, classes=3, feedback=False).eval()
    theirs = torchvisions(name)
    theirs.load_state_dict(model.state_dict(), strict=True)
    assert isinstance(model, type(theirs))
    with torch.no_grad():
        assert torch.equal(model(IMAGE), theirs(IMAGE)["out"])


@pytest.mark.parametrize("name", ["torchvision/deeplabv3_mobilenet_v3_large", "torchvision/lraspp_mobilenet_v3_large"])
def test_a_wrapped_torchvision_model_keeps_its_answers_and_hears_the_feedback(name):
    theirs = torchvisions(name)
    model = smpf.wrap(theirs).eval()
    with torch.no_grad():
        expected = theirs(IMAGE)["out"]
        for steps in (1, 3):
            assert torch.allclose(model(IMAGE, steps=steps), expected, atol=1e-4 * float(expected.abs().max()))
    theirs.load_state_dict(model.feedforward_state_dict(), strict=True)
    check_agreement(model, IMAGE)
    check_heard(smpf.wrap(theirs, True), IMAGE)


def test_an_auxiliary_classifier_is_kept_and_left_alone():
    theirs = torchvisions("torchvision/deeplabv3_mobilenet_v3_large", aux_loss=True)
    model = smpf.wrap(theirs)
    assert isinstance(model.predict(IMAGE), torch.Tensor)
    torchvisions("torchvision/deeplabv3_mobilenet_v3_large", aux_loss=True).load_state_dict(
        model.feedforward_state_dict(), strict=True
    )


def test_a_torchvision_model_comes_back_from_disk_the_same(tmp_path):
    model = smpf.create("torchvision/lraspp_mobilenet_v3_large", classes=3).eval()
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    with torch.no_grad():
        assert torch.equal(again(IMAGE), model(IMAGE))


@pytest.mark.parametrize(
    ("arch", "weights", "meant"),
    [
        ("Unet", "imagnet", "'imagenet'"),
        ("NeumannUnet", "imagnet", "'imagenet'"),
        ("DFMResNet18", "IMAGENET1K_V2", "'IMAGENET1K_V1'"),
        ("DFMResNet50", "imagenet1k", "'imagenet' or 'IMAGENET1K_V2' or 'IMAGENET1K_V1'"),
        ("torchvision/fcn_resnet50", "COCO_WITH_LABELS", "'COCO_WITH_VOC_LABELS_V1'"),
    ],
)
def test_weights_that_do_not_exist_are_told_which_were_meant(arch, weights, meant):
    with pytest.raises(UnknownName, match=f"No set of weights of .* is called '{weights}'. Did you mean {meant}"):
        smpf.create(arch, encoder_weights=weights)


@pytest.mark.parametrize(
    ("name", "wrong", "meant"),
    [
        ("vit_tiny_patch16_224", "img_sise", "'img_size'"),
        ("vit_tiny_patch16_224.augreg_in21k", "dpeth", "'depth'"),
        ("test_resnet", "act_lair", "'act_layer' or "),
        ("xcit_nano_12_p16_224", "num_clases", "'classes'"),
        ("regnety_002", "group_sice", "'group_size'"),  # a config's
    ],
)
def test_a_misspelt_keyword_of_timms_models_is_told_which_was_meant(name, wrong, meant):
    with pytest.raises(UnknownKeyword, match=f"timm/{name} takes no '{wrong}'. Did you mean {meant}"):
        smpf.create(f"timm/{name}", **{wrong: 1})
    with pytest.raises(UnknownKeyword, match=r"takes no 'zzzz'\. There is: ") as caught:
        smpf.create(f"timm/{name}", zzzz=1)
    assert not {"in_chans,", "num_classes,", "pretrained,"} & set(str(caught.value).split())


def test_torchvisions_backbones_read_three_channels():
    with pytest.raises(InvalidValue, match="in_channels=4"):
        smpf.create("torchvision/fcn_resnet50", in_channels=4)


@pytest.mark.parametrize(
    ("name", "more", "error"),
    [
        ("torchvision/lraspp_mobilenet_v3_large", {"foo": 1}, UnknownKeyword),
        ("torchvision/lraspp_mobilenet_v3_large", {"num_classes": 2}, UnknownKeyword),
        ("torchvision/lraspp_mobilenet_v3_large", {"aux_loss": True}, InvalidValue),
        ("timm/test_resnet", {"num_classes": 2}, UnknownKeyword),
        ("timm/test_resnet", {"encoder_weights": False}, InvalidType),
    ],
)
def test_words_of_the_library_and_unknown_ones_are_refused_in_ours(name, more, error):
    with pytest.raises(error, match=name):
        smpf.create(name, **more)


def test_logits_of_no_known_kind_are_refused():
    with pytest.raises(SurgeryError, match=r"answers \(1, 17, 3\)"):
        smpf.create("timm/vit_tiny_patch16_224", classes=3, img_size=64, depth=1, global_pool="")
