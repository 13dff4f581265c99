"""A plain model's weights as people have them, and a looping model's where a plain one's were expected."""

from __future__ import annotations

import warnings

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import nn

import smp_feedback as smpf
from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue
from smp_feedback.saving.beginning import begin_from
from smp_feedback.saving.plain_weights import common_prefix

TINY = {"encoder_name": "tu-test_resnet.r160_in1k", "encoder_weights": None, "encoder_depth": 3}
TINY |= {"decoder_channels": (16, 8, 8), "classes": 3}
IMAGE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def trained():
    return smp.Unet(**TINY).eval()


def new(**other):
    return smpf.wrap(smp.Unet(**TINY | other).eval())


def prefixed(model, prefix):
    return {prefix + key: value for key, value in model.state_dict().items()}


@torch.no_grad()
def same(model, trained):
    torch.testing.assert_close(model(IMAGE), trained(IMAGE), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["u.pth", "u.pt", "u.ckpt", "u.bin", "u.safetensors", "without_suffix"])
def test_a_file_is_taken(tmp_path, monkeypatch, trained, name):
    save = save_file if name.endswith("safetensors") else torch.save
    save(trained.state_dict(), tmp_path / name)
    monkeypatch.setenv("HOME", str(tmp_path))
    same(new().load_feedforward(f"~/{name}"), trained)


@pytest.mark.parametrize(
    ("box", "prefix"),
    [
        ("state_dict", "model."),
        ("model_state_dict", ""),
        ("model", "module."),
        (None, "net."),
        ("state_dict", "model._orig_mod."),
    ],
)
def test_what_a_training_loop_wrapped_them_in_is_taken_off(tmp_path, trained, box, prefix):
    weights = prefixed(trained, prefix)
    held = weights if box is None else {box: weights, "epoch": 3, "optimizer_states": [{"state": {0: torch.ones(2)}}]}
    torch.save(held, tmp_path / "u.ckpt")
    same(new().load_feedforward(tmp_path / "u.ckpt"), trained)


def test_an_older_directory_of_smps_is_taken(tmp_path, trained):
    torch.save(trained.state_dict(), tmp_path / "pytorch_model.bin")
    same(new().load_feedforward(tmp_path), trained)


def test_what_is_beside_the_model_is_left_with_a_warning(trained):
    held = {"state_dict": {**prefixed(trained, "model."), "loss.weight": torch.ones(3)}}
    with pytest.warns(UserWarning, match=r"1 beside the model \(model\.\.\.\.\) are left: loss\.weight"):
        same(new().load_feedforward(held), trained)


def test_a_student_is_not_taken_for_its_teacher(trained):
    both = prefixed(trained, "student.") | prefixed(trained, "teacher.")
    with pytest.raises(InvalidValue, match=r"more than once, as 'student\.' and 'teacher\.'"):
        new().load_feedforward(both)


@pytest.mark.parametrize(("one", "other"), [("model", "model_ema"), ("state_dict", "state_dict_ema")])
def test_a_model_is_not_taken_for_its_average(trained, one, other):
    average = {f"module.{key}": value + 1 for key, value in trained.state_dict().items()}
    held = {one: trained.state_dict(), other: {"n_averaged": torch.tensor(5), **average}}
    with pytest.raises(InvalidValue, match=rf"more than once, as '{one}' and '{other}': give .*\['{other}'\]"):
        new().load_feedforward(held)
    same(new().load_feedforward({one: trained.state_dict(), other: trained.state_dict()}), trained)
    optimizer = {"exp_avg": torch.ones(3)}
    same(new().load_feedforward({one: trained.state_dict(), "optimizer": optimizer}), trained)


def test_the_prefix_is_that_of_most_of_the_names():
    assert common_prefix(["a.b.weight", "a.b.bias", "weight"], ["weight", "bias"]) == "a.b."
    assert common_prefix(["weight", "a.weight"], ["weight"]) == ""
    assert common_prefix(["nothing"], ["weight"]) == ""


def lines(error):
    return str(error.value).split("\n")


def test_weights_of_another_number_of_classes_say_what_to_do(trained):
    with pytest.raises(FeedbackError, match=r"2 of other shapes \(segmentation_head\.0\.weight, ") as error:
        new(classes=21).load_feedforward(trained.state_dict())
    assert len(lines(error)) == 3
    assert lines(error)[1] == "segmentation_head.0.weight: (3, 8, 3, 3) there, (21, 8, 3, 3) in the model."
    assert "of 3 classes, the model has 21" in lines(error)[2]
    other = smp.Unet(**TINY)
    other.load_state_dict(trained.state_dict())
    other.segmentation_head[0] = nn.Conv2d(8, 21, 3, padding=1)  # as it says
    assert smpf.wrap(other.eval())(IMAGE).shape[1] == 21


