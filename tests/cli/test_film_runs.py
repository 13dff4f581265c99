"""``smp-feedback fit --data.clip``: a run on films, what it says and leaves, and the verbs that take it up."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

pytest.importorskip("lightning")
pytest.importorskip("torchmetrics")
import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.cli.subcommands import with_settings_of_a_run
from smp_feedback.data import open_dataset

EXAMPLE = Path(__file__).parents[2] / "examples" / "film.yaml"
SMALL = (
    "--model.arguments '{width: 4, depth: 2}' --data.size 16 --data.options '{frames: 4, count: 12, noise: 0.1}' "
    "--data.clip 3 --data.batch_size 2 --trainer.max_steps 2 --trainer.val_check_interval 2 --trainer.accelerator cpu "
    "--trainer.enable_progress_bar false"
)


def smp_feedback(line):
    return main(shlex.split(line))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The folder of a run, by the settings of the example."""
    out = tmp_path_factory.mktemp("film") / "out"
    assert smp_feedback(f"fit --config {EXAMPLE} {SMALL} --out {out}") == 0
    return out


def logged(out):
    with (out / "csv/version_0/metrics.csv").open() as file:
        return next(row for row in csv.DictReader(file) if row.get("val_miou"))


def test_a_run_says_what_its_clips_are_and_what_carrying_is_worth(fitted, tmp_path, capsys):
    assert smp_feedback(f"fit --config {fitted}/config.yaml --out {tmp_path / 'again'}") == 0
    printed = capsys.readouterr().out
    assert "train: 6 clips of 3 frames, of 3 films of 4; val: 3 films of 4, one look a frame" in printed
    assert "frames on their own: " in printed
    assert "one look a frame, carried on: " in printed
    assert "Cuts are changes of the state above " in printed
    first, again = (torch.load(f / "last.ckpt", weights_only=True)["state_dict"] for f in (fitted, tmp_path / "again"))
    assert all(torch.equal(value, again[key]) for key, value in first.items())


def test_the_threshold_of_cuts_is_saved_with_the_model(fitted):
    model = smpf.from_pretrained(fitted / "model")
    assert model.loop_config.cut > 0
    assert yaml.safe_load((fitted / "config.yaml").read_text())["learn_cut"] is True


def test_a_run_begins_anew_at_cuts_as_its_saved_model_does(fitted, tmp_path, capsys):
    for k in range(4):
        Image.fromarray(np.full((16, 16, 3), 60 * k, np.uint8)).save(tmp_path / f"{k}.png")
    told = f"--images {tmp_path} --film true --reset auto --out"
    assert smp_feedback(f"predict --run {fitted} {told} {tmp_path / 'a.mp4'}") == 0, capsys.readouterr().err


def test_films_are_scored_by_one_look_a_frame(fitted, tmp_path):
    row = logged(fitted)
    assert not any("look_" in name for name in row)
    assert smp_feedback(f"validate --run {fitted} --out {tmp_path}") == 0
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["looks"] == [pytest.approx(float(row["val_miou"]), abs=1e-6)]
    model = smpf.from_pretrained(fitted / "model")
    data = open_dataset("moving", "val", size=16, frames=4, count=12, noise=0.1)
    scores = smpf.evaluation.films.evaluate_films(model, data, classes=5)
    assert scores.miou == pytest.approx(found["looks"][0], abs=1e-6)


def test_each_frame_of_the_test_films_is_predicted_for(fitted, tmp_path, capsys):
    assert smp_feedback(f"predict --run {fitted} --out {tmp_path}") == 0
    assert len(list(tmp_path.glob("*.png"))) == 12
    assert smp_feedback(f"predict --run {fitted} --steps 2 --out {tmp_path}") == 2
    assert "--steps 2: a film (data.clip) has one look a frame" in capsys.readouterr().err


def test_a_run_goes_on_with_its_own_clips_alone(fitted, capsys):
    assert smp_feedback(f"fit --resume {fitted} --data.clip 4") == 2
    assert "data.clip=4: the run to resume has data.clip=3" in capsys.readouterr().err
    assert smp_feedback(f"fit --resume {fitted} --model.truncate null") == 2
    assert "model.truncate=None: the run to resume has model.truncate=1" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["score", "restore"])
def test_what_is_built_around_the_model_of_a_film_learns_from_images(fitted, verb):
    told = with_settings_of_a_run([verb, "train", "--base", str(fitted)])
    data = json.loads(told[told.index("--config") + 1])["data"]
    assert data["name"] == "moving"
    assert not {"clip", "clip_stride"} & data.keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--data.clip 0", "clip=0: expected a whole number >= 1"),
        ("--data.clip 5", "clip=5: the longest film of train has 4 frames"),
        ("--data.clip null --data.clip_stride 2", "clip_stride=2 without clip"),
        ("--data.clip null", "learn_cut=True learns where a state that is carried on"),
        (
            "--model.feedback.dynamics decay --model.feedback.projection softmax",
            "take feedback.dynamics of gated, leaky",
        ),
        ("--model.steps 3", "steps=3 says which looks of an image learn"),
        ("--model.free_steps 3", "free_steps=3 of clips of 3 frames leaves none"),
        ("--data.options '{frames: 12, count: 12}'", "there is 1: expected two"),
        ("--data.name polygons --data.options null", "clip=3: val is a Polygons"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(words, said, tmp_path, capsys):
    assert smp_feedback(f"fit --config {EXAMPLE} {SMALL} {words} --out {tmp_path / 'out'}") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_check_says_what_clips_there_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert smp_feedback(f"check --config {EXAMPLE} {SMALL} --data.clip_stride 2") == 0
    printed = capsys.readouterr().out
    assert "train: 3 clips of 3 frames, of 3 films of 4; val: 3 films of 4, one look a frame; test" in printed
    assert yaml.safe_load(Path("run.yaml").read_text())["data"]["clip"] == 3
    assert smp_feedback(f"check --config {EXAMPLE} {SMALL} --data.name one_polygon --data.options '{{count: 4}}'") == 2
    assert "clip=3: train is a OnePolygon of images that belong to no films" in " ".join(
        capsys.readouterr().out.split()
    )
