"""What smp promises of its models, over every architecture, with the small encoder of smp's own suite."""

from __future__ import annotations

import copy
import functools
import inspect
import re

import pytest
import segmentation_models_pytorch as smp
import torch
from conftest import SMPS, a_few
from segmentation_models_pytorch.base import ClassificationHead
from slim import SLIM

import smp_feedback as smpf
from smp_feedback.errors import NotScriptable, UnknownKeyword
from smp_feedback.models.keywords import deprecated_keywords
from smp_feedback.testing import check_lossless
from smp_feedback.testing import conformance as promised

TINY = {"encoder_name": "tu-test_resnet.r160_in1k", "encoder_weights": None}
VIT = {"encoder_name": "tu-test_vit.r160_in1k", "encoder_weights": None, "dynamic_img_size": True}
AUX = {"pooling": "avg", "classes": 10, "dropout": 0.5, "activation": "sigmoid"}
DEPRECATED = [(arch, key) for arch in SMPS for key in sorted(deprecated_keywords(getattr(smp, arch)))]
RENAMED = {"decoder_use_batchnorm": False, "psp_use_batchnorm": False, "upscale_mode": "nearest"}
FEW = a_few(SMPS, "Unet", "DPT", "Segformer")  # a convolutional one, one of tokens, one of both
every_architecture = pytest.mark.parametrize("arch", SMPS)


def arguments(arch):
    return (VIT if arch == "DPT" else TINY) | SLIM[arch]


def build(arch, *, feedback=True, **more):
    """Two looks, which show what a second adds. Those of the same words are copies of one, built once."""
    loop = smpf.Recurrent(steps=2) if feedback is True else feedback
    if any(isinstance(value, dict) for value in more.values()):
        return created(arch, loop, **more)
    return copy.deepcopy(created_once(arch, loop, **more))


def created(arch, loop, **more):
    return smpf.create(arch, **(arguments(arch) | more), feedback=loop)


created_once = functools.cache(created)


def builder(arch, **more):
    return functools.partial(build, arch, **more)


def shallow(arch):
    """Three stages of the encoder, and as many of the decoder."""
    fewer = {"encoder_depth": 3}
    for key in ("decoder_channels", "decoder_intermediate_channels"):
        default = inspect.signature(getattr(smp, arch)).parameters.get(key)
        if default is not None and isinstance(default.default, tuple):
            fewer[key] = arguments(arch).get(key, default.default)[:3]
    return fewer


def image(arch, batch=2, channels=3, more=0):
    size = (128 if arch == "PAN" else 64) + more
    return torch.rand(batch, channels, size, size)


@every_architecture
@pytest.mark.parametrize("batch", a_few([1, 2], 1))
def test_it_learns_whatever_smp_learns(arch, batch):
    promised.check_trains(builder(arch), image(arch, batch))


@every_architecture
def test_smps_depth_channels_and_classes_are_kept(arch):
    fewer = shallow(arch) | {"in_channels": 1, "classes": 7}
    promised.check_like_plain(builder(arch), image(arch, channels=1), **fewer)
    check_lossless(build(arch, feedback=False, **fewer), image(arch, channels=1))


@every_architecture
def test_labels_are_read_from_the_last_look(arch):
    model = build(arch, aux_params=AUX, feedback=smpf.Recurrent(steps=3))
    assert type(model.classification_head) is ClassificationHead
    assert str(model.classification_head) == str(
        smp.create_model(arch, **arguments(arch), aux_params=AUX).classification_head
    )
    promised.check_labels(model, image(arch))


@every_architecture
@pytest.mark.parametrize("more", a_few([3, 7], 7))
def test_an_odd_size_is_answered_or_refused_as_in_smp(arch, more):
    promised.check_like_plain(builder(arch), image(arch, 1, more=more))


@every_architecture
def test_parameters_are_smps_and_feedback(arch):
    promised.check_parameters(build(arch), smp.create_model(arch, **arguments(arch)))


@pytest.mark.parametrize("arch", FEW)
def test_a_frozen_encoder_stands_still_at_every_step(arch):
    promised.check_freezing(build(arch, feedback=smpf.Recurrent(steps=3)), image(arch))


def test_a_model_frozen_before_it_is_wrapped_stays_frozen():
    plain = smp.Unet(**TINY)
    plain.freeze_encoder()
    model = smpf.wrap(plain, smpf.Recurrent(steps=2)).train()
    before = {k: v.clone() for k, v in model.encoder.state_dict().items()}
    model(image("Unet")).square().mean().backward()
    assert all(torch.equal(v, before[k]) for k, v in model.encoder.state_dict().items())
    assert all(p.grad is None for p in model.encoder.parameters())
    assert all(p.requires_grad and p.grad is not None for p in model.feedback.parameters())


@every_architecture
def test_another_heads_weights_are_warned_of_and_the_rest_is_loaded(arch):
    promised.check_mismatched_weights(builder(arch))


