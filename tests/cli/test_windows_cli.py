"""``--window``: validate, test, predict and evaluate look in the same windows, and say what they cannot."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_folders import OPTIONS, folder, mask

pytest.importorskip("lightning")
pytest.importorskip("monai")

import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.cli.subcommands import with_settings_of_a_run
from smp_feedback.cli.windows import WindowBars, seen_in_windows
from smp_feedback.config.data import DataConfig
from smp_feedback.data.images.reader import ImageReader, as_unit
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation import evaluate
from smp_feedback.ops.reading import labels_of
from smp_feedback.training.facts import Facts
from smp_feedback.training.looks_module import LooksModule

SIZE = 30, 43  # no multiple of anything


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three looks whose images are normalised, its data, and the model that it left."""
    root = tmp_path_factory.mktemp("windows")
    several = [mask(0, 1, 2, 1, size=SIZE), mask(2, 0, 1, size=SIZE)]
    data = folder(root / "data", train=several, val=several, test=several[::-1])
    told = {
        "model": {"arch": "PlainConv", "feedback": {"preset": "anytime", "steps": 3}, "arguments": {"width": 4}},
        "data": {"name": "folder", "root": str(data), "batch_size": 2, "options": OPTIONS},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False},
    }
    told["data"] |= {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
    (root / "run.yaml").write_text(json.dumps(told))
    assert main(["fit", "--config", str(root / "run.yaml"), "--out", str(root / "run")]) == 0
    return SimpleNamespace(root=root, out=str(root / "run"), model=smpf.from_pretrained(root / "run" / "model").eval())


class Split(list):
    normalised = False


def pairs(run, split):
    images = sorted((run.root / "data" / split).glob("*.png"))
    masks = sorted((run.root / "data" / f"{split}annot").glob("*.png"))
    read = [torch.from_numpy(np.array(Image.open(path)).astype(np.int64)) for path in masks]
    return Split(zip([as_unit(ImageReader().read(path)) for path in images], read, strict=True))


@pytest.mark.parametrize("stitch", ["logits", "state"])
def test_validate_test_and_evaluate_agree_look_by_look(stitch, run, tmp_path):
    windows = smpf.tiled(run.model, 16, 0.5, stitch=stitch)
    words = ["--window", "16", "--overlap", "0.5", "--stitch", stitch]
    for verb, split in (("validate", "val"), ("test", "test")):
        out = tmp_path / verb
        assert main([verb, "--run", run.out, *words, "--out", str(out)]) == 0
        scored = json.loads((out / "scores.json").read_text())
        found = evaluate(windows, pairs(run, split), classes=3, looks=[1, 2, 3], batch_size=2)
        assert scored["looks"] == pytest.approx([one.score for one in found], abs=1e-6)
        assert [one.mean_looks for one in found] == [1, 2, 3]
    plain = evaluate(run.model, pairs(run, "test"), classes=3).last
    assert plain.nll != pytest.approx(found.last.nll, abs=1e-6), "windows are seen in the answer"


@pytest.mark.parametrize(
    ("words", "steps", "stitch"),
    [([], None, "logits"), (["--steps", "5"], 5, "state"), (["--steps", "6", "--settled", "2"], (2, 6), "logits")],
)
def test_predict_writes_what_the_windows_say(words, steps, stitch, run, tmp_path):
    told = ["--images", str(run.root / "data" / "val"), "--window", "16", "--stitch", stitch, "--out", str(tmp_path)]
    assert main(["predict", "--run", run.out, *told, *words]) == 0
    rule = smpf.until_settled(steps[0], steps[1]) if isinstance(steps, tuple) else steps
    windows = smpf.tiled(run.model, 16, stitch=stitch)
    for path, (image, _) in zip(sorted(tmp_path.glob("*.png")), pairs(run, "val"), strict=True):
        expected = labels_of(windows(run.model.data_config.normalise(image)[None], rule))[0]
        assert torch.equal(torch.from_numpy(np.array(Image.open(path)).astype(np.int64)), expected)


def test_every_look_is_written_where_it_is_asked_for(run, tmp_path):
    told = ["--run", str(run.root / "run" / "model"), "--images", str(run.root / "data" / "val"), "--looks", "true"]
    assert main(["predict", *told, "--window", "[16, 20]", "--out", str(tmp_path)]) == 0
    path = smpf.tiled(run.model, (16, 20)).trajectory(run.model.data_config.normalise(pairs(run, "val")[0][0])[None])
    for t, look in enumerate(path):
        picture = np.array(Image.open(tmp_path / f"0.look_{t + 1}.png")).astype(np.int64)
        assert torch.equal(torch.from_numpy(picture), labels_of(look)[0])


@pytest.mark.parametrize(
    ("root", "words", "size"),
    [
        ("data", ["--window", "16"], None),
        ("data", ["--window=16"], None),
        ("data", [], 64),
        (None, ["--window", "16"], 64),
        (None, ["--window", "16", "--images", "photos"], None),
    ],
)
def test_a_runs_size_is_not_that_of_images_in_windows(root, words, size, tmp_path):
    told = {"model": {}, "data": {"name": "any", "root": root, "size": 64}, "trainer": {}, "seed": 0}
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    for verb in ("validate", "test", "predict"):
        said = with_settings_of_a_run([verb, "--run", str(tmp_path), *words])
        assert json.loads(said[said.index("--config") + 1])["data"].get("size") == size


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--window", "0"], "window=0: expected a whole number >= 1"),
        (["--overlap", "0.5"], "--overlap 0.5 is for windows: give --window N, too"),
        (["--stitch", "state"], "--stitch state is for windows"),
        (["--window", "16", "--overlap", "1"], "overlap=1.0: expected a share of the window"),
        (["--window", "16", "--settled", "2", "--looks", "true"], "each window stops by itself"),
    ],
)
def test_what_cannot_be_is_refused_before_a_file_is_made(words, says, run, tmp_path, capsys):
    told = ["--run", run.out, "--images", str(run.root / "data" / "val"), "--out", str(tmp_path / "maps")]
    assert main(["predict", *told, *words]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.rglob("*.png"))


