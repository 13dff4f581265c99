"""``smp-feedback restore train | evaluate``: from any data to a model that restores, and what is refused."""

from __future__ import annotations

import csv
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

import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.cli.subcommands import with_settings_of_a_run
from smp_feedback.data import StoredTriplets, Triplets, open_dataset
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation import load_result, miou
from smp_feedback.evaluation.image_quality import l1, psnr
from smp_feedback.evaluation.restoration_loop import evaluate_restoration, images_of
from smp_feedback.plotting import pictures
from smp_feedback.training.distortion import Distortion, open_triplets
from smp_feedback.training.facts import Facts
from smp_feedback.training.trained_base import closed_base

ENCODER = "tu-test_resnet.r160_in1k"
SMALL = {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}
LOOP = {"steps": 2, "depth": 2, "filters": 4}
DATA = {"name": "polygons", "size": 32, "batch_size": 4, "options": {"count": 8}}
TRAINER = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}
TOLD = {
    "seed": 1,
    "model": {"encoder": ENCODER, "encoder_weights": None, "arguments": SMALL},
    "restoration": LOOP,
    "data": DATA,
    "distortion": {"name": "motion_blur", "severity": 2},
    "trainer": TRAINER,
}
CLASSES = open_dataset("polygons", "val", size=32, count=1).classes
USUAL = "--model.encoder null --model.encoder_weights auto --model.arguments null"
FACTS = Facts(CLASSES, None, "segmentation", (3, 32, 32))


def smp_feedback(line, **names):
    return main([word.format(**names) for word in shlex.split(line)])


