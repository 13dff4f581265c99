"""Every metric by name: torchmetrics' and MONAI's own values, absent classes, images one by one, and intervals."""

from __future__ import annotations

import csv
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from smp_feedback.errors import InvalidValue, MissingExtra
from smp_feedback.evaluation import evaluate
from smp_feedback.evaluation.by_image import Images
from smp_feedback.evaluation.confusion import cells_of
from smp_feedback.evaluation.distances import distances_of
from smp_feedback.evaluation.named_metrics import MEASURED, METRICS, SOLVED, metrics_for
from smp_feedback.evaluation.score_files import write_scores
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL, SEGMENTATION, TASKS

pytest.importorskip("torchmetrics")
pytest.importorskip("monai")
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from torchmetrics import classification

VOID, CLASSES = 255, 4
SHAPES = {SEGMENTATION: (6, 5), MULTILABEL: (CLASSES, 6, 5), CLASSIFICATION: ()}
THEIRS = {
    "miou": "JaccardIndex",
    "dice": "F1Score",
    "precision": "Precision",
    "recall": "Recall",
    "accuracy": "Accuracy",
}
SHARES = [(name, task) for name in THEIRS for task in METRICS[name].tasks]


def guesses(task, seed, images=5, void=0.2):
    """Logits and targets, some of them void; the third class is only said, the last is nowhere."""
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(size=(images, CLASSES, *SHAPES[SEGMENTATION][: 2 * (task != CLASSIFICATION)])))
    target = torch.tensor(rng.integers(0, 2, (images, *SHAPES[task])))
    if task == MULTILABEL:
        target[:, 2] = 0
        target[:, 3], logits[:, 3] = 0, -1
    else:
        logits[:, 3] = -9
    target[torch.tensor(rng.random(target.shape) < void)] = VOID
    return logits.float(), target


def scored(logits, target, task, **how):
    pairs = list(zip(logits, target, strict=True))
    about = {"classes": CLASSES, "ignore_index": VOID, "task": task, "batch_size": 2}
    return evaluate(nn.Identity(), pairs, **about, **how).last


def test_every_share_has_a_reference():
    assert {*THEIRS, SOLVED, *MEASURED} == METRICS.keys()


@pytest.mark.parametrize(("name", "task"), SHARES)
def test_shares_are_torchmetrics_own(name, task):
    logits, target = guesses(task, 1, images=20)
    told = {"num_labels": CLASSES} if task == MULTILABEL else {"num_classes": CLASSES}
    kind = getattr(classification, ("Multilabel" if task == MULTILABEL else "Multiclass") + THEIRS[name])
    each = kind(**told, ignore_index=VOID, average="none")(logits, target)
    score = scored(logits, target, task)
    found = score.class_metrics[name]
    if name == "accuracy" and task == MULTILABEL:  # that nobody says or is it is an answer
        assert list(found) == pytest.approx(each.tolist(), abs=1e-6)
    else:
        assert list(found[:3]) == pytest.approx(each[:3].tolist(), abs=1e-6)
        assert found[3] is None, "in neither answer nor target"
    if METRICS[name].overall:
        whole = kind(**told, ignore_index=VOID, average="micro")(logits, target)
    elif task == MULTILABEL:  # there torchmetrics counts what is nowhere as 0
        whole = each[:3].mean()
    else:
        whole = kind(**told, ignore_index=VOID, average="macro")(logits, target)
    assert score.metrics[name] == pytest.approx(float(whole), abs=1e-6)


@pytest.mark.parametrize("ignored", [0, 1])
def test_a_class_that_is_ignored_is_in_no_mean(ignored):
    logits, target = guesses(SEGMENTATION, 2, void=0)
    pairs = list(zip(logits, target, strict=True))
    score = evaluate(nn.Identity(), pairs, classes=CLASSES, ignore_index=ignored).last
    for name in ("miou", "dice", "precision", "recall"):
        each = score.class_metrics[name]
        assert each[ignored] is None
        there = [value for value in each if value is not None]
        assert score.metrics[name] == pytest.approx(sum(there) / len(there))