def test_a_film_is_not_seen_in_windows(run, tmp_path, capsys):
    told = [
        "--images",
        str(run.root / "data" / "val"),
        "--film",
        "true",
        "--window",
        "16",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(["predict", "--run", run.out, *told]) == 2
    assert "--window: a film gets one answer a frame" in capsys.readouterr().err


def test_a_model_is_checked_at_the_size_of_a_window():
    facts = Facts(("a", "b"), None, "segmentation", (3, 4000, 6001), crop=(3, 100, 100))
    assert seen_in_windows(facts, None) == facts
    seen = seen_in_windows(facts, [256, 512])
    assert (seen.image, seen.crop, seen.sized_by) == ((3, 256, 512), None, "window")
    with pytest.raises(InvalidValue, match="--window: the model classifies"):
        seen_in_windows(Facts(("a", "b"), None, "classification", (3, 32, 32)), 16)


def test_a_bar_of_images_has_one_of_windows_beneath_it(capsys):
    bars = WindowBars()
    with bars.windows("windows", 3) as advance:
        advance()
    assert capsys.readouterr().err == "", "before anything is shown"
    bars.on_predict_start(SimpleNamespace(is_global_zero=True, num_predict_batches=[2]), None)
    with bars.windows("windows", 3) as advance:
        for _ in range(3):
            advance()
        assert [(task.description, task.completed, task.total) for task in bars.bars.tasks] == [
            ("images", 0, 2),
            ("windows", 3, 3),
        ]
    bars.on_predict_batch_end(None, None, None, None, 0)
    assert [(task.description, task.completed) for task in bars.bars.tasks] == [("images", 1)]
    bars.on_predict_end(None, None)
    assert bars.bars is None
    assert "images" in capsys.readouterr().err


def test_windows_say_what_the_model_says_of_its_images(run):
    assert isinstance(run.model.data_config, DataConfig)
    assert run.model.data_config.mean == (0.4, 0.5, 0.6)


def test_no_window_keeps_the_size_of_the_run(run):
    """``null`` is what is there without the word."""
    settings = [with_settings_of_a_run(["test", "--run", run.out, *words]) for words in ([], ["--window", "null"])]
    assert settings[0][2] == settings[1][2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("validate --run {run}/model", "--run {run}."),
        ("export {run} x.onnx", "smp-feedback export {run}/model x.onnx"),
        ("info {run}", "smp-feedback info {run}/model"),
        ("predict --run {run} --images {data} --settled 1", "2 or more"),
        ("predict --run {run} --images {data} --out {data}/0.png", "predict writes its answers there"),
    ],
)
def test_what_to_write_instead_is_said(words, says, run, capsys):
    named = {"run": run.out, "data": run.root / "data" / "val"}
    assert main(words.format(**named).split()) == 2
    assert says.format(**named) in capsys.readouterr().err


def test_images_in_windows_stay_bytes_and_score_as_they_do_in_unit(run, tmp_path, monkeypatch):
    told = ["validate", "--run", run.out, "--window", "16", "--bootstrap", "0"]
    assert main([*told, "--out", str(tmp_path / "bytes")]) == 0
    shown, feed_of = [], LooksModule.feed_of

    def feed(self, images):
        shown.append(images.dtype)
        return feed_of(self, images)

    monkeypatch.setattr(LooksModule, "feed_of", feed)
    assert main([*told, "--out", str(tmp_path / "again")]) == 0
    assert {*shown} == {torch.uint8}
    monkeypatch.setattr("smp_feedback.cli.windows.MaskFolder", type(None))
    assert main([*told, "--out", str(tmp_path / "unit")]) == 0
    found = [json.loads((tmp_path / name / "scores.json").read_text()) for name in ("bytes", "unit")]
    assert found[0] == found[1]
    assert shown[-1] == torch.float32