def settings(path, told):
    path.write_text(json.dumps(told))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return settings(tmp_path_factory.mktemp("config") / "restore.yaml", TOLD)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """The folder of a run of restore train, of two epochs."""
    out = tmp_path_factory.mktemp("trained") / "out"
    assert smp_feedback(f"restore train --config {config} --out {out} --trainer.max_epochs 2") == 0
    return out


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a run of fit."""
    folder = tmp_path_factory.mktemp("base")
    told = {"seed": 1, "model": {**TOLD["model"], "feedback": False}, "data": DATA, "trainer": TRAINER}
    assert smp_feedback(f"fit --config {settings(folder / 'told.yaml', told)} --out {folder}/out") == 0
    return folder / "out"


def kept(path):
    return torch.load(path, weights_only=True)


def weights(path):
    return kept(path)["state_dict"]


def images(split):
    return open_dataset("polygons", split, size=32, count=8, seed=1)


# --- train


def test_a_run_leaves_what_it_says(config, tmp_path, capsys):
    assert smp_feedback(f"restore train --config {config} --out {tmp_path}/out") == 0
    printed = capsys.readouterr().out
    assert "Unet, restoration loop, T = 2, unet, 0.1 M parameters, of which 0.0061 M restore, 6 classes" in printed
    for name in ("config.yaml", "last.ckpt", "best.ckpt", "csv/version_0/metrics.csv", "tensorboard/", "model"):
        assert f"wrote {tmp_path / 'out' / name}" in printed
        assert (tmp_path / "out" / name).exists()
    logged = (tmp_path / "out/csv/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"val_miou", "val_miou/pass_0", "val_miou/pass_2", "val_l1", "val_psnr", "val_loss"} < set(logged)


def test_the_model_that_is_left_has_the_best_weights_of_both_networks_and_answers_as_it_did(trained):
    model, best = smpf.from_pretrained(trained / "model"), weights(trained / "best.ckpt")
    assert model.loop_config == smpf.Restoration(**LOOP)
    assert {f"model.{key}" for key in model.state_dict()} <= set(best)
    assert all(torch.equal(value, best[f"model.{key}"]) for key, value in model.state_dict().items())
    callbacks = kept(trained / "last.ckpt")["callbacks"]
    (score,) = [callbacks[key]["best_model_score"].item() for key in callbacks if "Best" in key]
    val = [(d, t) for d, _, t in Triplets(images("val"), "motion_blur", 2)]
    assert score == pytest.approx(miou(model, val, classes=6), abs=1e-6)


def test_a_longer_run_resumed_is_the_uninterrupted_one(config, trained, tmp_path):
    assert smp_feedback(f"restore train --config {config} --out {tmp_path}/out") == 0
    assert smp_feedback(f"restore train --resume {tmp_path}/out --trainer.max_epochs 2") == 0
    whole, resumed = (kept(folder / "last.ckpt") for folder in (trained, tmp_path / "out"))
    assert all(torch.equal(value, resumed["state_dict"][key]) for key, value in whole["state_dict"].items())
    assert len(whole["optimizer_states"]) == 2
    for ours, theirs in zip(whole["optimizer_states"], resumed["optimizer_states"], strict=True):
        assert ours["param_groups"] == theirs["param_groups"]
        for key, state in ours["state"].items():
            assert all(torch.equal(value, theirs["state"][key][name]) for name, value in state.items())


@pytest.mark.parametrize(
    "word",
    [
        *("restoration.filters 8", "training.lr 0.5", "training.end_to_end true", "data.augment flip"),
        *("distortion.severity 3", "model.encoder resnet18", "seed 4"),
    ],
)
def test_a_run_goes_on_with_its_own_settings(word, trained, capsys):
    before = (trained / "config.yaml").read_text()
    assert smp_feedback(f"restore train --resume {trained} --{word}") == 2
    assert "the run to resume has " + word.split()[0] in capsys.readouterr().err
    assert (trained / "config.yaml").read_text() == before


def test_the_defaults_are_the_published_ones(capsys):
    with pytest.raises(SystemExit):
        smp_feedback("restore train --print_config")
    told = yaml.safe_load(capsys.readouterr().out)
    ours = {key: told["training"][key] for key in ("lr_restorer", "halve_every", "lr", "weight_decay", "decay")}
    assert ours == {"lr_restorer": 2e-4, "halve_every": 30, "lr": 5e-4, "weight_decay": 2e-4, "decay": 0.99}
    assert (told["training"]["loss"], told["training"]["class_weights"]) == (
        "class_balanced_iterative_focal",
        "balanced",
    )
    usual = {"name": "turbulence", "severity": 3, "turbulence": None, "wind": None, "folder": None}
    assert told["distortion"] == usual
    assert (told["restoration"]["steps"], told["restoration"]["reach"], told["restoration"]["weight"]) == (3, 10, 1e-3)


@pytest.mark.parametrize(
    "more",
    [
        "--training.end_to_end true --training.loss iterative_focal --restoration.recompute true",
        "--restoration.steps 1 --restoration.weight 0 --training.loss cross_entropy",
        "--model.feedback recurrent --training.class_weights null",
        "--data.augment crop_flip --data.crop 24 --distortion.name turbulence",
    ],
)
def test_every_way_to_train_leaves_a_model(more, config, tmp_path):
    out = tmp_path / "out"
    assert smp_feedback(f"restore train --config {config} {more} --out {out} --trainer.max_steps 1") == 0
    model = smpf.from_pretrained(out / "model")
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 6, 32, 32)
    assert (model.loop_config.base is None) == ("model.feedback" not in more)


# --- a base that is trained already


def test_training_begins_with_the_base_and_its_data(base, tmp_path, capsys):
    config = settings(tmp_path / "told.yaml", {"restoration": LOOP, "data": {"batch_size": 4}, "trainer": TRAINER})
    rates = "--training.lr 1e-12 --training.lr_restorer 1e-12 --training.weight_decay 0"
    line = f"restore train --base={base} --config {config} --distortion.name contrast --out {tmp_path}/out {rates}"
    assert smp_feedback(line) == 0
    told = yaml.safe_load((tmp_path / "out/config.yaml").read_text())
    assert (told["seed"], told["data"]["size"], told["data"]["options"]) == (1, 32, {"count": 8})
    ours, theirs = weights(tmp_path / "out/last.ckpt"), weights(base / "best.ckpt")
    names = {key for key in ours if key.startswith("model.") and not key.startswith("model.feedback.")}
    assert names == set(theirs)
    for name in names:
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(ours[name], theirs[name])


@pytest.mark.parametrize("whose", ["ours", "smp's", "one that looks again"])
def test_a_saved_model_answers_as_before_until_it_is_trained(whose, tmp_path):
    about = {"encoder_weights": None, "classes": 6, **SMALL}
    loop = smpf.Recurrent(steps=2, feedback_init=0.5) if whose == "one that looks again" else False
    plain = smp.Unet(ENCODER, **about) if whose == "smp's" else smpf.create("Unet", ENCODER, feedback=loop, **about)
    plain.save_pretrained(tmp_path)
    model = closed_base(tmp_path, smpf.Restoration(**LOOP), FACTS)
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(image), plain.eval()(image), atol=1e-4, rtol=1e-4)


def test_a_model_with_the_loop_is_no_base(trained):
    with pytest.raises(InvalidValue, match="is a run of restore train, restored already"):
        closed_base(trained, smpf.Restoration(**LOOP), FACTS)
    with pytest.raises(InvalidValue, match="has a restoration loop already"):
        closed_base(trained / "model", smpf.Restoration(**LOOP), FACTS)


# --- evaluate


def test_each_image_is_scored_as_its_segmentation_alone():
    torch.manual_seed(3)
    model = smpf.create("Unet", ENCODER, None, classes=6, feedback=smpf.Restoration(**LOOP), **SMALL).eval()
    torch.nn.init.normal_(model.restorer.last.weight, std=1.0)
    data = Triplets(images("test"), "motion_blur", 4)
    distorted, clean, target = (torch.stack(column) for column in zip(*data, strict=True))
    with torch.no_grad():
        first = model.restore(distorted).image
        steps = [step.restored for step in model.iterate(distorted)]
    shown = dict(zip(images_of(model), (clean, distorted, first, *steps), strict=True))
    found = evaluate_restoration(model, data, classes=6, batch_size=3)
    assert [one.image for one in found.seen] == ["clean", "distorted", "restored", "step 1", "step 2"]

    class Alone(torch.nn.Module):
        def forward(self, image):
            return model.segment(image)

    for name, image in shown.items():
        one = found.of(name)
        assert one.score.score == pytest.approx(
            miou(Alone(), list(zip(image, target, strict=True)), classes=6), abs=1e-9
        )
        assert one.l1 == pytest.approx(l1(image, clean).mean().item(), rel=1e-5)
        assert one.psnr == pytest.approx(psnr(image, clean).mean().item(), rel=1e-5)
    assert found.of("clean").psnr == float("inf")
    assert found.last.image == "step 2"
    with pytest.raises(InvalidValue, match="image='step 3': there are clean, distorted, restored, step 1, step 2"):
        found.of("step 3")


@pytest.mark.parametrize("split", ["test", "val"])
def test_evaluate_prints_and_keeps_what_the_library_scores(split, trained, tmp_path, capsys):
    more = "" if split == "test" else "--split val"
    assert smp_feedback(f"restore evaluate --run {trained} --out {tmp_path}/out --accelerator cpu {more}") == 0
    printed = capsys.readouterr().out
    data = Triplets(images(split), "motion_blur", 2)
    found = evaluate_restoration(smpf.from_pretrained(trained / "model"), data, classes=6, batch_size=4)
    rows = load_result(tmp_path / "out/scores.json")["rows"]
    assert [row["score"] for row in rows] == [one.score.score for one in found.seen]
    assert [row["psnr"] for row in rows] == [None, *(one.psnr for one in found.seen[1:])]
    table = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in printed.splitlines() if line.startswith("│")}
    assert [float(cell) for cell in table["mIoU"]] == [round(100 * row["score"], 1) for row in rows]
    assert [float(cell) for cell in table["solved"]] == [round(100 * one.score.solved, 1) for one in found.seen]
    assert [cell.strip() for cell in table["PSNR"]] == ["-", *(f"{row['psnr']:.1f}" for row in rows[1:])]
    for name in ("scores.json", "images.csv", "scores-classes.png", "pictures.png"):
        assert f"wrote {tmp_path / 'out' / name}" in " ".join(printed.split())
        assert (tmp_path / "out" / name).stat().st_size > 0
    shares = [*csv.DictReader((tmp_path / "out/images.csv").read_text().splitlines())]
    assert [row["image"] for row in shares] == [data.name(i) for i in range(len(data))]
    alone = evaluate_restoration(smpf.from_pretrained(trained / "model"), [data[1]], classes=6)
    assert {name: float(shares[1][name]) for name in ("miou", "dice", "solved")} == pytest.approx(
        {name: alone.answer.metrics[name] for name in ("miou", "dice", "solved")},
        abs=5e-3,  # in a batch of its own a pixel or two may round to another class
    )


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ([], "folder"),
        (["--data.workers", "0"], "folder"),
        (["--distortion.turbulence", "{cn2: 1e-13}"], "turbulence"),
        (["--distortion.turbulence={cn2: 1e-13}"], "turbulence"),
        (["--distortion.name", "jpeg"], "name"),
        (["--distortion.severity=5"], "name"),
    ],
)
def test_another_distortion_than_that_of_the_run_is_not_outranked_by_it(words, taken, tmp_path):
    ran = {"name": "contrast", "severity": 2, "turbulence": {"cn2": 1e-14}, "folder": "stored"}
    told = {"seed": 0, "data": {}, "restoration": {}, "distortion": ran}
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    argv = with_settings_of_a_run(["restore", "evaluate", "--run", str(tmp_path), *words])
    kept = json.loads(argv[argv.index("--config") + 1])["distortion"]
    assert (kept["folder"] is None) == (taken != "folder")
    assert (kept["turbulence"] is None) == (taken == "name")
    assert argv[-len(words) or len(argv) :] == words


def test_the_restored_picture_is_named_after_its_step(trained, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(pictures, "grid", lambda rows, path: titles.extend(name for name, _ in rows[0]))
    model, data = smpf.from_pretrained(trained / "model"), Triplets(images("test"), "motion_blur", 2)
    pictures.restored(model, [data[0]], tmp_path / "pictures.png", classes=6)
    last = titles[-1].removeprefix("of ")
    assert titles[:4] == ["clean", "distorted", f"restored, {last}", "displacement"]
    assert last == "step 2"


def test_a_saved_model_is_evaluated_on_any_data_and_distortion(trained, tmp_path):
    told = settings(tmp_path / "told.yaml", {"data": DATA})
    line = f"restore evaluate --model {trained}/model --config {told} --distortion.name contrast --out {tmp_path}/out"
    assert smp_feedback(f"{line} --accelerator cpu") == 0
    rows = load_result(tmp_path / "out/scores.json")["rows"]
    data = Triplets(open_dataset("polygons", "test", size=32, count=8), "contrast", 3)
    found = evaluate_restoration(smpf.from_pretrained(trained / "model"), data, classes=6)
    assert rows[1]["score"] == pytest.approx(found.of("distorted").score.score, abs=1e-9)


# --- stored images


@pytest.fixture
def streets(tmp_path):
    """A folder of images, and one of distorted ones."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for i in range(count):
            for folder, shape in ((split, (32, 32, 3)), (f"{split}annot", (32, 32)), (f"hot/{split}", (32, 32, 3))):
                path = tmp_path / folder / f"{split}{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 12, shape, np.uint8)).save(path)
    return tmp_path