def test_weights_of_another_model_are_counted_and_the_first_named(trained):
    with pytest.raises(FeedbackError, match="not the weights of the plain Unet: of its") as error:
        new(encoder_name="resnet18").load_feedforward(prefixed(trained, "model."))
    assert len(lines(error)) <= 3
    assert "missing (encoder.conv1.weight, encoder.bn1.weight, encoder.bn1.bias, ...)" in lines(error)[0]
    assert "unexpected (" in lines(error)[0]


class Anything:
    pass


@pytest.mark.parametrize("held", [Anything(), {"state_dict": {"a": torch.ones(1)}, "hyper": Anything()}, "module"])
def test_a_pickle_that_could_run_code_is_refused_in_a_line(tmp_path, trained, held):
    torch.save(trained if held == "module" else held, tmp_path / "u.pth")
    with pytest.raises(FeedbackError, match=r"u\.pth is not read: it holds whole objects.*model\.state_dict") as error:
        new().load_feedforward(tmp_path / "u.pth")
    assert len(lines(error)) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"u\.pth: there is no such file"),
        (b"no weights at all", r"u\.pth is not read: it is not whole, or none of torch's files"),
        ([torch.ones(1)], r"u\.pth holds a list: expected a state dict"),
        ({"epoch": 1}, r"u\.pth: no weights among 'epoch'"),
    ],
)
def test_a_file_without_weights_is_refused_by_name(tmp_path, content, words):
    path = tmp_path / "u.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises((FeedbackError, InvalidType), match=words):
        new().load_feedforward(path)


def test_a_folder_of_files_names_one_of_them(tmp_path):
    for name in ("a.pth", "best.ckpt"):
        (tmp_path / name).touch()
    with pytest.raises(InvalidValue, match=r"It has a\.pth, best\.ckpt: give one, such as .*best\.ckpt"):
        new().load_feedforward(tmp_path)


def test_a_looping_models_weights_lead_to_what_takes_them(tmp_path):
    model = new()
    torch.save({"state_dict": prefixed(model, "model.")}, tmp_path / "best.ckpt")
    model.save_pretrained(tmp_path / "ours")
    for source, words in {
        tmp_path / "ours": r"ours holds a model that looks again, no plain Unet: smp_feedback\.from_pretrained\('",
        tmp_path / "best.ckpt": "best.ckpt holds a model that looks again.*RUN/model.*--model.init",
    }.items():
        with pytest.raises(InvalidValue, match=words):
            new().load_feedforward(source)
    with pytest.raises(InvalidValue, match=r"state dict holds a model that looks again.*load_state_dict"):
        new().load_feedforward(model.state_dict())


def test_a_plain_state_dict_that_does_not_load_names_what_takes_it(trained):
    with pytest.raises(
        RuntimeError, match=r"Missing key.*feedback\.[\s\S]*model\.load_feedforward\(\.\.\.\) takes them"
    ):
        new().load_state_dict(trained.state_dict())
    with pytest.raises(RuntimeError) as error:
        new().load_state_dict({key: value for key, value in new().state_dict().items() if "head" not in key})
    assert "load_feedforward" not in str(error.value), "a looping model's weights are no plain model's"


def test_smps_own_from_pretrained_says_whose_model_it_was_given(tmp_path):
    new().save_pretrained(tmp_path)
    with pytest.raises(AttributeError, match=r"model of smp_feedback: load it with smp_feedback\.from_pretrained"):
        smp.from_pretrained(str(tmp_path))
    assert smpf.from_pretrained(tmp_path).config["classes"] == 3


@torch.no_grad()
def test_a_training_begins_from_a_plain_models_weights_or_a_looping_models(tmp_path, trained):
    looping = new()
    nn.init.normal_(looping.feedback.readers[0].weight)
    looping.feedback.dynamics.gamma.fill_(0.5)
    looping.save_pretrained(tmp_path / "ours")
    torch.save({"state_dict": prefixed(looping, "model.")}, tmp_path / "last.ckpt")
    torch.save(trained.state_dict(), tmp_path / "u.pth")
    for source in (tmp_path / "ours", tmp_path / "last.ckpt", looping.state_dict()):
        again = new()
        begin_from(again, source)
        assert torch.equal(again.trajectory(IMAGE), looping.trajectory(IMAGE))
        with pytest.raises(InvalidValue, match="holds a model that looks again, and this Unet has one look"):
            begin_from(smp.Unet(**TINY), source)
    for model in (new(), smp.Unet(**TINY).eval()):
        begin_from(model, tmp_path / "u.pth")
        same(model, trained)
    with pytest.raises(FeedbackError, match=r"last\.ckpt: not the weights of this Unet, which looks again.*feedback\."):
        begin_from(smpf.create("Unet", **TINY, feedback={"channels": 5}), tmp_path / "last.ckpt")


def test_nothing_is_said_of_weights_that_fit(trained):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new().load_feedforward({"state_dict": prefixed(trained, "net.")})
