"""``smp-feedback restore train --data.clip``: from films through moving air to a model that looks once a frame."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.data import MovingShapes
from smp_feedback.data.triplets import distorted
from smp_feedback.evaluation.films import evaluate_films
from smp_feedback.loops.looking import carries
from smp_feedback.training.distortion import Distortion, open_triplets

TOLD = {
    "seed": 1,
    "model": {
        "encoder": "tu-test_resnet.r160_in1k",
        "encoder_weights": None,
        "arguments": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    },
    "restoration": {"depth": 2, "filters": 4, "carry": "mean", "weight": "learnt"},
    "data": {"name": "moving", "size": 16, "batch_size": 2, "clip": 2, "options": {"frames": 3, "count": 6}},
    "distortion": {"name": "shimmer", "severity": 5},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
}


def smp_feedback(line):
    return main(shlex.split(line))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filmed")
    (folder / "told.yaml").write_text(json.dumps(TOLD))
    assert smp_feedback(f"restore train --config {folder}/told.yaml --out {folder}/out") == 0
    return folder / "out"


def test_a_run_on_films_is_scored_on_whole_films_besides(trained, capsys):
    out = trained.parent / "scores"
    assert smp_feedback(f"restore evaluate --run {trained} --out {out} --accelerator cpu") == 0
    told = capsys.readouterr().out
    assert "one look a frame" in told.replace("\n", " ")
    assert f"wrote {out}/films.json" in told
    model = smpf.from_pretrained(trained / "model")
    assert (model.loop_config.carry, model.loop_config.weight) == ("mean", "learnt")
    assert carries(model)
    told = {key: value for key, value in TOLD["data"].items() if key != "clip"}
    data, facts = open_triplets("test", 1, Distortion(**TOLD["distortion"]), **told)
    expected = evaluate_films(model, distorted(data.test), classes=len(facts.classes))
    (row,) = json.loads((out / "films.json").read_text())["rows"]
    assert row["miou"] == pytest.approx(expected.miou)
    assert (out / "scores.json").is_file()


def test_its_model_answers_the_frames_of_a_film(trained, tmp_path, capsys):
    (tmp_path / "frames").mkdir()
    images = [image for image, _ in MovingShapes("test", frames=3, count=3, size=16)]
    for t, image in enumerate(images):
        pixels = (255 * image).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "frames" / f"{t}.png")
    told = f"--images {tmp_path}/frames --film true --out {tmp_path}/maps --trainer.accelerator cpu"
    assert smp_feedback(f"predict --run {trained}/model {told}") == 0
    model, step = smpf.from_pretrained(trained / "model").eval(), None
    for t, image in enumerate(images):
        with torch.no_grad():
            step = model.look((255 * image).round()[None] / 255, step)
        written = np.array(Image.open(tmp_path / "maps" / f"{t}.png").convert("P"))
        assert np.array_equal(written, step.logits.argmax(1)[0].numpy())


def test_clips_of_a_loop_that_begins_anew_are_refused_before_a_run(trained, tmp_path, capsys):
    assert smp_feedback(
        f"restore train --config {trained.parent}/told.yaml --restoration.carry null --out {tmp_path}/out"
    )
    assert "begins anew with every image" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
    kept = yaml.safe_load((trained / "config.yaml").read_text())
    assert kept["data"]["clip"] == 2