@pytest.mark.parametrize("folder", ["hot", "hot/{{split}}"])
def test_stored_images_are_trained_and_scored_on(folder, streets, config, tmp_path):
    data = f"--data.name camvid --data.root {streets} --data.options null --distortion.folder {streets}/{folder}"
    more = "--data.augment flip --data.crop 24"
    assert smp_feedback(f"restore train --config {config} {data} {more} --out {tmp_path}/out") == 0
    assert smp_feedback(f"restore evaluate --run {tmp_path}/out --out {tmp_path}/scored --accelerator cpu") == 0
    rows = load_result(tmp_path / "scored/scores.json")["rows"]
    stored = StoredTriplets(open_dataset("camvid", "test", root=streets, size=32), streets / "hot")
    distorted, clean, _ = (torch.stack(column) for column in zip(*stored, strict=True))
    assert rows[1]["l1"] == pytest.approx(l1(distorted, clean).mean().item(), rel=1e-5)


def test_training_images_are_cropped_with_their_stored_partners(streets):
    how = {"name": "camvid", "root": str(streets), "augment": "flips", "crop": 24, "batch_size": 2}
    data, facts = open_triplets("fit", 0, Distortion(folder=f"{streets}/hot"), **how)
    assert (facts.image, facts.crop) == ((3, 32, 32), (3, 24, 24))
    assert [tuple(part.shape) for part in data.train[0]] == [(3, 24, 24), (3, 24, 24), (24, 24)]
    assert [tuple(part.shape) for part in data.val[0]] == [(3, 32, 32), (3, 32, 32), (32, 32)]


