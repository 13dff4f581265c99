"""Weights in and out: from plain smp and back, and nothing half-loaded; disk and hub are in test_hub."""

from __future__ import annotations

import copy
import io
import json
import pickle
import subprocess
import sys

import pytest
import segmentation_models_pytorch as smp
import torch

import smp_feedback as smpf
from smp_feedback.errors import FeedbackError, InvalidValue, UnknownName

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
ARGUMENTS = {"encoder_name": "tu-test_resnet.r160_in1k", "encoder_weights": None, "classes": 3}


def trained(feedback=True, arch="Unet"):
    """A model whose every weight and statistic is its own."""
    model = smpf.create(arch, **ARGUMENTS, feedback=feedback)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
        model.train()(IMAGE)
    return model.eval()


@torch.no_grad()
def test_weights_go_to_plain_smp_strictly_and_come_back():
    model = trained()
    plain = smp.Unet(**ARGUMENTS).eval()
    plain.load_state_dict(model.feedforward_state_dict(), strict=True)
    other = smpf.wrap(smp.Unet(**ARGUMENTS))
    other.load_feedforward(plain.state_dict())
    torch.testing.assert_close(other.eval()(IMAGE), plain(IMAGE), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_statistics_of_later_looks_begin_from_the_loaded_ones():
    model, plain = smpf.create("Unet", **ARGUMENTS), smp.Unet(**ARGUMENTS).train()
    plain(IMAGE + 3)
    model.load_feedforward(plain.state_dict())
    rows = model.feedback.statistics[0]
    assert rows.running_mean.shape[0] == model.feedback.steps() - 1
    for row in rows.running_mean:
        assert torch.equal(row, plain.encoder.model.conv1[1].running_mean)


@torch.no_grad()
def test_a_directory_of_smps_loads(tmp_path):
    plain = smp.Unet(**ARGUMENTS).eval()
    plain.save_pretrained(tmp_path)
    model = smpf.wrap(smp.Unet(**ARGUMENTS)).load_feedforward(tmp_path).eval()
    torch.testing.assert_close(model(IMAGE), plain(IMAGE), atol=1e-5, rtol=1e-5)


def test_old_key_names_that_smp_understands_are_understood():
    model = smpf.create("DeepLabV3", **ARGUMENTS)
    renames = {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1.", "decoder.bn.": "decoder.2."}
    old = {}
    for key, value in model.feedforward_state_dict().items():
        for new_prefix, old_prefix in renames.items():
            if key.startswith(new_prefix):
                key = key.replace(new_prefix, old_prefix)
        old[key] = torch.ones_like(value)
    model.load_feedforward(old)
    assert (model.decoder.conv.weight == 1).all()


def other_weights(change):
    state = {k: v.clone() + 1 for k, v in smp.Unet(**ARGUMENTS).state_dict().items()}
    return change(state) or state


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("segmentation_head.0.bias") is None,
        lambda s: s.update({"segmentation_head.0.bias": torch.zeros(7)}),
        lambda s: s.update({"somebody.else": torch.zeros(1)}),
    ],
    ids=["missing", "another shape", "unexpected"],
)
def test_weights_that_do_not_fit_leave_the_model_as_it_was(change):
    model = trained()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FeedbackError, match="not the weights of the plain Unet"):
        model.load_feedforward(other_weights(change))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize(
    "feedback",
    [
        True,
        smpf.Recurrent(steps=3, tau=float("inf"), dynamics="fractional", learn_rates=True, basis="orthogonal"),
        smpf.Recurrent(dynamics="residual", projection="entropy"),
    ],
    ids=["default", "learned", "residual"],
)
def test_a_saved_model_comes_back_the_same(tmp_path, feedback):
    model = trained(feedback)
    path = model.trajectory(IMAGE)
    assert model.save_pretrained(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    again = smpf.from_pretrained(tmp_path / "new" / "folder")
    assert torch.equal(again.trajectory(IMAGE), path)
    assert again.loop_config == model.loop_config
    assert again.config == model.config
    assert not again.training


@pytest.mark.sweep
def test_a_saved_model_loads_in_a_fresh_process_without_a_hub(tmp_path):
    trained().save_pretrained(tmp_path)
    code = "import smp_feedback, sys; print(smp_feedback.from_pretrained(sys.argv[1]).loop_config.steps)"
    environment = {"HF_HUB_OFFLINE": "1", "PATH": ""}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, env=environment
    )
    assert run.stdout.strip() == "4", run.stderr


@torch.no_grad()
def test_a_wrapped_model_remembers_how_its_base_was_built(tmp_path):
    plain = smp.FPN("resnet18", encoder_weights=None, classes=4, decoder_dropout=0.1).eval()
    smpf.wrap(plain).save_pretrained(tmp_path)
    again = smpf.from_pretrained(tmp_path)
    torch.testing.assert_close(again(IMAGE), plain(IMAGE), atol=1e-5, rtol=1e-5)


def test_the_config_is_what_create_takes():
    model = smpf.create("FPN", **ARGUMENTS, decoder_dropout=0.1, feedback=smpf.Recurrent(steps=7))
    twin = smpf.create("FPN", **model.config)
    assert twin.config == model.config
    assert twin.loop_config.steps == 7


def test_foreign_and_broken_files_are_named(tmp_path):
    with pytest.raises(InvalidValue, match=r"holds no config\.json"):
        smpf.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FeedbackError, match=r"config\.json is no JSON"):
        smpf.from_pretrained(tmp_path)
    smp.Unet(**ARGUMENTS).save_pretrained(tmp_path)
    with pytest.raises(FeedbackError, match="load_feedforward"):
        smpf.from_pretrained(tmp_path)
    trained().save_pretrained(tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(FeedbackError, match=r"model\.safetensors is truncated"):
        smpf.from_pretrained(tmp_path)
    with pytest.raises(InvalidValue, match="neither a directory"):
        smpf.from_pretrained(tmp_path / "nowhere")


def test_a_config_that_names_an_unknown_part_says_so(tmp_path):
    trained().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["feedback"]["dynamics"] = "leakyy"
    path.write_text(json.dumps(config))
    with pytest.raises(UnknownName, match="'leaky'"):
        smpf.from_pretrained(tmp_path)


def test_a_checkpoint_is_never_unpickled(tmp_path):
    trained().save_pretrained(tmp_path)

    class Evil:
        def __reduce__(self):
            return print, ("pwned",)

    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(FeedbackError, match="no safetensors file"):
        smpf.from_pretrained(tmp_path)


@torch.no_grad()
def test_state_dict_copies_and_pickles_are_the_same_model():
    model = trained(smpf.Recurrent(dynamics="residual"))
    expected, buffer = model(IMAGE), io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    twin = smpf.create("Unet", **ARGUMENTS, feedback=smpf.Recurrent(dynamics="residual")).eval()
    twin.load_state_dict(model.state_dict())
    for other in (twin, copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        assert torch.equal(other(IMAGE), expected)
        assert isinstance(other, smp.Unet)
        assert isinstance(other, smpf.FeedbackModel)


def test_loading_without_strictness_works_as_in_smp():
    model = smpf.create("Unet", **ARGUMENTS)
    report = model.load_state_dict(smp.Unet(**ARGUMENTS).state_dict(), strict=False)
    assert not report.unexpected_keys
    assert all(key.startswith("feedback.") for key in report.missing_keys)