def test_one_channel_tells_two_classes():
    pairs = [(torch.tensor([[[1.0, 1.0, -1.0, -1.0]]]), torch.tensor([[1, 0, 0, 1]]))]
    score = evaluate(nn.Identity(), pairs, classes=2).last
    assert score.confusion == ((1, 1), (1, 1))
    assert score.class_metrics["dice"] == (0.5, 0.5)


# --- distances


@pytest.fixture
def blobs():
    """What was said and what is so, of three images: objects that overlap, a class missed, a class made up."""
    said, so = torch.zeros(3, 12, 10).long(), torch.zeros(3, 12, 10).long()
    so[0, 2:7, 2:6], said[0, 3:9, 3:8] = 1, 1
    so[1, 1:3, 1:3] = 1
    said[2, 8, 8] = 2
    return said, so


def test_distances_are_monais_and_the_diagonal_where_one_has_none(blobs):
    said, so = blobs
    logits = nn.functional.one_hot(said, 3).movedim(-1, 1).float()
    found = distances_of(cells_of(logits, so, 3, None), 3, None, SEGMENTATION)
    masks = [nn.functional.one_hot(labels[:1], 3).movedim(-1, 1)[:, :2].float() for labels in (said, so)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        wanted = compute_hausdorff_distance(*masks, include_background=True, percentile=95)[0]
        average = compute_average_surface_distance(*masks, include_background=True, symmetric=True)[0]
    torch.testing.assert_close(found[0, :2], torch.stack([wanted, average], 1))
    assert found[0, 2].isnan().all(), "in neither"
    assert found[1, 1].tolist() == found[2, 2].tolist() == pytest.approx([math.hypot(11, 9)] * 2)


def test_void_belongs_to_nobody(blobs):
    said, so = blobs
    so[0] = 0
    so[0, 2:4, 2:4], so[0, 3:9, 3:8] = 1, VOID
    said[0], said[0, 2:4, 2:4], said[0, 6:, 6:] = 0, 1, 1
    logits = nn.functional.one_hot(said, 3).movedim(-1, 1).float()
    so[0, 6:, 6:] = VOID
    found = distances_of(cells_of(logits, so, 3, VOID), 3, VOID, SEGMENTATION)
    assert found[0, 1].tolist() == [0, 0]


def test_distances_of_several_labels_are_those_of_each():
    logits, so = torch.full((1, 2, 9, 9), -1.0), torch.zeros(1, 2, 9, 9).long()
    so[0, :, 4, 1] = 1
    logits[0, 0, 4, 1], logits[0, 1, 4, 5] = 1, 1
    found = distances_of(cells_of(logits, so, 2, None, MULTILABEL), 2, None, MULTILABEL)
    assert found[0].tolist() == [[0, 0], [4, 4]]


def test_labels_have_no_outlines_and_a_library_that_is_missing_is_named(monkeypatch):
    with pytest.raises(InvalidValue, match="no outlines"):
        scored(*guesses(CLASSIFICATION, 0), CLASSIFICATION, distances=True)
    monkeypatch.setattr("smp_feedback.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"smp_feedback\[distances\]"):
        scored(*guesses(SEGMENTATION, 0), SEGMENTATION, distances=True)


# --- images one by one


@pytest.mark.parametrize("task", TASKS)
def test_an_image_is_worth_what_it_is_worth_alone(task):
    logits, target = guesses(task, 3)
    measured = task != CLASSIFICATION
    how = {"distances": measured, "topology": measured}
    images = scored(logits, target, task, images=True, **how).images
    for i in range(len(logits)):
        if bool((target[i] == VOID).all()):
            continue
        alone = scored(logits[i : i + 1], target[i : i + 1], task, **how)
        for metric in metrics_for(task, measured=images.measured):
            value = float(images.of_images(metric)[i])
            assert value == pytest.approx(alone.metrics[metric.name], nan_ok=True), metric.name
            if metric.of_class is not None:
                each = [math.nan if one is None else one for one in alone.class_metrics[metric.name]]
                assert images.of_classes(metric)[i].tolist() == pytest.approx(each, nan_ok=True), metric.name


def test_the_distance_of_all_is_the_mean_over_images_that_have_it(blobs):
    said, so = blobs
    logits = nn.functional.one_hot(said, 3).movedim(-1, 1).float()
    score = evaluate(nn.Identity(), list(zip(logits, so, strict=True)), classes=3, images=True, distances=True).last
    each = score.images.measured["hd95"].numpy()
    assert list(score.class_metrics["hd95"]) == pytest.approx(np.nanmean(each, 0).tolist(), rel=1e-6)
    assert score.metrics["hd95"] == pytest.approx(np.nanmean(np.nanmean(each, 0)), rel=1e-6)


# --- intervals


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1.0, 0.5]))
def test_images_that_are_alike_leave_no_doubt(seed, void):
    logits, target = guesses(SEGMENTATION, seed, images=1, void=0.1)
    target[0, 0, 0] = 0
    more = torch.full_like(target, VOID)  # counts for nothing
    same = torch.cat([logits] * 4), torch.cat([target] * 3 + [more])
    score = scored(*same, SEGMENTATION, bootstrap=40)
    for name, (low, high) in score.intervals.items():
        assert low == pytest.approx(high, nan_ok=True) == pytest.approx(score.metrics[name], nan_ok=True), name


