"""``smp-feedback clicks train | evaluate``."""

import json
import shlex
from pathlib import Path

import pytest
import torch
import yaml

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.evaluation import load_result

SHORT = (
    "--data.size 16 --data.train_count 4 --data.batch_size 2 --trainer.max_epochs 1 "
    "--trainer.accelerator cpu --trainer.enable_progress_bar false --trainer.logger false "
)
PLAIN = "--model.arch PlainConv --model.arguments '{{width: 8}}' "
STUDY = Path(__file__).parents[2] / "studies" / "clicks.yaml"
QUICK = "--training.clicks 2 --training.scored_clicks 2 --clicks.radius 2 --clicks.mask true "


def smp_feedback(line, **names):
    return main([word.format(**names) for word in shlex.split(line)])


def test_train_leaves_a_model_that_listens_and_evaluate_counts_its_clicks(tmp_path, capsys):
    train = "clicks train --out {out} " + PLAIN + QUICK + SHORT
    train += "--trainer.limit_val_batches 1"
    assert smp_feedback(train, out=tmp_path / "run") == 0
    assert "carries its state, reads the mask before, 1 look a click" in capsys.readouterr().out
    model = smpf.from_pretrained(tmp_path / "run" / "model")
    assert model.data_config.clicks == smpf.ClickConfig(radius=2, mask=True)
    assert model.data_config.channels == 3
    session = smpf.Clicks(model, torch.rand(3, 16, 16), prior=torch.ones(16, 16))
    assert session.click(4, 5).shape == (16, 16)

    score = "clicks evaluate --run {run} --out {out} --most 3 --accelerator cpu --data.options '{{count: 4}}'"
    assert smp_feedback(score, run=tmp_path / "run", out=tmp_path / "scores") == 0
    told = capsys.readouterr().out
    assert "IoU after 3 clicks" in told
    assert "NoC 85 %" in told
    (row,) = load_result(tmp_path / "scores" / "scores.json")["rows"]
    assert row["objects"] == 4
    assert len(row["iou"]) == 4
    assert 0 <= row["noc"]["80"] <= 3
    assert (tmp_path / "scores" / "scores-clicks.png").exists()
    assert smp_feedback(f"{score} --window 16", run=tmp_path / "run", out=tmp_path / "windows") == 2
    assert "--window 16. That is an option of validate, test, predict." in capsys.readouterr().err
    assert not (tmp_path / "windows").exists()


def test_what_has_other_classes_than_an_object_and_the_rest_is_refused(tmp_path, capsys):
    line = "clicks train --out {out} --data.name coloured_shapes " + PLAIN + SHORT
    assert smp_feedback(line, out=tmp_path / "run") == 2
    assert "expected masks of one object and the rest" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_verb_is_no_run_of_clicks(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(json.dumps({"model": {}, "data": {}, "trainer": {}, "seed": 0}))
    assert smp_feedback("clicks evaluate --run {run}", run=tmp_path) == 2
    assert "is no run of clicks train" in capsys.readouterr().err


def test_the_study_can_be_run(capsys):
    with pytest.raises(SystemExit) as ended:
        smp_feedback("clicks train --config {study} --print_config", study=STUDY)
    assert ended.value.code == 0
    told = yaml.safe_load(capsys.readouterr().out)
    assert told["clicks"] == smpf.ClickConfig(radius=3, mask=True).to_dict()
    assert told["training"]["clicks"] == [1, 10]
