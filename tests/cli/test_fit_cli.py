"""``smp-feedback fit | validate | test | predict``: one run, its files, and what is refused before any."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

pytest.importorskip("lightning")
import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.cli.subcommands import with_settings_of_a_run
from smp_feedback.errors import InvalidValue, UnknownKeyword, UnknownName
from smp_feedback.training import build as settings
from smp_feedback.training.checkpoints import KeepsBest
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.opening import open_pairs

SMALL = {
    "seed": 1,
    "model": {
        "encoder": "tu-test_resnet.r160_in1k",
        "encoder_weights": None,
        "feedback": {"steps": 2},
        "arguments": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    },
    "data": {"name": "polygons", "size": 32, "batch_size": 4, "train_count": 8, "augment": "flip"},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
}


def logged(out):
    """The first row of the log that has a score."""
    with (out / "csv/version_0/metrics.csv").open() as file:
        return next(row for row in csv.DictReader(file) if row["val_miou"])


def smp_feedback(line, **names):
    return main([word.format(**names) for word in shlex.split(line)])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A config file; JSON is YAML."""
    path = tmp_path_factory.mktemp("config") / "run.yaml"
    path.write_text(json.dumps(SMALL))
    return path


@pytest.fixture(scope="module")
def fitted(config, tmp_path_factory):
    """The folder of a run."""
    out = tmp_path_factory.mktemp("fitted") / "out"
    more = "--model.supervise mean --model.optimizer torch.optim.SGD --model.optimizer.lr 0.1 --early_stopping 3"
    assert smp_feedback(f"fit --config {config} --out {out} {more}") == 0
    return out


def test_a_run_leaves_all_that_it_says(fitted, config, tmp_path, capsys):
    assert smp_feedback("fit --config {config} --out {out}", config=config, out=tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "T = 2" in printed
    for name in ("config.yaml", "last.ckpt", "best.ckpt", "csv/version_0/metrics.csv", "tensorboard/", "model"):
        assert f"wrote {tmp_path / 'out' / name}" in printed
        assert (tmp_path / "out" / name).exists()
    assert list((fitted / "tensorboard").glob("events*"))


def test_the_log_scores_every_look(fitted):
    scored = logged(fitted)
    assert scored["val_miou"] == scored["val_miou/look_2"]
    assert 0 <= float(scored["val_miou/look_1"]) <= 1


def test_the_model_that_is_left_has_the_best_weights(fitted):
    model = smpf.from_pretrained(fitted / "model")
    best = torch.load(fitted / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, best[f"model.{key}"]) for key, value in model.state_dict().items())


def test_a_word_overrides_the_file_and_the_config_says_all(fitted):
    import yaml

    kept = yaml.safe_load((fitted / "config.yaml").read_text())
    assert kept["model"]["supervise"] == "mean"
    assert kept["model"]["optimizer"]["init_args"]["lr"] == 0.1
    assert kept["data"]["size"] == 32
    assert not {"out", "resume", "config"} & kept.keys(), "another run from it goes elsewhere"


def test_a_config_repeats_its_run(fitted, tmp_path):
    assert smp_feedback(f"fit --config {fitted}/config.yaml --out {tmp_path}/again") == 0
    first, again = (torch.load(f / "last.ckpt", weights_only=True)["state_dict"] for f in (fitted, tmp_path / "again"))
    assert all(torch.equal(value, again[key]) for key, value in first.items())


def test_validate_prints_a_table_of_classes_and_looks(fitted, tmp_path, capsys):
    assert smp_feedback(f"validate --run {fitted} --out {tmp_path}") == 0
    printed = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in printed.splitlines() if line.startswith("│")}
    assert {"background", "mIoU", "solved"} <= rows.keys()
    found = json.loads((tmp_path / "scores.json").read_text())
    assert [float(cell) for cell in rows["mIoU"]] == pytest.approx([100 * look for look in found["looks"]], abs=0.06)
    assert [float(cell) for cell in rows["solved"]] == pytest.approx([100 * part for part in found["solved"]], abs=0.06)
    row = logged(fitted)
    assert found["looks"] == pytest.approx([float(row[f"val_miou/look_{t}"]) for t in (1, 2)], abs=1e-6)
    assert found["solved"] == [float(row[f"val_solved/look_{t}"]) for t in (1, 2)]
    assert len(printed.splitlines()[0]) <= 80
    for name in ("classes", "confusion", "images"):
        assert f"wrote {tmp_path}/{name}.csv" in printed
    for name, value in found["metrics"].items():
        assert value == pytest.approx(float(row[f"val_{name}"]), abs=1e-6), "as training logged it"
        low, high = found["intervals"][name]
        assert low <= value <= high
    with (tmp_path / "images.csv").open() as file:
        images = list(csv.DictReader(file))
    assert len(images) == 200
    assert "dice/pentagon" in images[0]
    dice = [f"{100 * value:.1f}" for value in found["class_metrics"]["dice"]]
    assert [rows[name][1].strip() for name in found["classes"]] == dice