def test_other_steps_are_another_shape_to_load():
    longer = build("Unet", feedback=smpf.Recurrent(steps=4))
    with pytest.warns(UserWarning, match=r"feedback\.statistics\.0\.running_mean: torch.Size\(\[1, .*\[3, "):
        longer.load_state_dict(build("Unet").state_dict(), strict=False)


def test_weights_older_than_timms_encoders_are_renamed_as_in_smp():
    model = smpf.create("Unet", "tu-regnetx_002", None)
    renamed = {k: k.replace("encoder.model.", "encoder.") for k in model.state_dict()}
    weights = {renamed[k]: v + 1 for k, v in model.state_dict().items()}
    model.load_state_dict(dict(weights))
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[renamed[key]]), key


@pytest.mark.parametrize("arch", FEW)
def test_it_answers_in_every_floating_type(arch):
    promised.check_dtypes(build(arch), image(arch, 1))


@pytest.mark.parametrize("arch", a_few(SMPS, "Unet"))
def test_it_compiles_to_one_graph(arch):
    promised.check_compiles(build(arch, **shallow(arch)), image(arch))


@pytest.mark.parametrize("arch", a_few(SMPS, "Unet"))
def test_it_exports_strictly(arch):
    promised.check_exports(build(arch, **shallow(arch)), image(arch))


@every_architecture
def test_scripting_is_refused_with_what_to_do_instead(arch):
    promised.check_refuses_script(build(arch))


def test_a_model_around_it_is_refused_scripting_too():
    with pytest.warns(FutureWarning, match="deprecated"), pytest.raises(NotScriptable, match="RecurrentModelUnet"):
        torch.jit.script(torch.nn.Sequential(build("Unet")))


# --- deprecated keywords


@every_architecture
def test_every_keyword_that_smp_takes_out_of_kwargs_is_known(arch):
    popped = re.findall(r'kwargs\.pop\("(\w+)"', inspect.getsource(getattr(smp, arch).__init__))
    assert deprecated_keywords(getattr(smp, arch)) == set(popped)


@pytest.mark.parametrize(("arch", "key"), DEPRECATED)
@torch.no_grad()
def test_a_deprecated_keyword_means_what_it_means_to_smp(arch, key, tmp_path):
    """With an encoder of smp's own: those of timm are handed every keyword."""
    usual = {"encoder_name": "resnet18", "encoder_weights": None, **SLIM[arch]}
    given = usual | {key: RENAMED[key]}
    said = functools.partial(pytest.warns, DeprecationWarning, match=key)
    with said():
        plain = smp.create_model(arch, **given).eval()
    with said():
        model = smpf.create(arch, **given, feedback=smpf.Recurrent(steps=2, dynamics="residual"))
    model.load_feedforward(plain.state_dict()).save_pretrained(tmp_path)
    with said():
        again = smpf.from_pretrained(tmp_path)
    x = image(arch)
    torch.testing.assert_close(again(x), plain(x), atol=1e-4, rtol=1e-4)
    usual = smp.create_model(arch, **usual).eval()
    refused = usual.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert refused or not torch.allclose(usual(x), plain(x), atol=1e-3), "it means nothing"


@pytest.mark.parametrize(("arch", "key"), DEPRECATED)
def test_a_misspelt_deprecated_keyword_is_refused_and_led_to_the_new_one(arch, key):
    wrong = key[:-1]
    with pytest.raises(UnknownKeyword, match=f"{arch} takes no '{wrong}'"):
        smpf.create(arch, "resnet18", None, **{wrong: True})
    with pytest.raises(UnknownKeyword, match="Did you mean 'decoder_use_norm'"):
        smpf.create("Unet", "resnet18", None, decoder_use_batchnor=True)


def test_a_deprecated_keyword_of_another_architecture_is_refused():
    with pytest.raises(UnknownKeyword, match="Unet takes no 'upscale_mode'"):
        smpf.create("Unet", "resnet18", None, upscale_mode="nearest")


@pytest.mark.parametrize("arch", ["NeumannUnet", "DirichletUnet"])
def test_a_recipe_takes_the_deprecated_keywords_of_the_architecture_that_it_is_made_of(arch):
    with pytest.warns(DeprecationWarning, match="decoder_use_batchnorm"):
        plain = smpf.create(arch, "resnet18", classes=2, feedback=False, decoder_use_batchnorm=False)
    assert not [module for module in plain.decoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_a_class_hands_the_deprecated_keywords_on_if_it_takes_any_keyword():
    for init, handed_on in ((lambda self, **more: None, {"upscale_mode"}), (lambda self, encoder_name: None, set())):
        assert deprecated_keywords(type("Mine", (smp.PAN,), {"__init__": init})) == handed_on
    assert (
        deprecated_keywords(len) == deprecated_keywords(torch.nn.ReLU) == deprecated_keywords(builder("Unet")) == set()
    )
