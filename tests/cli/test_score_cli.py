"""``smp-feedback score train | tune | evaluate``: from any trained base to a refined model, and what is refused."""

from __future__ import annotations

import csv
import importlib.util
import json
import shlex
import shutil

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import yaml
from PIL import Image

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
import lightning

import smp_feedback as smpf
from benchmarks import refinement
from smp_feedback.cli import score as score_verbs
from smp_feedback.cli.main import main
from smp_feedback.cli.subcommands import with_settings_of_a_run
from smp_feedback.data import open_dataset
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.evaluation import evaluate_score, load_result, miou, tune
from smp_feedback.evaluation.tuning import Tuning
from smp_feedback.training.facts import Facts
from smp_feedback.training.trained_base import closed_base

ENCODER = "tu-test_resnet.r160_in1k"
MODEL = {
    "encoder": ENCODER,
    "encoder_weights": None,
    "feedback": False,
    "arguments": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
}
BASE = {
    "seed": 1,
    "model": MODEL,
    "data": {"name": "polygons", "size": 32, "batch_size": 4, "augment": "none", "options": {"count": 8}},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
}
SCORE = {
    "score": {"filters": 4, "additional_pools": 1, "features": ["stage:2"]},
    "data": {"batch_size": 4},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
}
LOOP = smpf.Score(filters=4, additional_pools=1, features=("stage:2",))
CLASSES = open_dataset("polygons", "val", size=32, count=1).classes
FACTS = Facts(CLASSES, None, "segmentation", (3, 32, 32))


def smp_feedback(line, **names):
    return main([word.format(**names) for word in shlex.split(line)])