def test_training_images_are_distorted_anew_and_others_always_alike():
    data, _ = open_triplets("fit", 7, Distortion(name="gaussian_noise"), **DATA)
    assert not torch.equal(data.train[0][0], data.train[0][0])
    other, _ = open_triplets("fit", 8, Distortion(name="gaussian_noise"), **DATA)
    assert torch.equal(data.val[0][0], other.val[0][0])


# --- what is refused


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "but it was not provided"),
        ("trian", "No verb of restore is called 'trian'. Did you mean 'train'?"),
        ("train --restoration.steps 0", "steps=0: expected a whole number >= 1"),
        ("train --restoration.weight 0", "steps=2 with weight=0"),
        ("train --restoration.weight nan", "restoration.weight: expected float or 'learnt', not nan"),
        ("train --restoration.restorer unett", "Did you mean 'unet'"),
        ("train --restoration.filtres 3", "Did you mean '--restoration.filters'"),
        ("train --distortion.name turbulance", "Did you mean 'turbulence'"),
        ("train --distortion.severity nan", "severity"),
        ("train --distortion.severity 6", "severity=6"),
        ("train --distortion.turbulence '{{cn2: .nan}}'", "cn2=nan"),
        ("train --distortion.turbulence '{{cm2: 1}}'", "Did you mean 'cn2'"),
        ("train --distortion.turbulence '{{cn2: 1.0}}' --distortion.name jpeg", "distorted in one way; give one"),
        ("train --distortion.turbulence '{{cn2: 1.0}}' --distortion.folder there", "distorted in one way; give one"),
        ("train --distortion.folder {tmp}/none", "{tmp}/none: expected the folder of the distorted images"),
        ("train --training.class_weights [1,2]", "class_weights has 2 numbers, the data have 6 classes"),
        ("train --training.class_weights balancd", "class_weights='balancd'"),
        ("train --training.gammas [-1]", "gammas=-1"),
        ("train --training.loss cross_entropi", "Did you mean 'cross_entropy'"),
        ("train --training.loss dice --training.gammas [0]", "gammas"),
        ("train --training.lr 0", "lr=0"),
        ("train --training.halve_every 0", "halve_every=0"),
        ("train --trainer.accumulate_grad_batches 2", "RestorationModule does not accumulate gradients, as R takes"),
        ("train {usual} --base {tmp}/none", "expected the folder of a run of smp-feedback fit"),
        ("train {usual} --base {trained}", "is a run of restore train, restored already"),
        ("train --base {base}", "--model.encoder tu-test_resnet.r160_in1k with --base"),
        ("train --data.corruption contrast", "data.corruption"),
        ("train --data.batch_size 99", "batch_size=99"),
        ("train --data.crop 0", "crop=0"),
        ("train --model.arch Unett", "Did you mean 'Unet'"),
        ("train --seed -1", "seed=-1"),
        ("train --save_every 0", "save_every=0"),
        ("train --early_stopping 0", "early_stopping=0"),
        ("train --resume {tmp}/none", "expected the folder of a run of restore train"),
        ("train --resume {base}", "is no run of restore train"),
        ("evaluate", "Whose model? Give --run DIR, the --out of restore train"),
        ("evaluate --run {tmp}/none", "expected the folder of a run of restore train"),
        ("evaluate --run {base}", "is no run of restore train"),
        ("evaluate --model {tmp}/none", "expected a saved model, there is none"),
        ("evaluate --model {base}/model", "was not written by smp_feedback. smp wrote it"),
        ("evaluate --run {trained} --split train", "split='train'"),
        ("evaluate --run {trained} --window 16", "--window 16. That is an option of validate, test, predict."),
        ("evaluate --run {trained} --accelerator tpu", "accelerator='tpu'"),
        ("evaluate --run {trained} --data.name coloured_shapes", "classes=3: this model's base tells 6"),
    ],
)
def test_what_is_wrong_is_one_line_before_any_work(line, says, base, config, trained, tmp_path, capsys):
    verb, _, words = line.replace("{usual}", USUAL).partition(" ")
    told = f"--config {config}" if verb == "train" and "--resume" not in words else ""
    names = {"base": base, "trained": trained, "tmp": tmp_path}
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    out = f"--out {tmp_path}/out" if verb in ("train", "evaluate") else ""
    assert smp_feedback(f"restore {verb} {told} {words} {out}", **names) == 2
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.count("\n") == 1
    assert says.format(**names) in err
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_labels_of_whole_images_are_refused(config, mnist, tmp_path, capsys):
    digits = f"--data.name torchvision/MNIST --data.root {mnist} --data.options null"
    assert smp_feedback(f"restore train --config {config} {digits} --out {tmp_path}/out") == 2
    assert "has one label an image" in capsys.readouterr().err


