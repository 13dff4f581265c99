"""Classifiers from the command line: every verb takes one, and what is not said is the architecture's own."""

from __future__ import annotations

import csv
import json
import shlex

import pytest
import timm
import torch

pytest.importorskip("lightning")
import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.data import open_dataset
from smp_feedback.errors import InvalidInput
from smp_feedback.experiments.comparison.settings import ComparisonSettings
from smp_feedback.experiments.comparison.variants import make_twin
from smp_feedback.training.build import build_module
from smp_feedback.training.facts import Facts

TIMM = "timm/test_resnet.r160_in1k"
DIGITS = "--data.name torchvision/MNIST --data.size 32 --data.batch_size 4 --data.augment none"
SHORT = "--trainer.max_epochs 1 --trainer.accelerator cpu --trainer.enable_progress_bar false"
FACTS = Facts(("a", "b", "c"), None, "classification", (3, 32, 32))


def smp_feedback(line):
    return main(shlex.split(line))


@pytest.fixture
def fitted(mnist, tmp_path):
    """The folder of a run of a classifier that looks twice."""
    model = f"--model.arch {TIMM} --model.feedback.steps 2"
    assert smp_feedback(f"fit {DIGITS} --data.root {mnist} {model} {SHORT} --out {tmp_path}/run") == 0
    return tmp_path / "run"


@pytest.mark.sweep
def test_every_verb_takes_a_classifier(fitted, mnist, tmp_path, capsys):
    for verb in ("validate", "test"):
        assert smp_feedback(f"{verb} --run {fitted} --out {tmp_path}/{verb}") == 0
        assert "accuracy" in capsys.readouterr().out
    assert smp_feedback(f"export {fitted}/model {tmp_path}/model.pt2 --size 32 32") == 0
    assert smp_feedback(f"info {fitted}/model") == 0
    assert TIMM in capsys.readouterr().out
    model = smpf.from_pretrained(fitted / "model").eval()
    test = open_dataset("torchvision/MNIST", "test", root=mnist, size=32)
    with torch.no_grad():
        path = model.trajectory(torch.stack([image for image, _ in test]))
    right = (path[-1].argmax(1) == torch.stack([label for _, label in test])).float().mean()
    assert json.loads((tmp_path / "test/scores.json").read_text())["looks"][-1] == pytest.approx(float(right))

    assert smp_feedback(f"predict --run {fitted} --out {tmp_path}/labels --looks true --uncertainty true") == 0
    with (tmp_path / "labels/labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"torchvision/MNIST test[{i}]" for i in range(10)]
    assert [row["label"] for row in rows] == [test.classes[k] for k in path[-1].argmax(1)]
    assert [row["look_1"] for row in rows] == [test.classes[k] for k in path[0].argmax(1)]
    p = path[-1].softmax(1)
    assert [float(row["probability"]) for row in rows] == pytest.approx(p.amax(1).tolist(), abs=1e-4)
    doubt = -(p * p.log()).sum(1) / torch.tensor(10.0).log()
    assert [float(row["uncertainty"]) for row in rows] == pytest.approx(doubt.tolist(), abs=1e-4)


def test_a_plain_classifier_is_kept_in_its_checkpoints(mnist, tmp_path):
    line = f"fit {DIGITS} --data.root {mnist} --model.arch {TIMM} --model.feedback false {SHORT} --out {tmp_path}/run"
    assert smp_feedback(line) == 0
    assert not (tmp_path / "run/model").exists()
    assert smp_feedback(f"predict --run {tmp_path}/run --out {tmp_path}/labels") == 0
    assert len((tmp_path / "labels/labels.csv").read_text().splitlines()) == 11


@pytest.mark.sweep
def test_a_classifier_and_its_twins_are_compared(mnist, tmp_path):
    told = {"data": "torchvision/MNIST", "root": str(mnist), "size": 32, "arch": TIMM, "augment": "none"}
    told |= {"feedback": {"steps": 2, "channels": 8}, "train_count": [8], "train_steps": 2, "batch_size": 2, "seeds": 1}
    told |= {"corruptions": [], "severities": [1], "test_images": 8, "models": ["feedback", "plain"]}
    (tmp_path / "settings.json").write_text(json.dumps(told))
    assert smp_feedback(f"compare --config {tmp_path}/settings.json --out {tmp_path}/out --accelerator cpu") == 0
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["task"] == "classification"
    assert results["settings"]["encoder"] is None


@pytest.mark.parametrize("name", [TIMM, "torchvision/lraspp_mobilenet_v3_large", "DFMDeepLabV3Plus"])
def test_what_nobody_says_is_the_architectures_own(name):
    model = build_module(FACTS, arch=name).model
    torch.manual_seed(0)
    own = smpf.create(name, classes=3).eval()
    assert model.loop_config == own.loop_config
    model.load_state_dict(own.state_dict())
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(image), own(image))


def test_an_architecture_that_fixes_its_channels_is_not_told_them(restored):
    @smpf.register_architecture("Fixed")
    def fixed(classes, width=8):
        return timm.create_model("test_resnet", num_classes=classes)

    assert build_module(FACTS, arch="Fixed").model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_a_size_that_the_model_refuses_is_known_before_training():
    with pytest.raises(InvalidInput, match=r"32.*Or set data\.size"):
        build_module(FACTS, arch="timm/vit_tiny_patch16_224", feedback=False, arguments={"depth": 1})


@pytest.mark.parametrize(
    ("told", "encoder"),
    [({"arch": "Unet"}, "resnet18"), ({"arch": "FPN", "encoder": "vgg11"}, "vgg11"), ({"arch": TIMM}, None)],
)
def test_a_comparison_takes_a_small_encoder_where_there_is_one(told, encoder):
    assert ComparisonSettings(**told).encoder == encoder


def test_a_comparison_of_a_published_model_is_of_its_own_loop():
    settings = ComparisonSettings(arch="DFMResNet18", feedback={"steps": 2}, base_norm=None)
    assert (settings.config.insert, settings.config.channels, settings.trained_looks) == ("stem", 16, 2)
    plain, feedback = (make_twin(name, settings, 3, seed=0).model for name in ("plain", "feedback"))
    assert plain.feedback_channels == 0
    assert feedback.feedback_channels == 16
    assert feedback.feedback.readout is None, "its last layer makes them"
