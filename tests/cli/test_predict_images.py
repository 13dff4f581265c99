"""``smp-feedback predict``: from a folder of photographs to what one can hand over, at their own sizes and names."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.nn import functional as F

pytest.importorskip("lightning")
import smp_feedback as smpf
from smp_feedback.cli import watching
from smp_feedback.cli.main import main
from smp_feedback.data.augment import resize
from smp_feedback.data.images.reader import ImageReader
from smp_feedback.data.masks.reader import MaskReader
from smp_feedback.errors import InvalidInput
from smp_feedback.ops.reading import CLASSIFICATION, labels_of
from smp_feedback.training.looks_module import LooksModule

COLOURS = {"background": [10, 20, 30], "leaf": [0, 200, 0], "stone": [250, 0, 90]}
FOLDERS = {"images": "{split}", "masks": "{split}annot", "classes": [*COLOURS], "ignore_index": None}
SETTINGS = {
    "model": {"arch": "PlainConv", "arguments": {"width": 4, "depth": 2}, "feedback": {"steps": 2}},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "logger": False},
}


def smp_feedback(line):
    return main(shlex.split(line))


def noise(seed, *size):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def save(path, array, **told):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **told)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on photographs and masks of colours; all of these are gone."""
    root = tmp_path_factory.mktemp("trained")
    palette = np.array([*COLOURS.values()], np.uint8)
    for split in ("train", "val"):
        for k in range(2):
            save(root / "data" / split / f"{k}.png", noise(k, 24, 16))
            labels = np.random.default_rng(k).integers(0, 3, (24, 16))
            save(root / "data" / f"{split}annot" / f"{k}.png", palette[labels])
    data = {"name": "folder", "root": str(root / "data"), "size": [24, 16], "batch_size": 2, "colours": COLOURS}
    (root / "run.yaml").write_text(yaml.safe_dump({**SETTINGS, "data": {**data, "options": FOLDERS}}))
    assert smp_feedback(f"fit --config {root}/run.yaml --out {root}/run") == 0
    shutil.rmtree(root / "data")
    return root / "run"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Of three sizes, one held on its side; two of one stem, and one that is broken."""
    folder = tmp_path_factory.mktemp("photos")
    save(folder / "site A (1).png", noise(1, 30, 50))
    save(folder / "site_A_1.png", noise(2, 48, 32))
    turned = Image.Exif()
    turned[0x0112] = 6
    save(folder / "turned.jpg", noise(3, 20, 40), exif=turned)
    save(folder / "turned.png", noise(4, 13, 11))
    (folder / "broken.jpg").write_bytes((folder / "turned.jpg").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def handed(run, photos, tmp_path_factory):
    """All that can be asked for, of all of them."""
    out = tmp_path_factory.mktemp("handed") / "out"
    asked = "--overlays true --probabilities npy --polygons coco --maps masks --uncertainty true"
    assert smp_feedback(f"predict --run {run} --images {photos} --out {out} {asked}") == 1
    return out


NAMES = {"site A (1).png": "site A (1)", "site_A_1.png": "site_A_1", "turned.jpg": "turned", "turned.png": "turned_1"}


def picture(path):
    with Image.open(path) as file:
        file.load()
        return file.copy()


def logits_of(run, photo):
    """As the saved model answers, at the photograph's own size."""
    model = smpf.from_pretrained(run / "model").eval()
    image = ImageReader().read(photo)
    with torch.no_grad():
        logits = model(model.preprocess(image)[None])
    return F.interpolate(logits, image.shape[-2:], mode="bilinear", align_corners=False)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("photo", "name"), NAMES.items())
def test_maps_have_the_size_and_the_stem_of_the_photograph_and_the_values_of_the_masks(
    handed, run, photos, photo, name
):
    reader = MaskReader(classes=[*COLOURS], colours=COLOURS)
    read = reader.read(handed / f"{name}.png")
    logits = logits_of(run, photos / photo)
    clear = logits.topk(2, 1).values.diff(dim=1)[0, 0].abs() > 1e-5
    assert torch.equal(read[clear], labels_of(logits)[0][clear])
    assert read.shape == ImageReader().read(photos / photo).shape[-2:]


def test_a_photograph_that_was_held_on_its_side_has_an_upright_map(handed):
    assert picture(handed / "turned.png").size == (20, 40)