def settings(path, told):
    path.write_text(json.dumps(told))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a run of fit."""
    folder = tmp_path_factory.mktemp("base")
    assert smp_feedback(f"fit --config {settings(folder / 'told.yaml', BASE)} --out {folder}/out") == 0
    return folder / "out"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return settings(tmp_path_factory.mktemp("config") / "score.yaml", SCORE)


@pytest.fixture(scope="module")
def trained(base, config, tmp_path_factory):
    """The folder of a run of score train."""
    out = tmp_path_factory.mktemp("trained") / "out"
    assert smp_feedback(f"score train --base {base} --config {config} --out {out} --trainer.max_epochs 2") == 0
    return out


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def images(split):
    return open_dataset("polygons", split, size=32, count=8, seed=1)


# --- train


def test_a_run_leaves_what_it_says_and_the_base_as_it_was(base, config, tmp_path, capsys):
    before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
    assert smp_feedback(f"score train --base={base} --config {config} --out {tmp_path}/out") == 0
    printed = capsys.readouterr().out
    assert "Unet, score loop conditioned on stage:2, 0.1 M parameters, of which" in printed
    for name in ("config.yaml", "last.ckpt", "best.ckpt", "csv/version_0/metrics.csv", "tensorboard/", "model"):
        assert f"wrote {tmp_path / 'out' / name}" in printed
        assert (tmp_path / "out" / name).exists()
    assert {path: path.read_bytes() for path in base.rglob("*") if path.is_file()} == before


def test_the_model_that_is_left_has_the_best_autoencoder_over_the_bases_best_weights(base, trained):
    model, best, plain = (
        smpf.from_pretrained(trained / "model"),
        weights(trained / "best.ckpt"),
        weights(base / "best.ckpt"),
    )
    for key, value in model.state_dict().items():
        assert torch.equal(value, best[f"model.{key}"])
        assert key.startswith("feedback.autoencoder.") or torch.equal(value, plain[f"model.{key}"])


def test_the_data_are_the_bases_and_how_it_learns_is_as_published(base, capsys):
    with pytest.raises(SystemExit):
        smp_feedback(f"score train --base {base} --data.augment flips --print_config")
    told = yaml.safe_load(capsys.readouterr().out)
    assert (told["seed"], told["data"]["size"], told["data"]["options"]) == (1, 32, {"count": 8})
    assert (told["data"]["batch_size"], told["data"]["crop"], told["data"]["augment"]) == (10, 224, "flips")
    assert (told["trainer"]["max_epochs"], told["early_stopping"], told["training"]["lr"]) == (500, 100, 1e-3)


def test_the_study_is_the_defaults(capsys):
    said = []
    for study in ("", "--config studies/score.yaml"):
        with pytest.raises(SystemExit):
            smp_feedback(f"score train {study} --print_config")
        said.append(yaml.safe_load(capsys.readouterr().out))
    assert said[0] == said[1]


def test_a_longer_run_resumed_is_the_uninterrupted_one(base, config, trained, tmp_path):
    assert smp_feedback(f"score train --base {base} --config {config} --out {tmp_path}/out") == 0
    assert smp_feedback(f"score train --resume {tmp_path}/out --trainer.max_epochs 2") == 0
    whole, resumed = (weights(folder / "last.ckpt") for folder in (trained, tmp_path / "out"))
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


@pytest.mark.parametrize("word", ["score.filters 8", "training.lr 0.5", "data.augment none", "training.from_gt true"])
def test_a_run_goes_on_with_its_own_settings(word, trained, capsys):
    before = (trained / "config.yaml").read_text()
    assert smp_feedback(f"score train --resume {trained} --{word}") == 2
    assert "the run to resume has " + word.split()[0] in capsys.readouterr().err
    assert (trained / "config.yaml").read_text() == before


# --- the base


def run_folder(folder, model, **told):
    """What fit leaves of *model*, without the training."""
    kept = {"arch": "Unet", "encoder": None, "feedback": False, "base_norm": None, "arguments": None}
    folder.mkdir(parents=True, exist_ok=True)
    settings(folder / "config.yaml", {"model": {**kept, **told}, "data": BASE["data"], "seed": 0})
    torch.save(
        {"state_dict": {f"model.{key}": value for key, value in model.state_dict().items()}}, folder / "last.ckpt"
    )
    return folder


def same_answers(model, base, exactly=True):
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        ours, theirs = model.eval()(image, steps=0), base.eval()(image)
    return torch.equal(ours, theirs) if exactly else torch.allclose(ours, theirs, atol=1e-5)


SMALL = {"encoder": ENCODER, "arguments": MODEL["arguments"]}
RECURRENT = {"steps": 3, "feedback_init": 0.5}
ARCHITECTURES = {
    "plain": {**SMALL},
    "recurrent": {**SMALL, "feedback": RECURRENT},
    "group norm": {**SMALL, "feedback": RECURRENT, "base_norm": "group"},
    "stage": {**SMALL, "feedback": {**RECURRENT, "insert": "stage:2"}},
    "torchvision": {"arch": "torchvision/lraspp_mobilenet_v3_large"},
}


@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_a_run_of_any_architecture_is_refined_without_changing_its_answer(kind, tmp_path):
    told = ARCHITECTURES[kind]
    create = {"encoder_name": told["encoder"]} if "encoder" in told else {}
    create |= {"encoder_weights": None, **told.get("arguments", {}), "base_norm": told.get("base_norm")}
    plain = smpf.create(told.get("arch", "Unet"), classes=6, feedback=told.get("feedback", False), **create)
    with torch.no_grad():  # as if it had been trained, statistics too
        plain.train()(torch.rand(4, 3, 32, 32))
    loop = LOOP if kind != "torchvision" else smpf.Score(filters=4, additional_pools=1, features=("output",))
    model = closed_base(run_folder(tmp_path, plain, **told), loop, FACTS)
    assert same_answers(model, plain)
    again = smpf.from_pretrained(model.save_pretrained(tmp_path / "model"))
    assert same_answers(again, plain)
    assert not any(p.requires_grad for n, p in model.named_parameters() if "autoencoder" not in n)


@pytest.mark.parametrize("whose", ["ours", "smp's", "one class"])
def test_a_saved_model_is_refined_without_changing_its_answer(whose, tmp_path):
    about = {"encoder_weights": None, "classes": 1 if whose == "one class" else 6, **MODEL["arguments"]}
    if whose == "ours":
        plain = smpf.create("Unet", ENCODER, feedback=smpf.Recurrent(**RECURRENT), **about)
    else:
        plain = smp.Unet(ENCODER, **about)
    plain.save_pretrained(tmp_path)
    facts = Facts(CLASSES[:2], None, "segmentation", (3, 32, 32)) if whose == "one class" else FACTS
    assert same_answers(closed_base(tmp_path, LOOP, facts), plain)


def test_a_base_that_does_not_fit_is_refused_in_words(base, trained, tmp_path):
    with pytest.raises(InvalidValue, match="expected the folder of a run of smp-feedback fit"):
        closed_base(tmp_path, LOOP, FACTS)
    with pytest.raises(InvalidValue, match=r"best.ckpt does not fit a Unet of 2 classes \(background, triangle\)"):
        closed_base(base, LOOP, Facts(CLASSES[:2], None, "segmentation", (3, 32, 32)))
    with pytest.raises(InvalidValue, match="classes=2: this model's base tells 6"):
        closed_base(base / "model", LOOP, Facts(CLASSES[:2], None, "segmentation", (3, 32, 32)))
    with pytest.raises(InvalidValue, match="reads 3 channels, the images have 1"):
        closed_base(base / "model", LOOP, Facts(CLASSES, None, "segmentation", (1, 32, 32)))
    with pytest.raises(InvalidValue, match="a run of score train, refined already"):
        closed_base(trained, LOOP, FACTS)
    with pytest.raises(InvalidValue, match="is refined already"):
        closed_base(trained / "model", LOOP, FACTS)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(smpf.errors.FeedbackError, match="was not written by smp_feedback"):
        closed_base(tmp_path, LOOP, FACTS)


def test_a_size_that_the_base_does_not_take_is_refused_whole_or_cut(tmp_path):
    smp.Linknet(ENCODER, encoder_depth=3, encoder_weights=None, classes=6).save_pretrained(tmp_path)
    closed_base(tmp_path, LOOP, Facts(CLASSES, None, "segmentation", (3, 40, 32), (3, 24, 24)))
    with pytest.raises(InvalidInput, match=r"divisible by 8.*\n?.*Or set data\.size"):
        closed_base(tmp_path, LOOP, Facts(CLASSES, None, "segmentation", (3, 36, 32)))
    with pytest.raises(InvalidInput, match=r"divisible by 8.*\n?.*Or set data\.crop"):
        closed_base(tmp_path, LOOP, Facts(CLASSES, None, "segmentation", (3, 40, 32), (3, 20, 20)))


# --- tune, evaluate


@pytest.fixture
def copied(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_what_is_tuned_is_kept_with_the_model_and_is_what_the_library_finds(copied, capsys):
    assert smp_feedback(f"score tune --run {copied} --accelerator cpu --most 4 --step_sizes [0.5,0.1]") == 0
    printed = " ".join(capsys.readouterr().out.split())
    model = smpf.from_pretrained(copied / "model")
    found = tune(model, images("val"), classes=6, step_sizes=(0.1, 0.5), most=4, batch_size=4)
    kept = load_result(copied / "tuning.json")
    assert kept["score"] == [pytest.approx(row) for row in found.miou]
    assert kept["chosen"] == {"step": found.step, "steps": found.steps, "score": pytest.approx(found.best)}
    assert (model.loop_config.step, model.loop_config.steps) == (found.step, found.steps)
    assert found.steps, "nothing to see"
    assert str(found) in printed
    assert miou(model, images("val"), classes=6, batch_size=4) == pytest.approx(found.best)
    for name in ("tuning.json", "tuning.png", "model"):
        assert f"wrote {copied / name}" in printed
    assert '"base_miou"' in (copied / "model" / "README.md").read_text()


def test_a_saved_model_is_tuned_where_it_is(copied, capsys):
    data = "--data.name polygons --data.size 32 --data.options '{{count: 8}}'"
    assert smp_feedback(f"score tune --model {copied}/model {data} --accelerator cpu --most 1") == 0
    assert f"wrote {copied}/model" in capsys.readouterr().out
    assert {"tuning.json", "tuning.png", "config.json"} <= {path.name for path in (copied / "model").iterdir()}


def test_another_folder_takes_the_tuned_model_and_leaves_the_run(copied, tmp_path):
    before = (copied / "model/model.safetensors").read_bytes()
    assert smp_feedback(f"score tune --run {copied} --out {tmp_path}/out --accelerator cpu --most 2") == 0
    assert (copied / "model/model.safetensors").read_bytes() == before
    chosen = load_result(tmp_path / "out/tuning.json")["chosen"]
    assert smpf.from_pretrained(tmp_path / "out/model").loop_config.steps == chosen["steps"]


def test_zero_updates_are_said_and_kept(copied, monkeypatch, capsys):
    monkeypatch.setattr(score_verbs, "tune", lambda *_, **__: Tuning((0.1,), ((0.5, 0.4),)))
    assert smp_feedback(f"score tune --run {copied} --accelerator cpu") == 0
    assert "Zero updates: nothing that was tried has a higher mIoU than the base's 50.0 %" in capsys.readouterr().out
    model = smpf.from_pretrained(copied / "model")
    assert model.loop_config.steps == 0
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(model(image), model.begin(image).logits)


@pytest.mark.parametrize("split", ["test", "val"])
def test_evaluate_prints_and_keeps_what_the_library_scores(split, trained, tmp_path, capsys):
    more = "" if split == "test" else "--split val"
    assert smp_feedback(f"score evaluate --run {trained} --out {tmp_path}/out --accelerator cpu {more}") == 0
    printed = capsys.readouterr().out
    found = evaluate_score(smpf.from_pretrained(trained / "model"), images(split), classes=6, batch_size=4)
    kept = load_result(tmp_path / "out/scores.json")
    assert [row["score"] for row in kept["rows"]] == [found.before.score, found.once.score, found.after.score]
    rows = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in printed.splitlines() if line.startswith("│")}
    assert [float(cell) for cell in rows["mIoU"]] == [round(100 * row["score"], 1) for row in kept["rows"]]
    for name in ("scores.json", "images.csv", "scores-classes.png", "pictures.png"):
        assert f"wrote {tmp_path / 'out' / name}" in " ".join(printed.split())
    rows, data = [*csv.DictReader((tmp_path / "out/images.csv").read_text().splitlines())], images(split)
    assert [row["image"] for row in rows] == [data.name(i) for i in range(len(data))]
    alone = evaluate_score(smpf.from_pretrained(trained / "model"), [data[1]], classes=6)
    assert {name: float(rows[1][name]) for name in ("miou", "dice", "solved")} == pytest.approx(
        {name: alone.after.metrics[name] for name in ("miou", "dice", "solved")},
        abs=5e-3,  # in a batch of its own a pixel or two may round to another class
    )


@pytest.mark.sweep
def test_the_benchmark_goes_through_every_stage_seed_by_seed(tmp_path, monkeypatch, capsys):
    for split, count in (("train", 10), ("val", 2), ("test", 2)):
        for folder, mode in ((split, "RGB"), (f"{split}annot", "L")):
            (tmp_path / "data" / folder).mkdir(parents=True)
            for i in range(count):
                values = np.random.default_rng(i).integers(0, 12, (32, 32, 3)[: 3 if mode == "RGB" else 2], np.uint8)
                Image.fromarray(values).save(tmp_path / "data" / folder / f"{i}.png")
    monkeypatch.setattr(refinement, "UNET", {"arch": "Unet", "encoder": ENCODER, "arguments": MODEL["arguments"]})
    words = f"--root {tmp_path}/data --out {tmp_path}/out --seeds 3 4 --size 32 32 --epochs 1 --score_epochs 1"
    monkeypatch.setattr("sys.argv", ["", *words.split(), *["--filters", "4", "--most", "1", "--threads", "1"]])
    refinement.main()
    printed = capsys.readouterr().out
    kept = json.loads((tmp_path / "out/results.json").read_text())
    assert [one["seed"] for one in kept["seeds"]] == [3, 4]
    scores = np.array([[100 * row["score"] for row in one["rows"]] for one in kept["seeds"]])
    for mean, sd in zip(scores.mean(0), scores.std(0, ddof=1), strict=True):
        assert f"{mean:.1f} ± {sd:.1f}" in printed
    gains = scores[:, 2] - scores[:, 0]
    assert f"after - before: {gains.mean():+.1f} ± {gains.std(ddof=1):.1f} points" in printed


# --- what is refused


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "one of {{train,tune,evaluate}}, but it was not provided"),
        ("trian", "No verb of score is called 'trian'. Did you mean 'train'?"),
        ("train", "What is to be refined? Give --base DIR"),
        ("train --base {tmp}/none", "expected the folder of a run of smp-feedback fit"),
        ("train --bas {base}", "Did you mean '--base'"),
        ("train --base {base} --score.filtres 3", "Did you mean '--score.filters'"),
        ("train --base {base} --score.filters 0", "filters=0"),
        ("train --base {base} --score.autoencoder contex", "autoencoder"),
        ("train --base {base} --score.features [stage:9]", "stage:9"),
        ("train --base {base} --training.lr 0", "lr=0"),
        ("train --base {base} --training.optimizer torch.optim.SGDD", "not torch.optim.SGDD"),
        ("train --base {base} --data.name coloured_shapes", "does not fit a Unet of 3 classes"),
        ("train --base {base} --data.name circlse", "Did you mean 'circles'"),
        ("train --base {base} --data.crop 0", "crop=0"),
        ("train --base {base} --data.batch_size 99", "batch_size=99"),
        ("train --base {base} --seed -1", "seed=-1"),
        ("train --base {base} --early_stopping 0", "early_stopping=0"),
        ("train --base {base} --save_every 0", "save_every=0"),
        ("train --base {base} --trainer.max_epochs -3", "trainer: `max_epochs`"),
        ("train --resume {tmp}/none", "expected the folder of a run of score train"),
        ("tune", "Whose model? Give --run DIR"),
        ("tune --run {tmp}/none", "expected the folder of a run of score train"),
        ("tune --model {tmp}/none", "expected a saved model, there is none"),
        ("tune --model {base}/model", "was not written by smp_feedback. smp wrote it"),
        ("tune --model {base}", "holds no config.json"),
        ("tune --run {trained} --model {trained}/model", "Whose model?"),
        ("tune --run {trained} --step_sizes [0]", "step_sizes=0"),
        ("tune --run {trained} --most 0", "most=0"),
        ("tune --run {trained} --data.name coloured_shapes", "classes=3: this model's base tells 6"),
        ("tune --run {trained} --accelerator tpu", "accelerator='tpu'"),
        ("evaluate --run {trained} --split train", "split='train'"),
        ("evaluate --run {trained} --window 16", "--window 16. That is an option of validate, test, predict."),
    ],
)
def test_what_is_wrong_is_one_line_before_any_work(line, says, base, config, trained, tmp_path, capsys):
    verb, _, words = line.partition(" ")
    told = f"--config {config}" if verb == "train" else ""
    names = {"base": base, "trained": trained, "tmp": tmp_path}
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    out = f"--out {tmp_path}/out" if verb in ("train", "tune", "evaluate") else ""
    assert smp_feedback(f"score {verb} {told} {words} {out}", **names) == 2
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.count("\n") == 1
    assert says.format(**names) in err
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_labels_of_whole_images_are_refused(base, mnist, tmp_path, capsys):
    digits = f"--data.name torchvision/MNIST --data.root {mnist} --data.options null"
    assert smp_feedback(f"score train --base {base} {digits} --out {tmp_path}/out") == 2
    assert "has one label an image" in capsys.readouterr().err


def test_a_run_that_never_ended_has_no_model_to_tune(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("model"))
    assert smp_feedback(f"score tune --run {tmp_path}/run") == 2
    assert f"score train --resume {tmp_path}/run goes on with it" in capsys.readouterr().err


def test_the_settings_of_a_run_come_before_all_words(base, trained):
    words = with_settings_of_a_run(["score", "train", f"--base={base}", "--data.size", "64"])
    assert words[:3] == ["score", "train", "--config"]
    assert words[4:] == ["--base", str(base), "--data.size", "64"]
    told = json.loads(words[3])
    assert set(told) == {"seed", "data"}
    assert not {"batch_size", "augment", "crop"} & set(told["data"])
    assert json.loads(with_settings_of_a_run(["score", "tune", "--run", str(trained)])[3])["data"]["batch_size"] == 4
    assert with_settings_of_a_run(["score", "tune"]) == ["score", "tune"]


def test_a_run_shorter_than_an_epoch_ends_with_a_model(base, config, tmp_path):
    out = tmp_path / "out"
    short = "--trainer.max_steps 1 --trainer.max_epochs 2"
    assert smp_feedback(f"score train --base {base} --config {config} {short} --out {out}") == 0
    assert smpf.from_pretrained(out / "model").loop_config.steps == 10


def test_the_verbs_of_fit_say_whose_a_refined_run_is(trained, capsys):
    for line in (f"test --run {trained}", f"predict --run {trained}", f"fit --resume {trained}"):
        assert smp_feedback(line) == 2
        assert "is a run of score train" in capsys.readouterr().err


def test_a_run_of_fit_is_not_tuned_and_says_what_comes_first(base, capsys):
    assert smp_feedback(f"score tune --run {base}") == 2
    assert f"--run {base} is a run of fit: first smp-feedback score train --base {base}." in capsys.readouterr().err


def test_told_to_stop_it_says_so_and_fails(base, config, tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise SystemExit  # as Lightning leaves after SIGTERM

    monkeypatch.setattr(lightning.Trainer, "fit", stop)
    assert smp_feedback(f"score train --base {base} --config {config} --out {tmp_path}/new") == 143
    assert "--resume continues" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("pydensecrf") is not None, reason="pydensecrf2 is installed")
def test_a_crf_that_is_not_installed_is_asked_for_before_any_work(trained, capsys):
    assert smp_feedback(f"score evaluate --run {trained} --crf true") == 2
    assert 'pip install "smp_feedback[crf]"' in capsys.readouterr().err
