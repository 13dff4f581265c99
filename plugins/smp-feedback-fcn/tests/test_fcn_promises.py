"""By their names in ``smp_feedback``: every promise of a base model, with feedback and without."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import smp_feedback as smpf
import torch
from segmentation_models_pytorch.base import SegmentationModel
from smp_feedback.testing import check_architecture, check_heard, check_lossless, check_plugin, hearing
from smp_feedback.testing.conformance import check_exports, check_freezing

from smp_feedback_fcn import FCDenseNet, FCN8s, tables

TINY = {"growth": 2, "first_channels": 4}
SMALL = {
    "FCN8s": {"width": 1 / 32},
    "FCDenseNet": {"blocks": (1, 2, 1, 2, 1), **TINY},
    "FCDenseNet56": TINY,
    "FCDenseNet67": TINY,
    "FCDenseNet103": TINY,
}
IMAGE = torch.rand(2, 3, 37, 50, generator=torch.Generator().manual_seed(0))
BOTH = pytest.mark.parametrize("name", ["FCN8s", "FCDenseNet"])


def made(name, **more):
    return smpf.create(name, classes=3, **{**SMALL[name], **more}).eval()


def made_plain(model, name):
    plain = made(name, feedback=False)
    plain.load_state_dict(model.feedforward_state_dict())
    return plain


@pytest.mark.sweep
def test_all_that_it_brings_keeps_its_promises():
    short = {"image": IMAGE, "classes": 3, "feedback": {"steps": 2}}
    told = {name: {**short, **arguments} for name, arguments in SMALL.items()}
    cut = {"smp_feedback_fcn.fcn8.FCN8s": {"model": FCN8s(classes=3, width=1 / 32), "image": IMAGE}}
    check_plugin("fcn", told | cut)


@pytest.mark.parametrize("told", [{"score_relu": False}, {"crop": "aligned"}, {"in_channels": 2}])
@pytest.mark.sweep
def test_the_other_settings_of_fcn8_keep_them_too(told):
    image = torch.rand(1, told.get("in_channels", 3), 27, 40)
    check_architecture("FCN8s", image, classes=3, width=1 / 64, **told)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("fcn8", "FCN8s"),
        ("fcn-8s", "FCN8s"),
        ("tiramisu", "FCDenseNet"),
        ("fc-densenet56", "FCDenseNet56"),
        ("tiramisu67", "FCDenseNet67"),
        ("fc-densenet103", "FCDenseNet103"),
    ],
)
def test_other_names_are_theirs_too(asked, name):
    model = smpf.create(asked, classes=3, **SMALL[name])
    assert model.feedback.origin["architecture"] == name
    assert isinstance(model, FCN8s if name == "FCN8s" else FCDenseNet)
    assert isinstance(model, SegmentationModel)


@BOTH
def test_without_feedback_it_is_the_plain_class(name):
    torch.manual_seed(3)
    ours = made(name, feedback=False)
    torch.manual_seed(3)
    theirs = (FCN8s if name == "FCN8s" else FCDenseNet)(classes=3, **SMALL[name]).eval()
    assert type(ours) is type(theirs)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(ours(IMAGE), theirs(IMAGE))
        assert ours(IMAGE).shape == (2, 3, 37, 50)


@BOTH
@pytest.mark.parametrize("size", [(32, 32), (47, 33), (64, 95)])
def test_logits_are_of_the_images_size(name, size):
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        assert made(name)(image, steps=2).shape == (1, 3, *size)


@pytest.mark.parametrize(
    ("name", "stage", "before", "behind"),
    [
        ("FCN8s", 3, "encoder.conv3_3", "encoder.conv4_1"),
        ("FCN8s", 5, "encoder.conv5_3", "encoder.fc6"),
        ("FCDenseNet", 1, "encoder.block2", "encoder.down2"),
        ("FCDenseNet", 2, "encoder.bottom", "decoder.ups.0"),
    ],
)
def test_what_lies_before_the_feedback_runs_once_per_image(name, stage, before, behind):
    model = made(name, feedback={"insert": f"stage:{stage}", "steps": 5})
    calls = dict.fromkeys((before, behind), 0)
    for part in calls:
        model.get_submodule(part).register_forward_hook(lambda *_, part=part: calls.update({part: calls[part] + 1}))
    with torch.no_grad():
        model(IMAGE)
    assert calls == {before: 1, behind: 5}
    check_heard(model, IMAGE)


@BOTH
def test_stage_k_has_two_to_the_k_pixels_to_one(name):
    encoder = made(name, feedback=False).encoder
    image = torch.rand(1, 3, 64, 96)
    pad = 198 if name == "FCN8s" else 0
    features = encoder(image)
    assert tuple(x.shape[1] for x in features) == encoder.out_channels
    for k, x in enumerate(features[:6]):
        assert x.shape[2:] == (((64 + pad) >> k, (96 + pad) >> k) if k else (64, 96))


@pytest.mark.parametrize(
    ("name", "features", "channels", "size"),
    [
        ("FCN8s", None, 512 // 32, ((64 + 198) // 16, (96 + 198) // 16)),  # None is pool4
        ("FCN8s", ["pool4"], 512 // 32, ((64 + 198) // 16, (96 + 198) // 16)),
        ("FCDenseNet103", ["down4"], 4 + 2 * (4 + 5 + 7 + 10), (64 // 16, 96 // 16)),  # 464 at full width
    ],
)
def test_an_autoencoder_is_conditioned_on_pool4(name, features, channels, size):
    loop = smpf.Score(features=features, filters=2, padding=100 if name == "FCN8s" else 1)
    model = made(name, feedback=loop)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        begun = model.begin(image)
        assert begun.features[0].shape == (1, channels, *size)
        assert torch.equal(begun.logits, made_plain(model, name)(image))
        assert model(image, steps=2).shape == (1, 3, 64, 96)


@BOTH
def test_a_trained_network_keeps_its_answers(name):
    plain = made(name, feedback=False)
    check_lossless(plain, IMAGE)
    check_lossless(plain, IMAGE, config=smpf.Recurrent(insert="stage:2"))


def test_a_frozen_encoder_stands_still():
    check_freezing(made("FCDenseNet"), IMAGE)


@BOTH
def test_it_comes_back_from_disk(name, tmp_path):
    model = made(name)
    with hearing(model), torch.no_grad():
        again = smpf.from_pretrained(model.save_pretrained(tmp_path))
        assert torch.equal(again(IMAGE), model(IMAGE))
    assert "smp-feedback-fcn" in (tmp_path / "config.json").read_text()


@BOTH
def test_the_plain_network_is_saved_as_smps_are(name, tmp_path):
    plain = made(name, feedback=False)
    plain.save_pretrained(tmp_path)
    again = type(plain).from_pretrained(tmp_path).eval()
    assert json.loads((tmp_path / "config.json").read_text())["classes"] == 3
    with torch.no_grad():
        assert torch.equal(again(IMAGE), plain(IMAGE))
        wrapped = smpf.wrap(again).eval()
        saved = smpf.from_pretrained(wrapped.save_pretrained(tmp_path / "wrapped"))
        assert torch.equal(saved(IMAGE), wrapped(IMAGE))


@pytest.mark.parametrize("name", ["FCN8s", pytest.param("FCDenseNet", marks=pytest.mark.sweep)])
@pytest.mark.sweep
def test_it_is_exported_from_one_graph(name):
    check_exports(made(name, feedback={"steps": 2}), IMAGE)


@pytest.mark.sweep
def test_onnx_answers_as_the_model_does(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = made("FCN8s", width=1e-4, feedback={"steps": 1})
    smpf.export(model, tmp_path / "model.onnx", image=IMAGE[:1], dynamic=False)


def test_batch_statistics_are_those_of_each_look():
    model = made("FCDenseNet", batch_statistics=True, dropout=0.0)
    assert not [key for key in model.state_dict() if "running" in key]
    with hearing(model), torch.no_grad():
        assert torch.equal(model.train()(IMAGE), model.eval()(IMAGE))


def test_what_a_network_does_not_take_is_said():
    with pytest.raises(smpf.errors.UnknownKeyword, match=r"FCN8s takes no 'encoder_name'"):
        smpf.create("FCN8s", encoder="resnet18")
    with pytest.raises(smpf.errors.UnknownKeyword, match=r"Did you mean 'score_relu'"):
        smpf.create("FCN8s", scores_relu=False)


def test_the_package_imports_nothing_heavy_before_it_is_asked():
    words = "import sys, smp_feedback_fcn.plugin, smp_feedback_fcn; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", words], check=True, timeout=120)


def test_the_readme_runs_and_its_table_is_the_one_that_is_printed(capsys):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["logits"].shape == (1, 11, 37, 50)
    assert names["path"].shape == (4, 1, 11, 37, 50)
    tables.main()
    assert capsys.readouterr().out in text
