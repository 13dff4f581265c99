"""What the app shows of an image: looks that are the model's, kept small, and exported as predict writes them."""

from __future__ import annotations

import zipfile
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from small_base import SmallBase

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

import smp_feedback as smpf
from smp_feedback.app.exports import export_mask, export_overlay
from smp_feedback.app.looks import looking_at, looks_of, nearest, on_page
from smp_feedback.app.pictures import CHANGED, legend_of, shown_at
from smp_feedback.app.served import described, served
from smp_feedback.cli.main import main
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.reading import labels_of

CLASSES = ("background", "road", "sky")
MEAN = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}


def moving(**told):
    """A model whose answer goes on changing, at half the image's size."""
    torch.manual_seed(0)
    loop = smpf.Recurrent(steps=2, dynamics="leaky", tau=4.0, feedback_init=1.0)
    model = smpf.create("PlainConv", classes=3, width=8, depth=2, feedback=loop)
    model.data_config = smpf.DataConfig(**{"size": (20, 24), "classes": CLASSES, **MEAN, **told})
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return moving()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    pixels = np.random.default_rng(0).integers(0, 256, (45, 50, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photos") / "street.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def looked(model, photo):
    return looks_of(served(model), photo)


def test_the_mask_of_every_look_is_the_one_that_predict_writes(model, photo, looked, tmp_path):
    model.save_pretrained(tmp_path / "model")
    for t in (1, 2, 7):
        words = ["--run", tmp_path / "model", "--images", photo, "--steps", t, "--out", tmp_path / f"{t}"]
        assert main(["predict", *map(str, words), "--trainer.accelerator", "cpu"]) == 0
        ours = export_mask(looked, t, tmp_path)
        assert ours.name == f"street.look_{t}.png"
        assert ours.read_bytes() == (tmp_path / f"{t}" / "street.png").read_bytes()
    assert len({(tmp_path / f"{t}" / "street.png").read_bytes() for t in (1, 2, 7)}) == 3, "the looks differ"


def test_there_are_four_times_as_many_looks_as_the_model_takes_by_itself(model, looked):
    assert served(model).usual == 2
    assert len(looked.looks) == 8
    assert served(model, looks=3).most == 3


def test_looks_come_one_by_one_and_the_model_is_free_between_them(model, photo, looked):
    found = served(model)
    sofar = []
    for one in looking_at(found, photo):
        sofar.append(one)
        with found.working():  # a camera's frame, say
            model(torch.rand(1, 3, 20, 24))
    assert [(len(one.looks), one.more) for one in sofar] == [(t, 8 - t) for t in range(1, 9)]
    for one in sofar:
        for ours, there in zip(one.looks, looked.looks, strict=False):
            assert (ours.packed, ours.changed) == (there.packed, there.changed)
    assert "Look 2 of 3 (up to 5 more to come); " in shown_at(sofar[2], 2).said
    assert shown_at(sofar[-1], 2).said.startswith("Look 2 of 8; ")


def test_a_loop_that_rests_says_so_once_it_does(photo):
    found = served(smpf.create("PlainConv", classes=2, width=4, feedback=smpf.Recurrent(tolerance=1e9)), looks=9)
    sofar = [*looking_at(found, photo)]
    assert sofar[-2].more
    assert sofar[-1].more == 0
    assert sofar[-1].looks is sofar[-2].looks
    assert all(one.settled is None for one in sofar[:-1]), "what may still come is not known"


def test_what_changed_is_what_differs_from_the_look_before(looked):
    maps = [looked.labels(look) for look in looked.looks]
    assert looked.looks[0].changed is None
    for look, (before, after) in zip(looked.looks[1:], pairwise(maps), strict=True):
        assert look.changed == (before != after).mean()
    marked = (shown_at(looked, 2).change == CHANGED).all(2)
    assert (marked == nearest(maps[0] != maps[1], looked.size)).all()
    assert not (shown_at(looked, 1).change == CHANGED).all(2).any(), "there is none before the first"


def test_to_move_the_slider_runs_no_model(model, looked, monkeypatch):
    monkeypatch.setattr(type(model), "iterate", None)
    monkeypatch.setattr(type(model), "forward", None)
    shown = [shown_at(looked, t) for t in range(1, 9)]
    assert len({one.answer.tobytes() for one in shown}) > 1
    assert shown_at(looked, 99).said == shown[-1].said


def test_uncertainty_is_the_entropy_over_its_largest(looked):
    for look in looked.looks:
        assert 0 < look.uncertainty < 1
        assert look.doubt.shape == on_page(looked.size)
        assert abs(float(look.doubt.mean()) / 255 - look.uncertainty) < 0.01


def test_the_overlay_has_the_size_of_the_image_and_a_legend_below(looked, tmp_path):
    with Image.open(export_overlay(looked, 2, tmp_path)) as page:
        assert page.width >= looked.size[1]
        assert page.height > looked.size[0]
    assert {name for name, _ in legend_of(looked)} <= {"road", "sky"}, "a background is not painted"


def test_a_look_says_when_the_answer_stays(model, photo):
    with torch.no_grad():
        still = smpf.wrap(
            smpf.create("PlainConv", classes=3, width=8, feedback=False), smpf.Recurrent(steps=2, dynamics="residual")
        )
    looked = looks_of(served(still.eval()), photo)
    assert [look.changed for look in looked.looks] == [None, *7 * [0.0]]
    assert looked.settled == 1
    assert "the answer stays as it is from look 1 on" in shown_at(looked, 3).said


def test_without_feedback_a_residual_model_is_the_one_that_was_wrapped(photo):
    torch.manual_seed(0)
    plain = smpf.create("PlainConv", classes=3, width=8, feedback=False).eval()
    wrapped = smpf.wrap(plain)
    with torch.no_grad():
        wrapped.feedback.dynamics.gamma.fill_(3.0)
        wrapped.feedback.readers[0].weight.normal_()
    found = served(wrapped)
    looked = looks_of(found, photo)
    with torch.no_grad():
        expected = labels_of(plain(found.fed(found.files(photo)[0][0])))[0]
    assert looked.base_said == "The base without feedback: the same weights, no loop"
    assert np.array_equal(looked.labels(looked.base), expected)
    assert not np.array_equal(looked.labels(looked.looks[-1]), expected)


@pytest.mark.parametrize("loop", ["score", "repair"])
def test_without_feedback_a_loop_around_a_base_is_the_base(loop, photo):
    settings = smpf.Score(filters=4, additional_pools=1, steps=2) if loop == "score" else loop
    model = smpf.create(
        "Unet", "resnet18", None, classes=3, encoder_depth=3, decoder_channels=(8, 8, 8), feedback=settings
    )
    model.data_config = smpf.DataConfig(size=(32, 32))
    found = served(model.eval(), looks=2)
    looked = looks_of(found, photo)
    with torch.no_grad():
        shown = found.fed(found.files(photo)[0][0])
        assert np.array_equal(looked.labels(looked.base), looks_labels(model(shown, steps=0), looked.size))
    assert looked.base_said == f"The base without the {loop} loop"


def looks_labels(logits, size):
    return labels_of(torch.nn.functional.interpolate(logits, size, mode="bilinear"))[0].numpy()


def test_what_has_no_answer_without_feedback_shows_its_first_look(looked):
    assert looked.base is None
    assert looked.base_said == "One look (this loop has no answer without feedback)"
    assert np.array_equal(shown_at(looked, 5).base, shown_at(looked, 1).answer)


def test_several_labels_a_pixel_are_exported_as_a_map_a_class(photo, tmp_path):
    looked = looks_of(served(moving(task="multilabel")), photo)
    with zipfile.ZipFile(export_mask(looked, 3, tmp_path)) as archive:
        assert archive.namelist() == [f"street.look_3.{name}.png" for name in CLASSES]
        with archive.open("street.look_3.road.png") as file:
            assert np.array_equal(np.array(Image.open(file)), looked.labels(looked.looks[2])[1])
    assert shown_at(looked, 3).answer.shape == looked.small.shape


def test_a_model_without_feedback_looks_once(photo):
    found = served(smpf.create("PlainConv", classes=2, width=8, feedback=False))
    assert shown_at(looks_of(found, photo), 1).said.startswith("One look; mean uncertainty")
    assert described(found).endswith("no feedback: one look")
    with pytest.raises(InvalidValue, match="looks once"):
        served(found.model, looks=4)


def test_an_image_that_keeps_its_size_is_made_up_to_what_the_model_takes(photo):
    model = smpf.create("Unet", "resnet18", None, classes=2, encoder_depth=3, decoder_channels=(8, 8, 8))
    looked = looks_of(served(model.eval(), looks=1), photo)
    assert looked.labels(looked.looks[0]).shape == (45, 50)


def test_pictures_are_small_and_those_of_small_images_large(tmp_path):
    for size, page in (((2000, 1000), (768, 384)), ((1, 1), (384, 384)), ((9, 30), (117, 390))):
        path = tmp_path / f"{size[0]}.png"
        Image.new("L", size[::-1], 100).save(path)
        found = served(moving(), looks=2)
        shown = shown_at(looks_of(found, path), 2)
        assert shown.answer.shape == shown.doubt.shape == (*page, 3)


def test_an_image_of_other_channels_or_none_at_all_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InvalidInput, match="expected an image file"):
        looks_of(served(moving()), tmp_path / "text.png")


def test_a_classifier_is_refused():
    model = smpf.wrap(SmallBase(torch.nn.Identity()))
    model.data_config = smpf.DataConfig(task="classification")
    with pytest.raises(InvalidValue, match="classifies"):
        served(model)


@pytest.mark.parametrize("feedback", [True, False])
def test_a_classifier_that_does_not_say_so_is_refused_at_its_first_look(photo, feedback):
    model = smpf.create("timm/test_resnet", classes=3, feedback=feedback)
    assert given_config(model).config.task == "segmentation"
    with pytest.raises(InvalidValue, match="classifies"):
        looks_of(served(model, size=32), photo)
