"""``smp-feedback repair train | evaluate``: from a trained base to masks that are mended, and what is refused."""

from __future__ import annotations

import json
import shlex

import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.data import open_dataset
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation import evaluate_repair, load_result
from smp_feedback.training.facts import Facts
from smp_feedback.training.fitted_runs import fitted_by
from smp_feedback.training.run_end import next_commands
from smp_feedback.training.trained_base import closed_base

BASE = {
    "seed": 1,
    "model": {"arch": "PlainConv", "feedback": False, "arguments": {"width": 4}},
    "data": {"name": "polygons", "size": 16, "batch_size": 4, "augment": "none", "options": {"count": 8}},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
}
REPAIR = {
    "repair": {"steps": 4, "width": 4, "channels": 1},
    "training": {"steps": [1, 2], "free_steps": [0, 2], "pool": 4},
    "data": {"batch_size": 4},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
}


def smp_feedback(line):
    return main(shlex.split(line))


def settings(path, told):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told))  # JSON is YAML
    return path


def run_folder(folder, model, data=BASE["data"]):
    """What fit leaves of *model*, without the training."""
    told = {"encoder": None, "base_norm": None, **BASE["model"]}
    settings(folder / "config.yaml", {"model": told, "data": data, "seed": 0})
    weights = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": weights}, folder / "last.ckpt")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a run of fit."""
    plain = smpf.create("PlainConv", classes=6, feedback=False, width=4)
    return run_folder(tmp_path_factory.mktemp("base"), plain)


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """The folder of a run of repair train."""
    folder = tmp_path_factory.mktemp("trained")
    config = settings(folder / "told.yaml", REPAIR)
    assert smp_feedback(f"repair train --base {base} --config {config} --out {folder}/out") == 0
    return folder / "out"


def test_a_run_leaves_the_base_in_a_model_that_mends(base, trained):
    model = smpf.from_pretrained(trained / "model")
    plain = torch.load(base / "last.ckpt", weights_only=True)["state_dict"]
    assert model.loop_config.steps == 4
    for key, value in model.feedforward_state_dict().items():
        assert torch.equal(value, plain[f"model.{key}"]), key
    assert model.feedback.net.head.weight.any(), "it has learned nothing"
    assert (trained / "best.ckpt").is_file()


def test_what_is_evaluated_is_what_the_library_finds(trained, tmp_path, capsys):
    line = f"repair evaluate --run {trained} --accelerator cpu --looks [1,8] --split val --topology true"
    assert smp_feedback(f"{line} --out {tmp_path}/out") == 0
    printed = capsys.readouterr().out
    model = smpf.from_pretrained(trained / "model")
    images = open_dataset("polygons", "val", size=16, count=8, seed=1)
    found = evaluate_repair(model, images, classes=6, looks=[1, 8], batch_size=4, topology=True)
    kept = load_result(tmp_path / "out" / "scores.json")
    assert {row["model"]: row["score"] for row in kept["rows"]} == {
        name: pytest.approx(score.score) for name, score in found.answers.items()
    }
    assert {row["model"]: row["cldice"] for row in kept["rows"]} == {
        name: pytest.approx(score.metrics["cldice"]) for name, score in found.answers.items()
    }
    rows = (tmp_path / "out" / "images.csv").read_text().splitlines()
    assert len(rows) == 1 + len(images), "of the model's own answer, after the most looks"
    for word in ("clDice", "breaks", "base", "1 look", "8 looks", "mIoU", "scores.json", "pictures.png"):
        assert word in printed
    assert max(map(len, printed.splitlines()[:12])) <= 80


def test_who_asks_a_run_for_answers_is_told_what_gives_them(trained, tmp_path, capsys):
    assert smp_feedback(f"predict --run {trained} --images {tmp_path}") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"is a run of repair train; its model answers: --run {trained}/model, with --images." in said
    photo = tmp_path / "photo.png"
    Image.new("RGB", (16, 16), (9, 99, 9)).save(photo)
    words = next_commands("repair", trained)[1].split()[1:]
    assert words[-1] == "PHOTOS"
    assert main([*words[:-1], str(photo), "--out", str(tmp_path / "answers")]) == 0
    assert (tmp_path / "answers" / "photo.png").is_file()


def test_a_base_that_is_none_is_refused_in_words(trained, tmp_path, capsys):
    facts = Facts(tuple("abcdef"), None, "segmentation", (3, 16, 16))
    for folder, words in (
        (trained, "a run of repair train, repaired already"),
        (trained / "model", "repair loop already"),
    ):
        with pytest.raises(InvalidValue, match=words):
            closed_base(folder, smpf.Repair(), facts)
    for line, words in (
        ("repair train", "What is to be mended?"),
        (f"repair evaluate --run {trained} --beside {trained}", "expected the --out of score train"),
    ):
        assert smp_feedback(f"{line} --out {tmp_path}/{len(words)}") == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_what_the_data_cannot_teach_is_refused_before_there_is_a_run(base, tmp_path, capsys):
    config = settings(tmp_path / "told.yaml", REPAIR)
    waits = '{"loss": "mixture", "loss_arguments": {"terms": ["dice", {"name": "dice", "from_look": 9}]}}'
    for told, words in (
        ("--training.pool 3", "a slot for each image of a batch of 4"),
        (f"--training '{waits}'", "from_look=9: training comes to 4 looks"),
    ):
        out = tmp_path / "out"
        assert smp_feedback(f"repair train --base {base} --config {config} {told} --out {out}") == 2
        assert words in " ".join(capsys.readouterr().err.split())
        assert not out.exists()


# --- cross-fitting by runs


@pytest.fixture
def parted(tmp_path):
    """Six images with masks, in no split."""
    for k in range(6):
        for kind, mode, value in (("imgs", "RGB", (40 * k, 0, 0)), ("masks", "L", k % 2)):
            path = tmp_path / "data" / kind / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (8, 6), value).save(path)
    return tmp_path


def fold(parted, k, folds=3):
    """A run of fit on two folds of three."""
    model = smpf.create("PlainConv", classes=2, feedback=smpf.Recurrent(steps=1), width=4)
    options = {"images": "imgs", "masks": "masks", "classes": ["a", "b"]}
    data = {"name": "folder", "root": str(parted / "data"), "folds": folds, "fold": k, "options": options}
    folder = run_folder(parted / f"fold{k}", model, data)
    model.save_pretrained(folder / "model")
    return folder


def test_each_image_is_answered_by_a_run_that_left_it_out(parted):
    runs = [fold(parted, k) for k in range(3)]
    told = {"root": parted / "data", "images": "imgs", "masks": "masks", "classes": ["a", "b"]}
    train = open_dataset("folder", "all", **told)
    model = smpf.create("PlainConv", classes=2, feedback=smpf.Repair(width=4))
    fitted = fitted_by(runs, train, model)
    for i, k in enumerate(fitted.folds):
        left_out = open_dataset("folder", "val", **told, folds=3, fold=k)
        assert train.name(i) in [left_out.name(j) for j in range(len(left_out))]
    with pytest.raises(InvalidValue, match=r"learnt from .*png; expected for each training image a run that did not"):
        fitted_by(runs[:2], train, model)
    with pytest.raises(InvalidValue, match="answers 2 channels, the base 3"):
        fitted_by(runs, train, smpf.create("PlainConv", classes=3, feedback=smpf.Repair(width=4)))


def test_runs_on_drawn_images_cannot_answer_for_others(base):
    with pytest.raises(InvalidValue, match="are no files"):
        fitted_by([base], [], smpf.create("PlainConv", classes=6, feedback=smpf.Repair(width=4)))