def test_a_run_keeps_the_weights_that_are_best_by_what_is_watched(config, tmp_path, capsys):
    words = "--monitor precision/background --samples_every 1 --trainer.max_epochs 2"
    assert smp_feedback(f"fit --config {config} --out {tmp_path} {words}") == 0
    printed = capsys.readouterr().out
    with (tmp_path / "csv/version_0/metrics.csv").open() as file:
        scores = [float(row["val_precision/background"]) for row in csv.DictReader(file) if row["val_miou"]]
    best = max(range(2), key=scores.__getitem__)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == best
    assert f"best: epoch {best + 1}, precision background {100 * scores[best]:.1f} on the validation" in printed
    assert printed.splitlines()[-3] == f"next: smp-feedback test --run {tmp_path}"
    assert printed.splitlines()[-1].split() == ["smp-feedback", "export", f"{tmp_path}/model", "model.onnx"]


def test_test_scores_other_images(fitted, tmp_path, capsys):
    assert smp_feedback(f"test --run {fitted} --weights last --out {tmp_path}") == 0
    assert "last.ckpt, test" in " ".join(capsys.readouterr().out.split())


def test_predict_writes_a_label_map_named_after_each_image(fitted, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    for name in ("b.png", "a.jpg"):
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    where = f"--images {tmp_path}/in --out {tmp_path}/out"
    assert smp_feedback(f"predict --run {fitted} {where} --looks true --uncertainty true") == 0
    kinds = ("", ".look_1", ".look_2", ".uncertainty")
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {f"{n}{kind}.png" for n in "ab" for kind in kinds} | {"summary.csv"}
    model = smpf.from_pretrained(fitted / "model").eval()
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        logits = model(image)[0]
    with Image.open(tmp_path / "out" / "b.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), logits.argmax(0))
    p = logits.double().softmax(0)
    with Image.open(tmp_path / "out" / "b.uncertainty.png") as picture:
        wanted = -(p * p.log()).sum(0) / np.log(len(p)) * 255
        np.testing.assert_allclose(np.asarray(picture), wanted, atol=0.51)
    assert f"to {tmp_path}/out" in capsys.readouterr().out


def test_predict_without_images_takes_the_test_split(fitted, tmp_path):
    assert smp_feedback(f"predict --run {fitted} --out {tmp_path} --data.options '{{{{count: 5}}}}'") == 0
    assert len(list(tmp_path.glob("*.png"))) == 5


def test_print_config_shows_every_key_and_runs_nothing(config, capsys):
    with pytest.raises(SystemExit) as end:
        smp_feedback(f"fit --config {config} --model.lr 0.5 --print_config")
    assert end.value.code == 0
    printed = capsys.readouterr().out
    for line in ("  lr: 0.5", "  arch: Unet", "  max_epochs: 1", "  corruption: null"):
        assert line in printed.splitlines()


def test_a_run_is_not_trained_over(fitted, config, capsys):
    assert smp_feedback(f"fit --config {config} --out {fitted}") == 2
    assert f"--resume {fitted}" in capsys.readouterr().err


def test_a_finished_run_resumed_stays_as_it_is(fitted):
    before = torch.load(fitted / "best.ckpt", weights_only=True)["state_dict"]
    assert smp_feedback(f"fit --resume {fitted}") == 0
    after = torch.load(fitted / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize(
    "word",
    ["model.lr 0.5", "model.feedback.steps 3", "data.augment none", "trainer.max_epochs 9", "monitor val_dice"],
)
def test_a_run_goes_on_with_its_own_settings(word, fitted, capsys):
    before = (fitted / "config.yaml").read_text()
    assert smp_feedback(f"fit --resume {fitted} --{word}") == 2
    assert "the run to resume has " + word.split()[0].replace(".steps", "") in capsys.readouterr().err
    assert (fitted / "config.yaml").read_text() == before


def test_a_resume_that_the_checkpoint_refuses_changes_no_settings(fitted, monkeypatch, capsys):
    before = (fitted / "config.yaml").read_text()

    def refuses(self, kept):
        raise InvalidValue("the order of this epoch is lost.")

    monkeypatch.setattr(PairsModule, "load_state_dict", refuses)
    assert smp_feedback(f"fit --resume {fitted} --save_every 7") == 2
    assert "the order of this epoch is lost" in capsys.readouterr().err
    assert (fitted / "config.yaml").read_text() == before


def test_a_run_that_stopped_early_stays_so_until_it_is_asked_for_patience(config, tmp_path):
    def steps():
        return torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"]

    same = (
        "--model.feedback false --model.base_norm group --model.lr 1e-20 --trainer.max_epochs 4"  # score of each epoch
    )
    assert smp_feedback(f"fit --config {config} --out {tmp_path} --early_stopping 1 {same}") == 0
    assert steps() == 4, "two epochs of two steps"
    assert smp_feedback(f"fit --resume {tmp_path}") == 0
    assert steps() == 4
    assert smp_feedback(f"fit --resume {tmp_path} --early_stopping 9 --data.workers 1") == 0
    assert steps() == 8
    assert "workers: 1" in (tmp_path / "config.yaml").read_text(), "how a run is run may change"


def test_looks_are_drawn_as_words_and_files_say(tmp_path):
    settings = {**SMALL, "model": {**SMALL["model"], "steps": [1, 2], "feedback": {"steps": 2, "dynamics": "leaky"}}}
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    words = "--model.free_steps '[0, 3]' --model.segments 2 --model.supervise drawn --trainer.gradient_clip_val 1"
    assert smp_feedback(f"fit --config {tmp_path}/run.yaml {words} --out {tmp_path}/out") == 0
    kept = yaml.safe_load((tmp_path / "out/config.yaml").read_text())["model"]
    assert (kept["steps"], kept["free_steps"], kept["segments"]) == ([1, 2], [0, 3], 2)
    state = torch.load(tmp_path / "out/last.ckpt", weights_only=True)
    assert state["global_step"] == 4, "two batches, two steps each"
    assert smp_feedback(f"fit --resume {tmp_path}/out --model.steps 2") == 2


def test_a_run_goes_on_with_what_its_preset_meant_when_it_began(restored, tmp_path, capsys):
    told = {**SMALL, "model": {**SMALL["model"], "feedback": "mine"}, "data": {**SMALL["data"], "train_count": 4}}
    (tmp_path / "run.yaml").write_text(json.dumps(told))
    before = restored.presets.copy()
    smpf.register_preset("mine", {"steps": 2, "dynamics": "leaky", "tau": 4.0})
    assert smp_feedback(f"fit --config {tmp_path}/run.yaml --out {tmp_path}/out") == 0
    whole = torch.load(tmp_path / "out/last.ckpt", weights_only=True)["state_dict"]
    for name in ("last.ckpt", "best.ckpt"):  # killed before the first
        (tmp_path / "out" / name).unlink()
    restored.presets.replace(before)
    smpf.register_preset("mine", {"steps": 3, "tau": 2.0})
    assert smp_feedback(f"fit --resume {tmp_path}/out") == 0
    again = torch.load(tmp_path / "out/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, again[key]) for key, value in whole.items())
    loop = smpf.Recurrent(steps=2, dynamics="leaky", tau=4.0)
    assert smpf.from_pretrained(tmp_path / "out/model").loop_config == loop
    assert yaml.safe_load((tmp_path / "out/config.yaml").read_text())["model"]["feedback"] == loop.to_dict()
    capsys.readouterr()
    assert smp_feedback(f"fit --resume {tmp_path}/out --model.feedback mine") == 2
    assert "model.feedback.steps=3: the run to resume has model.feedback.steps=2" in capsys.readouterr().err


def test_what_a_killed_run_left_does_not_outlive_it(fitted, tmp_path):
    (tmp_path / "config.yaml").write_text((fitted / "config.yaml").read_text())
    for name in ("best.ckpt", ".last.ckpt.half"):  # killed after the first validation, in the first last.ckpt
        (tmp_path / name).write_bytes(b"not whole")
    assert smp_feedback(f"fit --resume {tmp_path}") == 0
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in fitted.iterdir()}
    ours, theirs = (torch.load(folder / "best.ckpt", weights_only=True)["state_dict"] for folder in (tmp_path, fitted))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_a_run_that_version_0_1_left_goes_on_to_the_weights_of_one_that_was_not_killed(tmp_path):
    """``data_saved/run_0_1`` was killed before its fourth batch of five."""
    left = Path(__file__).parents[1] / "data_saved/run_0_1"
    shutil.copytree(left, tmp_path / "resumed")
    assert smp_feedback(f"fit --resume {tmp_path}/resumed") == 0
    assert smp_feedback(f"fit --config {left}/config.yaml --out {tmp_path}/whole") == 0
    whole, resumed = (torch.load(tmp_path / n / "last.ckpt", weights_only=True) for n in ("whole", "resumed"))
    assert whole["global_step"] == resumed["global_step"] == 5
    assert whole["state_dict"].keys() == resumed["state_dict"].keys()
    for key, value in whole["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][key], value, msg=key)


def test_a_run_that_was_moved_knows_its_best_score(fitted, tmp_path):
    states = torch.load(fitted / "last.ckpt", weights_only=True)["callbacks"]
    state = next(one for key, one in states.items() if key.startswith("KeepsBest"))
    best = KeepsBest(tmp_path, "val_miou")
    best.load_state_dict(state)
    assert best.best_model_score == state["best_model_score"]
    assert best.best_model_path == best.kth_best_model_path == str(tmp_path.resolve() / "best.ckpt")
    assert list(best.best_k_models) == [best.best_model_path]


def test_every_seed_is_scored_on_the_same_corruption():
    told = {"size": 32, "corruption": "gaussian_noise", "options": {"count": 4}}
    one, other = (open_pairs("fit", seed, batch_size=1, **told)[0] for seed in (0, 1))
    assert torch.equal(one.val[0][0], other.val[0][0])
    assert not torch.equal(one.train[0][0], one.train[0][0])


@pytest.mark.parametrize("feedback", ["true", "false"])
def test_labels_are_learnt_by_a_classifier_of_timm(feedback, config, mnist, tmp_path, capsys):
    digits = f"--data.name torchvision/MNIST --data.root {mnist} --data.batch_size 2 --data.augment none"
    digits += " --data.train_count 2"
    line = f"fit --config {config} {digits} --model.feedback {feedback} --model.arguments null --out {tmp_path}"
    assert smp_feedback(f"{line}/map") == 2
    assert "labels want a classifier (arch: timm/<name>)" in capsys.readouterr().err
    assert smp_feedback(f"{line}/label --model.arch timm/test_resnet.r160_in1k --model.encoder null") == 0
    assert smp_feedback(f"test --run {tmp_path}/label --out {tmp_path}/scores") == 0
    assert "accuracy" in capsys.readouterr().out


def test_the_settings_of_a_run_come_before_all_words(fitted):
    words = with_settings_of_a_run(["test", f"--run={fitted}", "--data.size", "64"])
    assert words[:2] == ["test", "--config"]
    assert words[3:] == ["--run", str(fitted), "--data.size", "64"]
    assert "early_stopping" not in json.loads(words[2])


@pytest.mark.parametrize(
    ("training", "error"),
    [({"loss": "dise"}, UnknownName), ({"loss": "dice", "loss_arguments": {"smoth": 1.0}}, UnknownKeyword)],
)
def test_a_wrong_loss_is_told_before_the_base_is_built(training, error, monkeypatch):
    monkeypatch.setattr(settings, "create", lambda *args, **kwargs: pytest.fail("it was built"))
    with pytest.raises(error, match="Did you mean"):
        settings.build_module(settings.Facts(("a", "b"), None, "segmentation", (3, 64, 64)), **training)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fit --model.archh Unet", "Did you mean '--model.arch'"),
        ("fit --config '{{sede: 1}}'", "does not accept option 'sede'. Did you mean 'seed'?"),
        ("fit --model.arch Unett", "No architecture is called 'Unett'. Did you mean 'Unet'"),
        ("fit --model.encoder resnet1", "No encoder is called 'resnet1'"),
        ("fit --data.name polygon", "Did you mean 'polygons'"),
        ("fit --model.loss dise", "Did you mean 'dice'?"),
        ("fit --model.supervise middle", "last, mean, increasing"),
        ("fit --model.optimizer torch.optim.SGDD", "not torch.optim.SGDD"),
        ("fit --model.lr -1", "lr=-1.0: expected a number > 0"),
        ("fit --data.batch_size 0", "batch_size=0"),
        ("fit --data.train_count 0", "train_count=0"),
        ("fit --data.augment flop", "Did you mean 'flip' or 'flips'?"),
        ("fit --data.corruption rescaled", "No corruption is called 'rescaled'"),
        ("fit --data.name camvid", "root"),
        ("fit --data.name camvid --data.root {tmp}/none", "{tmp}/none"),
        ("fit --out /proc/none", "/proc/none: it is no folder"),
        ("fit --trainer.max_epochs -3", "trainer: `max_epochs`"),
        ("fit --trainer.accelerator none", "trainer: "),
        ("fit --save_every 0", "save_every=0"),
        ("fit --early_stopping 0", "early_stopping=0"),
        ("fit --monitor val_dicee", "No score to monitor is called 'val_dicee'. Did you mean 'val_dice'"),
        ("fit --monitor precision/pentagn", "Did you mean 'val_precision/pentagon'"),
        ("fit --monitor val_miou/look_3", "val_miou/look_2"),
        ("fit --samples_every 0", "samples_every=0"),
        ("fit --monitor ../x", "There is: val_loss, val_miou, val_dice"),
        ("test --bootstrap -1", "bootstrap=-1"),
        ("test --bootstrap 1", "40 drawings at least"),
        ("fit --seed -1", "seed=-1"),
        (
            "fit --model.feedback.dynamics leaky --model.segments 2 --trainer.accumulate_grad_batches 2",
            "segments=2 does not accumulate gradients, as each segment takes a step",
        ),
        ("fit --model.steps '[16, 8]'", "steps=[16, 8]: expected low <= high."),
        ("fit --model.feedback false --model.free_steps 2", "free_steps=2 is for models that look again"),
        ("fit --resume {tmp}/none", "expected the folder of a run"),
        ("fit --model.arch timm/none", "No architecture is called 'timm/none'"),
        ("test", "Whose weights?"),
        ("test --run {tmp}/none", "expected the folder of a run"),
        ("validate --weights {tmp}/none.ckpt", "expected a checkpoint"),
        ("fit --base {tmp}", "--base"),
    ],
)
def test_what_is_wrong_is_one_line_before_any_work(line, says, config, tmp_path, capsys):
    verb, _, words = line.partition(" ")
    out = "" if "--out" in words else f"--out {tmp_path}/out"
    assert smp_feedback(f"{verb} --config {config} {out} {words}", tmp=tmp_path) == 2
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.count("\n") == 1
    assert says.format(tmp=tmp_path) in err
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "verb",
    [
        "fit --model.arch PlainConv --data.batch_size 1",
        "compare --arch PlainConv --data.batch_size 1 --data.train_count 1 --train_steps 1",
    ],
)
def test_one_class_alone_is_refused_before_any_training(verb, tmp_path, capsys):
    for k, split in enumerate(("train", "val", "test")):
        for name, picture in (split, np.full((8, 8, 3), k, np.uint8)), (f"{split}annot", np.zeros((8, 8), np.uint8)):
            (tmp_path / "d" / name).mkdir(parents=True)
            Image.fromarray(picture).save(tmp_path / "d" / name / "a.png")
    options = """'{"images": "{split}", "masks": "{split}annot", "classes": ["leaf"]}'"""
    told = f"--data.name folder --data.root {tmp_path}/d --data.size 8 --data.options {options} --out {tmp_path}/out"
    assert main(shlex.split(f"{verb} {told}")) == 2
    assert "classes [leaf]: every pixel is of the only class" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "d" not in path.parents]


