"""A model in windows is scored as the maps that it answers are, for every task, number of looks and rule."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index, multilabel_jaccard_index

import smp_feedback as smpf
from smp_feedback.evaluation import evaluate
from smp_feedback.evaluation.films.predictors import as_predictor
from smp_feedback.ops.reading import labels_of

pytest.importorskip("monai")
IMAGES = torch.rand(2, 3, 20, 27, generator=torch.Generator().manual_seed(0))


def made(classes, **loop):
    torch.manual_seed(0)
    told = {"preset": "anytime", "steps": 3, **loop}
    return smpf.create("PlainConv", classes=classes, width=4, depth=1, feedback=told).eval()


def pairs(targets):
    return [*zip(IMAGES, targets, strict=True)]


def test_two_classes_of_one_channel():
    windows = smpf.tiled(made(1), 12)
    targets = torch.randint(0, 2, (2, 20, 27))
    expected = multiclass_jaccard_index(labels_of(windows(IMAGES)), targets, 2)
    assert evaluate(windows, pairs(targets), classes=2).last.score == pytest.approx(float(expected))


def test_several_labels_a_pixel():
    windows = smpf.tiled(made(3), 12)
    targets = torch.randint(0, 2, (2, 3, 20, 27))
    expected = multilabel_jaccard_index(labels_of(windows(IMAGES), "multilabel"), targets, 3)
    found = evaluate(windows, pairs(targets), classes=3, task="multilabel").last
    assert found.score == pytest.approx(float(expected))


@pytest.mark.parametrize("stitch", ["logits", "state"])
@pytest.mark.parametrize("dynamics", ["gated", "fractional"])
def test_every_number_of_looks(stitch, dynamics):
    extra = {"norm_error": None, "projection": None} if dynamics == "fractional" else {}
    model = made(2, dynamics=dynamics, **extra)
    windows, targets = smpf.tiled(model, 12, stitch=stitch), torch.randint(0, 2, (2, 20, 27))
    found = evaluate(windows, pairs(targets), classes=2, looks=[4, 1])
    for one, looks in zip(found, (1, 4), strict=True):
        expected = multiclass_jaccard_index(labels_of(windows(IMAGES, looks)), targets, 2)
        assert one.score == pytest.approx(float(expected))
        assert (one.looks, one.mean_looks) == (looks, looks)


def test_an_image_has_as_many_looks_as_the_slowest_of_its_windows():
    model, rule = made(2), smpf.until_settled(2, at_most=6)
    windows, most = smpf.tiled(model, 12, 0.0), []
    for image in IMAGES:
        took = []
        windows.stitched(image[None], lambda part, took=took: took.append(last(model, part, rule)) or model(part))
        most.append(max(took))
    found = evaluate(windows, pairs(torch.zeros(2, 20, 27).long()), classes=2, looks=[1, rule])
    assert found.at(rule).mean_looks == sum(most) / 2


def last(model, part, rule):
    *_, step = model.iterate(part, rule)
    return int(step.looks)


def test_films_whose_state_goes_on_are_not_seen_in_windows():
    with pytest.raises(smpf.FeedbackError, match="windows carry none: leave window out"):
        as_predictor(smpf.tiled(made(2), 12))
    as_predictor(smpf.tiled(smpf.create("PlainConv", classes=2, feedback=False), 12))