def test_another_verbs_run_is_said_to_be_one(base, trained, capsys):
    for line in (f"test --run {trained}", f"fit --resume {trained}", f"score tune --run {trained}"):
        assert smp_feedback(line) == 2
        assert "is a run of restore train" in capsys.readouterr().err
    assert smp_feedback(f"score train --base {trained} --data.batch_size 4") == 2
    assert "is a run of restore train, restored already" in capsys.readouterr().err


def test_a_run_that_never_ended_has_no_model_to_evaluate(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("model"))
    assert smp_feedback(f"restore evaluate --run {tmp_path}/run") == 2
    assert f"restore train --resume {tmp_path}/run goes on with it" in capsys.readouterr().err


def test_the_settings_of_a_run_come_before_all_words(base, trained):
    words = with_settings_of_a_run(["restore", "train", f"--base={base}", "--data.size", "64"])
    assert words[:3] == ["restore", "train", "--config"]
    told = json.loads(words[3])
    assert set(told) == {"seed", "data"}
    assert not {"batch_size", "augment", "crop", "corruption", "severity"} & set(told["data"])
    assert set(json.loads(with_settings_of_a_run(["restore", "evaluate", "--run", str(trained)])[3])) == {
        *("seed", "data", "distortion")
    }
    assert with_settings_of_a_run(["restore", "evaluate"]) == ["restore", "evaluate"]
