"""A run is scored on data that are as those it learnt from, but are not the same ones."""

from __future__ import annotations

import csv
import json
import shlex
import shutil

import pytest
from small_folders import OPTIONS, folder, mask
from torch import nn

pytest.importorskip("lightning")
import smp_feedback as smpf
from smp_feedback.cli.lessons import begins_pretrained, images_told
from smp_feedback.cli.main import main
from smp_feedback.config.data import DataConfig
from smp_feedback.errors import InvalidValue
from smp_feedback.training.build import build_module
from smp_feedback.training.facts import Facts

SMALL = {
    "model": {
        "encoder": "tu-test_resnet.r160_in1k",
        "encoder_weights": None,
        "feedback": False,
        "arguments": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    },
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "logger": False},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run on five images of 16 x 16, and that of its images."""
    root = tmp_path_factory.mktemp("data")
    parts = mask(0, 1, 2, size=(16, 16))
    folder(root, train=[parts] * 2, val=[parts], test=[parts] * 2)
    told = {**SMALL, "data": {"name": "folder", "root": str(root), "batch_size": 2, "options": OPTIONS}}
    (root / "run.yaml").write_text(json.dumps(told))
    assert main(["fit", "--config", str(root / "run.yaml"), "--out", str(root / "run")]) == 0
    return root


def scored(run, tmp_path, line):
    verb, *words = shlex.split(line)
    return main([verb, "--run", str(run / "run"), "--out", str(tmp_path / "scored"), *words])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": ["ground", "house", "tree"]}, "classes=['ground', 'house', 'tree'], the run learnt with classes="),
        ({"classes": ["ground", "tree", "house", "car"]}, "the run learnt with classes=['ground', 'tree', 'house']"),
        ({"ignore_index": 2}, "the data have ignore_index=2, the run learnt with ignore_index=None"),
        ({"bands": [1, 2]}, "the data have channels=2, the run learnt with channels=3"),
    ],
)
def test_other_data_than_those_of_training_are_refused(run, tmp_path, capsys, options, words):
    told = shlex.quote(json.dumps({**OPTIONS, **options}))
    assert scored(run, tmp_path, f"validate --data.options {told}") == 2
    said = capsys.readouterr().err
    assert words in said
    assert str(run / "run" / "data.json") in said


@pytest.mark.parametrize("copied", [shutil.copy, lambda old, new: (new.unlink(), new.hardlink_to(old))])
def test_images_that_a_run_learnt_from_are_said_where_they_are_scored(run, tmp_path, capsys, copied):
    for folder_ in ("test", "testannot"):
        shutil.copytree(run / folder_, tmp_path / folder_)
    copied(run / "train" / "0.png", tmp_path / "test" / "0.png")
    said = "1 of 2 images of test are in train, too"
    for more, status, says in ("", 0, True), ("--data.shared refuse", 2, True), ("--data.shared allow", 0, False):
        assert scored(run, tmp_path, f"test --data.root {tmp_path} {more}") == status
        assert (said in capsys.readouterr().err) == says


def test_in_channels_are_those_of_the_images():
    facts = Facts(("a", "b"), None, "segmentation", (3, 16, 16))
    with pytest.raises(InvalidValue, match=r"arguments.in_channels=1: the images have 3 channels"):
        build_module(facts, **SMALL["model"] | {"arguments": {"in_channels": 1}})


@pytest.mark.parametrize(("weights", "said"), [(None, 0), ("imagenet", 1)])
def test_only_weights_that_there_are_are_said_to_be_repeated(weights, said):
    model = nn.Conv2d(5, 2, 1)
    model.config, model.data_config = {"encoder_weights": weights}, DataConfig(channels=5)
    assert len(images_told(model)) == said


def test_a_model_says_whether_its_encoder_was_pretrained():
    told = {"encoder_depth": 3, "decoder_channels": (16, 8, 8), "encoder_weights": None, "in_channels": 5}
    for feedback in (True, False):
        model = smpf.create("Unet", "tu-test_resnet.r160_in1k", feedback=feedback, **told)
        assert not begins_pretrained(model)
        assert model.config["encoder_weights"] is None


def test_a_run_is_watched_and_scored_by_what_stays_connected(run, tmp_path, capsys):
    pytest.importorskip("skimage")
    told = json.loads((run / "run.yaml").read_text())
    told["model"] |= {"feedback": {"steps": 2}}
    (tmp_path / "run.yaml").write_text(json.dumps(told))
    line = ["fit", "--config", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]
    assert main([*line, "--monitor", "val_betti0_error/look_2"]) == 0
    assert scored(tmp_path, tmp_path, "test --topology true --bootstrap 40") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "connectivity, look by look" in said
    found = json.loads((tmp_path / "scored" / "scores.json").read_text())
    by_look = found["connectivity"]["betti0_error"]
    assert len(by_look) == 2
    assert by_look[-1] == pytest.approx(found["metrics"]["betti0_error"])
    rows = list(csv.DictReader((tmp_path / "scored" / "images.csv").read_text().splitlines()))
    assert [float(row["true_components/tree"]) for row in rows] == [1, 1]
    assert found["class_metrics"]["true_components"] == [None, 1, 1]
    assert found["intervals"].keys() >= {"cldice", "breaks"}


def test_what_measures_the_score_that_is_watched_is_asked_for_before_a_model_is_built(
    run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("smp_feedback.errors.find_spec", lambda name: None if name == "skimage" else object())
    line = ["fit", "--config", str(run / "run.yaml"), "--out", str(tmp_path / "out"), "--monitor", "val_cldice"]
    assert main([*line, "--model.encoder", "none-such"]) == 2
    assert 'pip install "smp_feedback[topology]"' in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
