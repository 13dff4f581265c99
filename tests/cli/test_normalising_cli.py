"""How images are shown to a model, from ``fit`` to ``predict``; and predicting where the data are no more."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

pytest.importorskip("lightning")
import smp_feedback as smpf
from smp_feedback import DataConfig
from smp_feedback.cli.main import main
from smp_feedback.data import open_dataset
from smp_feedback.evaluation import evaluate, evaluate_score
from smp_feedback.evaluation.restoration_loop import evaluate_restoration
from smp_feedback.models.normalisation import given_config
from smp_feedback.training.facts import Facts
from smp_feedback.training.run_folder import kept_data
from smp_feedback.training.trained_base import closed_base

MEAN, STD = [0.3, 0.4, 0.5], [0.1, 0.2, 0.3]
LAYOUT = {"images": "{split}", "masks": "{split}annot", "classes": ["ground", "square"]}
TOLD = {
    "seed": 1,
    "model": {
        "encoder": "tu-test_resnet.r160_in1k",
        "encoder_weights": None,
        "feedback": {"steps": 2},
        "arguments": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    },
    "data": {"name": "folder", "size": 16, "batch_size": 2, "options": LAYOUT, "mean": MEAN, "std": STD},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "logger": False},
}
OLD_RUN = Path(__file__).parents[1] / "data_saved" / "run_0_1"


def smp_feedback(line):
    return main(line.split())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for i in range(3):
            mask = np.zeros((20, 24), np.uint8)
            mask[i : i + 9, 5:15] = 1
            image = rng.integers(0, 80, (20, 24, 3)).astype(np.uint8)
            image[mask > 0] += 120
            for folder, array in (split, image), (f"{split}annot", mask):
                (root / folder).mkdir(exist_ok=True)
                Image.fromarray(array).save(root / folder / f"f{i}.png")
    return root


@pytest.fixture(scope="module")
def config(root, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "run.yaml"
    path.write_text(json.dumps({**TOLD, "data": {**TOLD["data"], "root": str(root)}}))
    return path


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    assert smp_feedback(f"fit --config {config} --out {out}") == 0
    return out


def val(root):
    return open_dataset("folder", "val", root=root, size=16, **LAYOUT)


EXPECTED = DataConfig(mean=MEAN, std=STD, size=(16, 16), classes=("ground", "square"))


def test_a_run_and_its_model_say_all_of_the_data(run):
    assert kept_data(run) == EXPECTED
    assert smpf.from_pretrained(run / "model").data_config == EXPECTED
    kept = yaml.safe_load((run / "config.yaml").read_text())["data"]
    assert (kept["normalise"], kept["mean"]) == ("auto", MEAN)


def test_fit_says_how_images_are_shown(config, tmp_path, capsys):
    assert smp_feedback(f"fit --config {config} --out {tmp_path}/out --trainer.fast_dev_run false") == 0
    assert "less mean [0.3, 0.4, 0.5], over std [0.1, 0.2, 0.3]" in capsys.readouterr().out


def test_validate_scores_what_evaluate_scores(run, root, tmp_path):
    assert smp_feedback(f"validate --run {run} --out {tmp_path}") == 0
    written = json.loads((tmp_path / "scores.json").read_text())["looks"][-1]
    model = smpf.from_pretrained(run / "model")
    assert written == pytest.approx(evaluate(model, val(root), classes=2).last.score, abs=1e-6)
    best = torch.load(run / "best.ckpt", weights_only=True)
    assert best["callbacks"]
    model.data_config = DataConfig()
    raw = evaluate(model, val(root), classes=2).last
    model.data_config = EXPECTED
    assert raw.ece != pytest.approx(evaluate(model, val(root), classes=2).last.ece, abs=1e-4)


def test_predict_of_images_needs_no_data(run, root, tmp_path, monkeypatch, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(root / "val" / "f1.png", photos / "a.png")
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    told = yaml.safe_load((moved / "config.yaml").read_text())
    told["data"]["root"] = "/nowhere"
    (moved / "config.yaml").write_text(yaml.safe_dump(told))
    assert smp_feedback(f"predict --run {moved} --images {photos} --out {tmp_path}/out") == 0
    predicted = np.array(Image.open(tmp_path / "out" / "a.png"))
    model = smpf.from_pretrained(run / "model")
    image = model.preprocess(Image.open(photos / "a.png"))
    with torch.no_grad():
        logits = torch.nn.functional.interpolate(model(image[None]), (20, 24), mode="bilinear")
    assert (predicted == logits[0].argmax(0).numpy()).all()
    assert len(np.unique(predicted)) >= 1
    Image.new("LA", (16, 16), (3, 0)).save(photos / "b.png")
    assert smp_feedback(f"predict --run {moved} --images {tmp_path}/none --out {tmp_path}/no") == 2
    assert "expected an image or a folder" in capsys.readouterr().err


def test_predict_takes_a_saved_model_too(run, root, tmp_path, capsys):
    photo = root / "val" / "f2.png"
    told = "--trainer.accelerator cpu --trainer.logger false"
    for source in (run, run / "model"):
        assert smp_feedback(f"predict --run {source} --images {photo} --out {tmp_path / source.name} {told}") == 0
    one, other = (np.array(Image.open(tmp_path / name / "f2.png")) for name in (run.name, "model"))
    assert (one == other).all()
    assert smp_feedback(f"predict --run {run}/model --out {tmp_path}/no") == 2
    assert "give --images PATH, too" in capsys.readouterr().err


def test_images_of_other_channels_are_refused_in_one_line(root):
    from smp_feedback.errors import InvalidInput
    from smp_feedback.training.image_files import ImageFiles

    files = ImageFiles(root / "val" / "f0.png", 16, DataConfig(channels=5))
    with pytest.raises(InvalidInput, match=r"f0\.png has 3 channels: expected 5") as caught:
        files[0]
    assert "\n" not in str(caught.value)


def test_a_run_goes_on_as_it_began_and_with_no_other_normalisation(run, tmp_path, capsys):
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    assert smp_feedback(f"fit --resume {moved} --data.mean [0.5,0.5,0.5]") == 2
    assert "data.mean=[0.5, 0.5, 0.5]: the run to resume has data.mean=[0.3, 0.4, 0.5]" in capsys.readouterr().err
    assert smp_feedback(f"fit --resume {moved} --data.shared allow") == 0
    assert kept_data(moved) == EXPECTED


def test_a_run_of_0_1_goes_on_seeing_images_as_they_are(tmp_path, capsys):
    from smp_feedback.cli.subcommands import with_settings_of_a_run
    from smp_feedback.training.same_settings import check_same

    settings = yaml.safe_load((OLD_RUN / "config.yaml").read_text())
    assert "normalise" not in settings["data"]
    words = with_settings_of_a_run(["validate", "--run", str(OLD_RUN)])
    assert json.loads(words[2])["data"]["normalise"] == "none"
    now = {**settings, "data": {**settings["data"], "normalise": "auto"}}
    with pytest.raises(ValueError, match=r"data\.normalise=auto: the run to resume has data\.normalise=none"):
        check_same(yaml.safe_dump(now), OLD_RUN)


@pytest.mark.parametrize(
    ("arch", "loop", "norm"),
    [
        ("Unet", {"output": "dirichlet"}, "instance"),
        ("Unet", {"output": "dirichlet", "norm_error": None}, "instance"),
        ("Unet", {"output": "dirichlet", "norm_error": "layer"}, "layer"),
        ("DirichletUnet", {"output": "dirichlet", "steps": 3}, None),
        ("Unet", {"steps": 2}, None),
    ],
)
def test_evidence_of_a_run_of_0_1_is_normalised_as_it_was(arch, loop, norm, tmp_path):
    """Nothing was said of ``norm_error``; a run that knows ``free_steps`` is of today, and says what it means."""
    from smp_feedback.training.same_settings import check_same, of_any_version

    settings = {"seed": 0, "model": {"arch": arch, "feedback": loop}, "data": {"normalise": "none"}, "trainer": {}}
    read = of_any_version(settings)
    assert read["model"]["feedback"].get("norm_error") == norm
    assert "instance" not in str(of_any_version({**settings, "model": {**settings["model"], "free_steps": 0}}))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    check_same(yaml.safe_dump(read), tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--data.mean [0.5,0.5]", "expected one number a channel, 3 of them"),
        ("--data.std null", "expected both, or neither"),
        ("--data.normalise none", "with normalise='none': give one of them"),
        ("--data.normalise imagenet", "normalise='imagenet'"),
        ("--data.shared never", "shared='never'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_built(config, tmp_path, capsys, line, words):
    assert smp_feedback(f"fit --config {config} --out {tmp_path}/out {line}") == 2
    assert words in capsys.readouterr().err


# --- loops around a base that was trained with a normalisation of its own

SCORE = "--score.filters 4 --score.additional_pools 1 --data.batch_size 2 --data.crop null"
SHORT = "--trainer.max_epochs 1 --trainer.accelerator cpu --trainer.enable_progress_bar false --trainer.logger false"


@pytest.mark.parametrize("of", ["run", "saved"])
@pytest.mark.parametrize("loop", [smpf.Score(filters=4, additional_pools=1), smpf.Restoration(depth=2, filters=4)])
def test_a_loop_is_closed_around_a_base_as_it_was_trained(run, root, loop, of):
    facts = Facts(EXPECTED.classes, None, "segmentation", (3, 16, 16), reads=DataConfig(size=(16, 16)))
    model = closed_base(run if of == "run" else run / "model", loop, facts)
    assert given_config(model) == (EXPECTED, False)
    said = DataConfig(mean=STD, std=MEAN, size=(16, 16))
    assert closed_base(run, loop, replace(facts, reads=said)).data_config.mean == tuple(STD)


@pytest.mark.sweep
def test_score_train_and_evaluate_show_the_base_what_it_was_trained_on(run, root, tmp_path):
    pytest.importorskip("matplotlib")
    assert smp_feedback(f"score train --base {run} --out {tmp_path}/out {SCORE} {SHORT}") == 0
    assert kept_data(tmp_path / "out") == EXPECTED
    model = smpf.from_pretrained(tmp_path / "out" / "model")
    assert model.data_config == EXPECTED
    whole = f"--run {tmp_path}/out --accelerator cpu --split val --out {tmp_path}/found"
    assert smp_feedback(f"score evaluate {whole}") == 0
    rows = json.loads((tmp_path / "found" / "scores.json").read_text())["rows"]
    base = evaluate(smpf.from_pretrained(run / "model"), val(root), classes=2).last
    assert rows[0]["ece"] == pytest.approx(base.ece, abs=1e-5)
    assert evaluate_score(model, val(root), classes=2).before.ece == pytest.approx(base.ece, abs=1e-5)


@pytest.mark.sweep
def test_restore_train_and_evaluate_do_so_too(run, root, tmp_path):
    pytest.importorskip("matplotlib")
    restorer = "--restoration.depth 2 --restoration.filters 4 --restoration.steps 1 --distortion.name gaussian_noise"
    assert smp_feedback(f"restore train --base {run} --out {tmp_path}/out {restorer} {SHORT} --data.batch_size 2") == 0
    model = smpf.from_pretrained(tmp_path / "out" / "model")
    assert model.data_config == EXPECTED
    whole = f"--run {tmp_path}/out --accelerator cpu --split val --out {tmp_path}/found"
    assert smp_feedback(f"restore evaluate {whole}") == 0
    rows = json.loads((tmp_path / "found" / "scores.json").read_text())["rows"]
    clean = [(image, image, mask) for image, mask in val(root)]
    normalised = [(*map(EXPECTED.normalise, item[:2]), item[2]) for item in clean]
    assert rows[0]["ece"] == pytest.approx(
        evaluate_restoration(model, normalised, classes=2).of("clean").score.ece, abs=1e-5
    )
    assert rows[1]["l1"] < 0.2, "noise of sigma 0.18, in the values of the images"