def test_probabilities_are_those_of_the_resized_logits(handed, run, photos):
    found = np.load(handed / "site A (1).probabilities.npy")
    expected = logits_of(run, photos / "site A (1).png")[0].softmax(0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_table_says_areas_uncertainty_and_looks(handed, run, photos):
    rows = {row["image"]: row for row in rows_of(handed / "summary.csv")}
    assert {row["name"] for row in rows.values()} == {*NAMES.values()}
    row = rows[str(photos / "turned.jpg")]
    read = MaskReader(classes=[*COLOURS], colours=COLOURS).read(handed / "turned.png")
    assert [int(row[f"{name}_px"]) for name in COLOURS] == read.flatten().bincount(minlength=3).tolist()
    assert (row["height"], row["width"], row["looks"]) == ("40", "20", "2")
    p = logits_of(run, photos / "turned.jpg")[0].double().softmax(0)
    assert float(row["uncertainty"]) == pytest.approx(float(-(p * p.log()).sum(0).mean() / np.log(3)), abs=1e-4)


def test_overlays_keep_the_photograph_and_have_the_names_below(handed, photos):
    photo, overlay = picture(photos / "site A (1).png"), picture(handed / "site A (1).overlay.jpg")
    assert overlay.width >= photo.width
    assert overlay.height > photo.height


def test_outlines_read_back_through_the_reader_of_coco_are_the_maps(handed, photos, tmp_path):
    folder = tmp_path / "coco"
    (folder / "train").mkdir(parents=True)
    for photo in NAMES:
        if photo != "turned.jpg":  # COCO's reader draws on the image as it is stored
            shutil.copy(photos / photo, folder / "train")
    told = json.loads((handed / "annotations.json").read_text())
    kept = [one for one in told["images"] if one["file_name"] != "turned.jpg"]
    ids = {one["id"] for one in kept}
    told |= {"images": kept, "annotations": [one for one in told["annotations"] if one["image_id"] in ids]}
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(told))
    data = smpf.data.open_dataset("coco", "train", root=folder)
    assert data.classes == tuple(COLOURS)
    for k in range(len(data)):
        read = MaskReader(classes=[*COLOURS], colours=COLOURS).read(handed / f"{NAMES[data.samples[k][0].name]}.png")
        assert torch.equal(data[k][1], read)


