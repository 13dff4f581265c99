"""What check takes and refuses is what fit takes and refuses."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
import yaml
from small_folders import OPTIONS, folder, mask, save

pytest.importorskip("lightning")
from smp_feedback.cli.main import main

SMALL = (
    "--model.encoder tu-test_resnet.r160_in1k --model.encoder_weights null --model.feedback false "
    "--model.arguments '{encoder_depth: 3, decoder_channels: [16, 8, 8]}' --trainer.logger false "
    "--trainer.max_steps 1 --trainer.accelerator cpu --trainer.enable_progress_bar false"
)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Where the verbs run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(verb, words="", **options):
    given = json.dumps({**OPTIONS, "ignore_index": 255, **options})
    whole = f"{verb} --data.name folder --data.root data --data.batch_size 2 --data.options '{given}' {words}"
    return main(shlex.split(whole))


def test_the_values_of_masks_are_told_by_a_setting(work, capsys):
    folder(work / "data", train=[mask(0, 200)] * 2, val=[mask(0, 200)])
    assert told("check", "--data.values '{200: 1}'", classes=["ground", "tree"]) == 0
    assert yaml.safe_load((work / "run.yaml").read_text())["data"]["values"] == {200: 1}
    assert main(["check", "--config", "run.yaml", "--overwrite"]) == 0
    assert capsys.readouterr().out.count("ready to train") == 2


@pytest.mark.parametrize(
    "words",
    [
        "--data.batch_size 0",
        "--data.workers -1",
        "--data.train_count 0",
        "--data.crop -1",
        "--data.augment foo",
        "--data.corruption foo",
        "--data.severity 9 --data.corruption gaussian_noise",
        "--data.normalise foo",
        "--data.normalise none --data.mean [0.5,0.5,0.5] --data.std [1,1,1]",
        "--data.mean [0.5,0.5,0.5]",
        "--data.mean [0.5] --data.std [1]",
        "--data.shared foo",
    ],
)
def test_check_refuses_the_settings_that_fit_refuses(words, work, capsys):
    folder(work / "data", train=[mask(0, 1, 2)] * 2, val=[mask(0, 1, 2)])
    statuses = [told("fit", f"{words} --out run {SMALL}"), told("check", words)]
    out, err = capsys.readouterr()
    assert statuses == [2, 2], out + err
    assert "ready to train" not in out.replace("not ready to train", "")


def test_images_are_predicted_as_those_were_read_that_were_trained_on(work):
    folder(work / "data", train=[mask(0, 1, 2, size=(32, 32))] * 2, val=[mask(0, 1, 2, size=(32, 32))])
    assert told("fit", f"--data.bands [2] --data.channels 3 --out run {SMALL}") == 0
    assert main(shlex.split("predict --run run --images data/val --out maps")) == 0


def test_four_channels_of_a_picture_with_alpha_are_predicted_too(work):
    for split, count in (("train", 2), ("val", 1)):
        for k in range(count):
            save(work / f"data/{split}/{k}.png", np.random.default_rng(k).integers(0, 255, (32, 32, 4), np.uint8))
            save(work / f"data/{split}annot/{k}.png", mask(0, 1, 2, size=(32, 32)))
    assert told("fit", f"--data.channels 4 --out run {SMALL}") == 0
    assert main(shlex.split("predict --run run --images data/val --out maps")) == 0


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_void_alone_is_refused_before_anything_is_trained(split, work, capsys):
    masks = {"train": [mask(0, 1, 2, size=(32, 32))] * 2, "val": [mask(0, 1, 2, size=(32, 32))]}
    folder(work / "data", **masks | {split: [mask(255, size=(32, 32))] * 2})
    assert [told("fit", f"--out run {SMALL}"), told("check")] == [2, 2]
    out, err = capsys.readouterr()
    assert f"{split}: every pixel of every mask is ignored (255)" in err
    assert f"error: {split}: " in out
    assert not (work / "run").exists()