def test_weights_of_another_model_are_refused(fitted, tmp_path, capsys):
    assert smp_feedback(f"test --run {fitted} --out {tmp_path} --model.feedback false") == 2
    assert "weights of another model" in capsys.readouterr().err


def test_a_traceback_is_there_for_those_who_ask(monkeypatch):
    monkeypatch.setenv("SMP_FEEDBACK_DEBUG", "1")
    with pytest.raises(smpf.errors.UnknownName):
        smp_feedback("fit --model.arch Unett")


@pytest.mark.sweep
def test_two_processes_train_and_score_as_one(config, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = f"fit --config {config} --out {tmp_path}/two --trainer.devices 2 --trainer.strategy ddp"
    command = [sys.executable, "-m", "smp_feedback", *shlex.split(line)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    written = [line for line in done.stdout.splitlines() if line.startswith("wrote ")]
    assert len(written) == len(set(written)) > 0, "one process speaks"
    assert "looks 1-2: " in done.stdout, "of all validation images, when the other process has ended"
    assert main(["validate", "--run", f"{tmp_path}/two", "--trainer.devices", "1", "--out", f"{tmp_path}/one"]) == 0
    row = logged(tmp_path / "two")
    alone = json.loads((tmp_path / "one/scores.json").read_text())
    assert alone["looks"] == pytest.approx([float(row[f"val_miou/look_{t}"]) for t in (1, 2)], abs=1e-6)
    assert alone["solved"] == pytest.approx([float(row[f"val_solved/look_{t}"]) for t in (1, 2)], abs=1e-6)
    line = f"validate --run {tmp_path}/two --out {tmp_path}/both"
    command = [sys.executable, "-m", "smp_feedback", *shlex.split(line)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "both/images.csv").read_text() == (tmp_path / "one/images.csv").read_text()
    predicted_alike(tmp_path, environment)


def predicted_alike(folder, environment):
    """Of the run ``two``, two processes write each of five images once, and all files that one process writes."""
    (folder / "photos").mkdir()
    for k in range(5):
        noise = np.random.default_rng(k).integers(0, 256, (32, 32 + 8 * (k % 2), 3), np.uint8)
        Image.fromarray(noise).save(folder / f"photos/{k}.png")
    line = f"predict --run {folder}/two --images {folder}/photos --data.batch_size 1 --probabilities npy --out "
    command = [sys.executable, "-m", "smp_feedback", *shlex.split(f"{line} {folder}/maps_of_two")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert smp_feedback(f"{line} {folder}/maps_of_one --trainer.devices 1") == 0
    two, one = (
        {path.name: path.read_bytes() for path in (folder / name).iterdir() if path.is_file()}
        for name in ("maps_of_two", "maps_of_one")
    )
    assert {f"{k}.png" for k in range(5)} <= one.keys()
    assert two.keys() == one.keys()
    assert [name for name in one if one[name] != two[name]] == []
    written = [word for word in done.stdout.splitlines() if word.startswith("wrote ")]
    assert len(written) == len(set(written)) > 0, "one process speaks"


@pytest.mark.sweep
def test_two_processes_draw_the_same_looks_and_learn_what_one_learns(tmp_path):
    settings = {**SMALL, "data": {**SMALL["data"], "augment": "none", "train_count": 12}}
    del settings["data"]["batch_size"]
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    looks = "--model.feedback.dynamics leaky --model.steps '[1, 3]' --model.free_steps '[0, 2]' --model.ema 0.9"
    rest = "--model.base_norm group --model.optimizer torch.optim.SGD --model.optimizer.lr 0.1"
    clip = "--trainer.gradient_clip_val 0.5"
    fit = f"fit --config {tmp_path}/run.yaml {looks} {rest} --model.segments 2 {clip}"
    two = f"{fit} --out {tmp_path}/two --data.batch_size 2 --trainer.devices 2 --trainer.strategy ddp"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "smp_feedback", *shlex.split(two)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert smp_feedback(f"{fit} --out {tmp_path}/one --data.batch_size 4") == 0
    alone, both = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("one", "two"))
    assert alone["global_step"] == both["global_step"] > 0
    for key, value in alone["current_model_state"].items():
        torch.testing.assert_close(both["current_model_state"][key], value, atol=1e-5, rtol=1e-3, msg=key)