def test_what_could_not_be_read_is_named_and_all_else_is_there(run, photos, tmp_path, capsys):
    assert smp_feedback(f"predict --run {run} --images {photos} --out {tmp_path / 'out'}") == 1
    out, err = capsys.readouterr()
    assert "4 images answered, 1 could not be read" in out
    assert "broken.jpg" in err
    assert err.count("\n") == 1
    assert max(map(len, out.splitlines()[1:7])) <= 80
    assert f"{photos}/turned.png is called turned_1" in out
    for name in ("summary.csv", "names.csv", "failed.csv"):
        assert f"wrote {tmp_path / 'out' / name}" in out
    assert [row["image"] for row in rows_of(tmp_path / "out" / "failed.csv")] == [str(photos / "broken.jpg")]
    assert rows_of(tmp_path / "out" / "names.csv") == [{"image": str(photos / "turned.png"), "name": "turned_1"}]
    labels = picture(tmp_path / "out" / "turned.png")
    assert labels.mode == "P"
    assert labels.getpalette()[:9] == [value for colour in COLOURS.values() for value in colour]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--maps colours", "maps='colours'"),
        ("--probabilities png", "probabilities='png'"),
        ("--polygons svg", "polygons='svg'"),
        ("--min_area 5", "give --polygons geojson or coco, too"),
        ("--min_area 0 --polygons coco", "min_area=0: expected a whole number >= 1"),
        ("--watch nowhere", "give one of them"),
        ("--film true --overlays true", "--overlays: a film gets one answer a frame"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_file(run, photos, tmp_path, capsys, words, says):
    assert smp_feedback(f"predict --run {run} --images {photos} --out {tmp_path / 'out'} {words}") == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    model = smpf.create("timm/test_resnet.r160_in1k", classes=2, feedback=smpf.Recurrent(steps=1))
    model.data_config = replace(model.data_config, classes=("dark", "light"), task=CLASSIFICATION, size=(32, 32))
    path = tmp_path_factory.mktemp("classifier") / "model"
    model.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    "words",
    [
        "--maps masks",
        "--probabilities npy",
        "--overlays true",
        "--polygons geojson",
        "--min_area 4 --polygons coco",
        "--window 32",
    ],
)
def test_what_only_maps_have_is_refused_of_a_classifier_before_any_file(classifier, photos, tmp_path, capsys, words):
    told = f"predict --run {classifier} --images {photos} --out {tmp_path / 'out'} --trainer.accelerator cpu {words}"
    assert smp_feedback(told) == 2
    assert re.search(rf"{words.split()[-2]}: the model classifies, .*leave it out", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_answers_do_not_replace_the_photographs(run, photos, capsys):
    before = sorted(photos.iterdir())
    assert smp_feedback(f"predict --run {run} --images {photos} --out {photos}") == 2
    assert "is where the images are" in capsys.readouterr().err
    assert sorted(photos.iterdir()) == before


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_answers_do_not_replace_masks_nor_other_programs_maps(run, tmp_path, capsys):
    """Masks have the names of photographs, and so have answers."""
    for k in range(2):
        save(tmp_path / "test" / f"{k}.png", noise(k, 24, 16))
        save(tmp_path / "testannot" / f"{k}.png", noise(k + 9, 24, 16))
    before = contents(tmp_path)
    told = f"predict --run {run} --images {tmp_path}/test --trainer.accelerator cpu"
    assert smp_feedback(f"{told} --out {tmp_path}/testannot") == 2
    assert "0.png is there, and is no answer that was written before" in capsys.readouterr().err
    assert contents(tmp_path) == before
    for _ in range(2):  # those of a run before are replaced
        assert smp_feedback(f"{told} --out {tmp_path}/out") == 0
    with Image.open(tmp_path / "out" / "0.png") as written:
        assert written.info["Software"] == "smp_feedback"


def test_the_answers_to_a_split_do_not_replace_its_photographs(tmp_path, capsys):
    palette = np.array([*COLOURS.values()], np.uint8)
    for split in ("train", "val", "test"):
        save(tmp_path / "data" / split / "0.png", noise(0, 24, 16))
        save(tmp_path / "data" / f"{split}annot" / "0.png", palette[np.arange(24 * 16).reshape(24, 16) % 3])
    data = {"name": "folder", "root": str(tmp_path / "data"), "batch_size": 1, "colours": COLOURS}
    data |= {"shared": "allow", "options": FOLDERS}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**SETTINGS, "data": data}))
    assert smp_feedback(f"fit --config {tmp_path}/run.yaml --out {tmp_path}/run") == 0
    assert f"next: smp-feedback test --run {tmp_path}/run" in capsys.readouterr().out
    before = contents(tmp_path / "data")
    for folder, says in (("test", "is where the images are"), ("testannot", "no answer that was written before")):
        assert smp_feedback(f"predict --run {tmp_path}/run --out {tmp_path}/data/{folder}") == 2
        assert says in capsys.readouterr().err
    assert contents(tmp_path / "data") == before
    shutil.rmtree(tmp_path / "data" / "test")
    assert smp_feedback(f"fit --config {tmp_path}/run.yaml --out {tmp_path}/again") == 0
    assert f"next: smp-feedback validate --run {tmp_path}/again" in capsys.readouterr().out


def test_the_labels_of_somebody_else_are_kept(classifier, photos, tmp_path, capsys):
    told = f"predict --run {classifier} --images {photos} --out {tmp_path} --trainer.accelerator cpu"
    (tmp_path / "labels.csv").write_text("file,label\n0.png,cat\n")
    assert smp_feedback(told) == 2
    assert "labels.csv is there, and is no table that was written before" in capsys.readouterr().err
    assert (tmp_path / "labels.csv").read_text() == "file,label\n0.png,cat\n"
    (tmp_path / "labels.csv").write_text("image,label,probability\n0.png,cat,1.0\n")
    assert smp_feedback(told) == 1  # a photograph is broken
    assert "cat" not in (tmp_path / "labels.csv").read_text()


SLIM = {
    "Unet": {"encoder_depth": 3, "decoder_channels": (16, 8, 8)},
    "FPN": {"decoder_pyramid_channels": 16, "decoder_segmentation_channels": 32},
}