def test_the_interval_of_a_share_of_images_is_that_of_a_binomial():
    solved = torch.arange(50) < 20
    counts = torch.zeros(50, 4, 2).long()
    counts[:, 0, 0], counts[:, 1, 0], counts[:, 3] = solved, 1, 1
    counts[:, 2, 0], counts[:, 2, 1] = solved, ~solved
    low, high = Images(counts, {}, SEGMENTATION, None).intervals([METRICS[SOLVED]], 4000)[SOLVED]
    half = 1.96 * math.sqrt(0.4 * 0.6 / 50)
    assert (low, high) == pytest.approx((0.4 - half, 0.4 + half), abs=0.03)


def test_intervals_are_asked_for_and_repeat():
    logits, target = guesses(SEGMENTATION, 7)
    assert scored(logits, target, SEGMENTATION).intervals == {}
    one, other = (scored(logits, target, SEGMENTATION, bootstrap=50).intervals for _ in range(2))
    assert one == other
    assert all(low <= high for low, high in one.values())
    for wrong, words in ((-1, "bootstrap"), (1, "40 drawings at least"), (39, "40 drawings at least")):
        with pytest.raises(InvalidValue, match=words):
            scored(logits, target, SEGMENTATION, bootstrap=wrong)


# --- files


@pytest.mark.parametrize("task", TASKS)
def test_files_have_a_row_a_class_and_a_row_an_image(task, tmp_path):
    score = scored(*guesses(task, 4), task, images=True)
    names, classes = [f"{i}.png" for i in range(5)], ["sky", "car, red", "tree", "none"]
    metrics = (dict(score.metrics), dict(score.class_metrics))
    written = write_scores(tmp_path, classes, task, metrics, score.confusion, score.images, names)
    assert [path.name for path in written] == ["classes.csv", "confusion.csv", "images.csv"]
    assert {*tmp_path.iterdir()} == {*written}, "no drafts"
    rows = {path.name: list(csv.DictReader(path.read_text().splitlines())) for path in written}
    assert [row["class"] for row in rows["classes.csv"]] == [*classes, "all"]
    assert float(rows["classes.csv"][-1]["dice"]) == pytest.approx(score.metrics["dice"], abs=1e-5)
    assert rows["classes.csv"][3]["dice"] == "", "in neither"
    assert [row["image"] for row in rows["images.csv"]] == names
    dice = score.images.of_classes(METRICS["dice"])
    assert float(rows["images.csv"][1]["dice/sky"] or "nan") == pytest.approx(float(dice[1, 0]), abs=1e-5, nan_ok=True)
    whole = sum(int(cell) for row in rows["confusion.csv"] for cell in list(row.values())[1:])
    assert whole == int(torch.tensor(score.confusion).sum())
