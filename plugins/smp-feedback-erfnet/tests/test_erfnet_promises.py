"""By its name in ``smp_feedback``: every promise of a base model, with feedback and without."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import smp_feedback as smpf
import torch
from segmentation_models_pytorch.base import SegmentationModel
from smp_feedback.testing import check_architecture, check_heard, check_lossless, check_plugin, hearing
from smp_feedback.testing.conformance import check_freezing

from smp_feedback_erfnet import ERFNet

IMAGE = torch.rand(2, 3, 33, 42, generator=torch.Generator().manual_seed(0))


def made(**more):
    return smpf.create("ERFNet", **{"classes": 3, **more}).eval()


@pytest.mark.sweep
def test_all_that_it_brings_keeps_its_promises():
    told = {"image": IMAGE, "classes": 3, "feedback": {"steps": 2}}
    cut = {"model": ERFNet(classes=3), "image": IMAGE}
    check_plugin("erfnet", {"ERFNet": told, "smp_feedback_erfnet.erfnet.ERFNet": cut})


def test_other_channels_keep_them_too():
    check_architecture("ERFNet", torch.rand(1, 5, 24, 32), classes=2, in_channels=5, feedback={"steps": 2})


def test_its_classes_are_twenty_where_nobody_says():
    model = smpf.create("erf-net", feedback=False)
    assert type(model) is ERFNet
    assert isinstance(model, SegmentationModel)
    with torch.no_grad():
        assert model.eval()(IMAGE).shape == (2, 20, 33, 42)


def test_without_feedback_it_is_the_plain_class():
    torch.manual_seed(3)
    ours = made(feedback=False)
    torch.manual_seed(3)
    theirs = ERFNet(classes=3).eval()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(ours(IMAGE), theirs(IMAGE))


@pytest.mark.parametrize("size", [(8, 8), (33, 47), (24, 50)])
def test_a_path_is_of_the_images_size(size):
    with torch.no_grad():
        assert made(classes=19, feedback=True).trajectory(torch.rand(1, 3, *size), steps=2).shape == (2, 1, 19, *size)


def test_what_lies_before_the_feedback_runs_once_per_image():
    model = made(feedback={"insert": "stage:2", "steps": 4})
    calls = dict.fromkeys(("encoder.layers.5", "encoder.layers.6"), 0)
    for part in calls:
        model.get_submodule(part).register_forward_hook(lambda *_, part=part: calls.update({part: calls[part] + 1}))
    with torch.no_grad():
        model(IMAGE)
    assert calls == {"encoder.layers.5": 1, "encoder.layers.6": 4}
    check_heard(model, IMAGE)


def test_stage_k_has_two_to_the_k_pixels_to_one():
    encoder = made(feedback=False).encoder
    features = encoder(torch.rand(1, 3, 40, 64))
    assert tuple(x.shape[1] for x in features) == encoder.out_channels == (3, 16, 64, 128)
    assert [tuple(x.shape[2:]) for x in features] == [(40, 64), (20, 32), (10, 16), (5, 8)]


def test_a_trained_network_keeps_its_answers():
    plain = made(feedback=False)
    check_lossless(plain, IMAGE)
    check_lossless(plain, IMAGE, config=smpf.Recurrent(insert="stage:3"))


def test_a_frozen_encoder_stands_still():
    check_freezing(made(), IMAGE)


@pytest.mark.parametrize("kind", [str, Path])
def test_it_comes_back_from_disk_without_the_file_of_its_encoder(kind, tmp_path):
    torch.save(ERFNet().encoder.state_dict(), tmp_path / "encoder.pth")
    model = made(encoder_weights=kind(tmp_path / "encoder.pth"))
    plain = made(feedback=False, encoder_weights=kind(tmp_path / "encoder.pth"))
    plain.save_pretrained(tmp_path / "plain")
    wrapped = smpf.wrap(plain).eval()
    (tmp_path / "encoder.pth").unlink()
    with hearing(model), torch.no_grad():
        model.save_pretrained(tmp_path / "model")
        assert torch.equal(smpf.from_pretrained(tmp_path / "model")(IMAGE), model(IMAGE))
        again = smpf.from_pretrained(wrapped.save_pretrained(tmp_path / "wrapped"))
        assert torch.equal(again(IMAGE), wrapped(IMAGE))
        assert torch.equal(ERFNet.from_pretrained(tmp_path / "plain").eval()(IMAGE), plain(IMAGE))
    assert "smp-feedback-erfnet" in (tmp_path / "model/config.json").read_text()


@pytest.mark.sweep
def test_onnx_answers_as_the_model_does(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    smpf.export(made(feedback={"steps": 1}), tmp_path / "model.onnx", image=IMAGE[:1], dynamic=False)


def test_what_it_does_not_take_is_said():
    with pytest.raises(smpf.errors.UnknownKeyword, match=r"ERFNet takes no 'encoder_name'"):
        smpf.create("ERFNet", encoder="resnet18")


def test_the_package_imports_nothing_heavy_before_it_is_asked():
    words = "import sys, smp_feedback_erfnet.plugin, smp_feedback_erfnet; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", words], check=True, timeout=120)


def test_the_readme_runs():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["logits"].shape == (1, 19, 37, 50)
    assert names["path"].shape == (4, 1, 19, 37, 50)