@pytest.mark.parametrize(("arch", "shown"), [("Unet", (30, 45)), ("FPN", (32, 64))])
def test_a_model_of_any_size_answers_images_that_its_strides_do_not_divide(arch, shown, tmp_path):
    slim = {"classes": 3, "encoder_weights": None, "feedback": smpf.Recurrent(steps=1), **SLIM[arch]}
    model = smpf.create(arch, "tu-test_resnet.r160_in1k", **slim).eval()
    model.save_pretrained(tmp_path / "model")
    save(tmp_path / "photos" / "a.png", noise(0, 30, 45))
    told = f"predict --run {tmp_path}/model --images {tmp_path}/photos --out {tmp_path}/out --trainer.accelerator cpu"
    assert smp_feedback(told) == 0
    image = resize(ImageReader().read(tmp_path / "photos" / "a.png"), shown) / 255
    with torch.no_grad():
        expected = F.interpolate(model(image[None]), (30, 45), mode="bilinear").argmax(1)[0].numpy()
    assert (np.array(picture(tmp_path / "out" / "a.png")) == expected).mean() > 0.99


# --- a folder that is watched


def test_a_size_that_the_model_cannot_take_is_recorded_and_the_others_are_answered(tmp_path, monkeypatch):
    model = smpf.create("PlainConv", classes=2, width=4, feedback=smpf.Recurrent(steps=1))
    model.save_pretrained(tmp_path / "model")
    for name, size in ("a", (9, 9)), ("b", (30, 20)):
        save(tmp_path / "photos" / f"{name}.png", noise(0, *size))
    looked = LooksModule.answers

    def answers(self, image):
        if image.shape[-1] < 16:
            raise InvalidInput("an image of 9 px: expected 16 at least.")
        return looked(self, image)

    monkeypatch.setattr(LooksModule, "answers", answers)
    told = f"predict --run {tmp_path}/model --images {tmp_path}/photos --out {tmp_path}/out"
    assert smp_feedback(f"{told} --trainer.accelerator cpu --trainer.enable_progress_bar false") == 1
    failed = [*csv.DictReader((tmp_path / "out" / "failed.csv").read_text().splitlines())]
    assert [(row["image"], "16 at least" in row["why"]) for row in failed] == [(f"{tmp_path}/photos/a.png", True)]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["b.png"]
    monkeypatch.setenv("SMP_FEEDBACK_DEBUG", "1")
    with pytest.raises(InvalidInput):  # who gives a size gives it to all
        smp_feedback(f"{told} --data.size 8 --trainer.accelerator cpu --trainer.enable_progress_bar false")


def test_what_arrives_is_answered_once_and_when_it_is_whole(run, photos, tmp_path, monkeypatch, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    whole = (photos / "site_A_1.png").read_bytes()

    def bring():
        yield lambda: shutil.copy(photos / "turned.png", folder / "a.png")
        yield lambda: (folder / "b.png").write_bytes(whole[:100])
        yield lambda: (folder / "b.png").write_bytes(whole)
        yield lambda: None  # b.png is whole by now
        yield lambda: (folder / "gone.png").write_bytes(whole)
        yield (folder / "gone.png").unlink
        yield lambda: (folder / "a.png").write_bytes(whole)
        yield lambda: (folder / "empty.png").touch()
        yield from (lambda: None for _ in range(3))

    todo = bring()

    def rest(seconds):
        try:
            next(todo)()
        except StopIteration:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(watching.time, "sleep", rest)
    assert smp_feedback(f"predict --run {run} --watch {folder} --out {out}") == 1
    said, err = capsys.readouterr()
    assert said.count("answered ") == 3, "a.png twice, as it was replaced"
    assert "gone" not in said + err
    assert "empty.png was not whole yet" in err
    assert {row["image"] for row in rows_of(out / "summary.csv")} == {str(folder / "a.png"), str(folder / "b.png")}
    assert picture(out / "a.png").size == picture(out / "b.png").size == (32, 48)
    (folder / "empty.png").unlink()
    stamp = (out / "a.png").stat().st_mtime_ns
    todo = iter([lambda: None] * 3)
    assert smp_feedback(f"predict --run {run} --watch {folder} --out {out}") == 0
    assert "2 images of" in capsys.readouterr().out
    assert (out / "a.png").stat().st_mtime_ns == stamp
    assert len(rows_of(out / "summary.csv")) == 2
