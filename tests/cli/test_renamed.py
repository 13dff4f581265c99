"""What used to be called otherwise still works, typed and in files, of runs too, and says what it is called now."""

from __future__ import annotations

import json

import pytest
import yaml

pytest.importorskip("lightning")

from smp_feedback.cli.experiments import OF_DATA
from smp_feedback.cli.main import main
from smp_feedback.cli.renamed import OF_EXPERIMENTS, OF_FIT, current, nested
from smp_feedback.experiments.ablation.settings import AblationSettings
from smp_feedback.experiments.comparison.settings import ComparisonSettings
from smp_feedback.experiments.films.settings import FilmSettings
from smp_feedback.experiments.store import claim
from smp_feedback.training.same_settings import of_any_version

OLD = {"data": "mazes", "size": 5, "data_options": {"scale": 2}, "images": [8], "batch_size": 2, "augment": "none"}
NEW = {"name": "mazes", "size": 5, "options": {"scale": 2}, "train_count": [8], "batch_size": 2, "augment": "none"}


@pytest.fixture
def asked(monkeypatch):
    """The settings of the experiments that are asked for."""
    found = []
    monkeypatch.setattr("smp_feedback.cli.experiments.aloud", lambda _, settings, *__, **___: found.append(settings))
    return found


def test_old_and_new_words_are_the_same_settings(asked, tmp_path, capsys):
    for name, settings in (("old", {**OLD, "seeds": 2}), ("new", {"data": NEW, "seeds": 2})):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        assert main(["compare", "--config", str(path)]) == 0
        said = capsys.readouterr().err
        assert ("the old word still works" in said) == (name == "old")
    typed = "--data mazes --size 5 --data_options {scale:\\ 2} --images 8 --batch_size=2 --augment none --seeds 2"
    assert main(["compare", *typed.replace("\\ ", "\0").replace(" ", "\n").replace("\0", " ").split("\n")]) == 0
    assert "smp-feedback: images is called data.train_count now" in capsys.readouterr().err
    assert asked[0] == asked[1] == asked[2]
    assert (asked[0].data, asked[0].train_count, asked[0].data_options) == ("mazes", [8], {"scale": 2})


@pytest.mark.parametrize("settings", [ComparisonSettings, FilmSettings, AblationSettings])
def test_every_setting_of_the_data_has_its_name_in_the_group(settings):
    assert {name for name in OF_DATA if name != "images"} <= {*settings.__dataclass_fields__}
    assert "images" not in settings.__dataclass_fields__


def test_what_is_in_a_file_keeps_its_value_to_the_letter(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("data: mazes\nlr: 1e-3\nfeedback: {steps: 2}\ndata_options: {1: a, b: [yes, '2']}\n")
    [verb, flag, text] = current(["compare", "--config", str(path)], say=lambda said: None)
    assert (verb, flag) == ("compare", "--config")
    now = yaml.safe_load(text)
    assert now["data"] == {"name": "mazes", "options": {1: "a", "b": [True, "2"]}}
    assert float(now["lr"]) == 1e-3


def test_words_of_today_are_left_alone(tmp_path):
    path = tmp_path / "new.yaml"
    path.write_text(json.dumps({"data": NEW}))
    words = ["compare", "--config", str(path), "--data.size", "5", "--images+", "3"]
    assert current(words, say=pytest.fail) == words
    assert current(["predict", "--images", "photos"], say=pytest.fail) == ["predict", "--images", "photos"]
    data = tmp_path / "data.yaml"
    data.write_text("name: mazes")
    for value in (str(data), "{name: mazes}"):
        assert current(["fit", "--data", value], say=pytest.fail) == ["fit", "--data", value]
    assert nested({"data": {"name": "folder", "options": {"images": "a"}}}, OF_FIT, pytest.fail)
    assert nested({"seeds": 3}, OF_EXPERIMENTS, pytest.fail) == {"seeds": 3}


def test_a_word_is_said_once_whatever_how_often_it_is_typed():
    said = []
    assert current(["fit", "--data.images", "4", "--data.images", "5", "--data", "camvid"], say=said.append)[1:] == [
        *("--data.train_count", "4", "--data.train_count", "5"),
        *("--data.name", "camvid"),
    ]
    assert said == [
        "data.images is called data.train_count now; the old word still works.",
        "data is called data.name now; the old word still works.",
    ]


def test_the_settings_of_an_old_run_and_of_an_old_experiment_go_on(tmp_path):
    told = of_any_version({"data": {"name": "camvid", "images": 4}})
    assert told["data"] == {"normalise": "none", "name": "camvid", "train_count": 4}
    now = ComparisonSettings(train_count=[4]).to_dict()
    old = {"images" if name == "train_count" else name: value for name, value in now.items()}
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/one.json").write_text("{}")
    (tmp_path / "settings.json").write_text(json.dumps(old))
    claim(tmp_path, now, "a comparison")
    assert json.loads((tmp_path / "settings.json").read_text()) == now
