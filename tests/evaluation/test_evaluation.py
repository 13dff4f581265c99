"""Evaluation, held to torchmetrics, closed forms and NumPy; results on disk; figures that show what they should."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import a_few
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Subset

import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.data import Corrupted, Shapes
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, UnknownName
from smp_feedback.evaluation import (
    calibration,
    evaluate,
    evaluate_all,
    few_shot,
    first_images,
    load_result,
    miou,
    robustness,
    save_result,
    stability,
)
from smp_feedback.evaluation.confusion import RANKS, Tally
from smp_feedback.evaluation.results import KINDS
from smp_feedback.evaluation.state_path import principal_path

pytest.importorskip("torchmetrics")
pytest.importorskip("matplotlib")
from torchmetrics.classification import (
    BinaryAUROC,
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassJaccardIndex,
)

from smp_feedback.plotting.pictures import photo, uncertainty
from smp_feedback.plotting.plot import draw, plot
from smp_feedback.plotting.style import LINES, STYLES, styled

CPU = torch.device("cpu")


def tiny(feedback=True, classes=3, **base):
    return smpf.create(
        "Unet",
        "resnet18",
        None,
        classes=classes,
        feedback=feedback,
        encoder_depth=3,
        decoder_channels=(16, 8, 8),
        **base,
    ).eval()


def leaky(**loop):
    return tiny(smpf.Recurrent(dynamics="leaky", tau=4.0, **loop))


@pytest.fixture(scope="module")
def looping():
    torch.manual_seed(1)
    return leaky(steps=3, feedback_init=0.5)


def guesses(classes=4, count=6, size=9, sharp=2.0):
    """Logits and targets without a model: what Identity is scored on."""
    logits = sharp * torch.randn(count, classes, size, size)
    return logits, torch.randint(classes, (count, size, size))


# --- one pass


@pytest.mark.parametrize("ignore_index", [None, 255, 1, -100])
@pytest.mark.parametrize("sharp", [1.0, 40.0])  # 40: many confidences are exactly 1
def test_every_score_is_torchmetrics_own(ignore_index, sharp):
    logits, target = guesses(sharp=sharp)
    target[target == 3] = 0  # class 3 is only predicted
    if ignore_index is not None:
        target[:, :4] = ignore_index
    arguments = {"num_classes": 4, "ignore_index": ignore_index}
    pairs = list(zip(logits, target, strict=True))
    score = evaluate(nn.Identity(), pairs, classes=4, ignore_index=ignore_index, batch_size=4).last
    wanted = {
        "score": MulticlassJaccardIndex(**arguments),
        "accuracy": MulticlassAccuracy(**arguments, average="micro"),
        "ece": MulticlassCalibrationError(**arguments, n_bins=15, norm="l1"),
    }
    for name, metric in wanted.items():
        preds = logits.softmax(1) if name == "ece" else logits
        assert getattr(score, name) == pytest.approx(float(metric(preds, target)), abs=2e-6), name
    kept = torch.ones_like(target, dtype=bool) if ignore_index is None else target != ignore_index
    assert score.nll == pytest.approx(
        float(F.cross_entropy(logits.double().movedim(1, -1)[kept], target[kept])), rel=1e-5
    )
    if ignore_index == 1:
        assert score.per_class[1] is None


def test_calibration_and_uncertainty_are_what_numpy_finds_in_double_precision():
    logits, target = guesses(count=3)
    score = evaluate(nn.Identity(), list(zip(logits, target, strict=True)), classes=4).last
    x = logits.double().movedim(1, -1).reshape(-1, 4).numpy()
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    sure, right = p.max(1), p.argmax(1) == target.numpy().ravel()
    bins = np.minimum((sure * 15).astype(int), 14)
    gaps = [(bins == b).mean() * abs(right[bins == b].mean() - sure[bins == b].mean()) for b in set(bins)]
    assert score.ece == pytest.approx(sum(gaps), abs=1e-6)
    entropy = -(p * np.log(p)).sum(1)
    assert score.uncertainty_right == pytest.approx(entropy[right].mean(), rel=1e-5)
    assert score.uncertainty_wrong == pytest.approx(entropy[~right].mean(), rel=1e-5)
    pairs = entropy[~right][:, None] - entropy[right][None]
    assert score.auroc == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2, abs=20 / RANKS)
    metric = BinaryAUROC()(torch.from_numpy(entropy), torch.from_numpy(~right).long())
    assert score.auroc == pytest.approx(float(metric), abs=20 / RANKS)
    assert sum(score.reliability.share) == pytest.approx(1)


def test_classes_in_neither_prediction_nor_target_do_not_count():
    logits = F.one_hot(torch.tensor([[[0, 1], [1, 1]]]), 5).movedim(-1, 1).float()
    score = evaluate(nn.Identity(), [(logits[0], torch.tensor([[0, 0], [1, 1]]))], classes=5).last
    assert score.per_class == (1 / 2, 2 / 3, None, None, None)
    assert score.score == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_the_task_chooses_between_masks_and_labels(task):
    labels, target = torch.randn(8, 3), torch.randint(3, (8,))

    class Both(nn.Module):
        def forward(self, x):
            return x.new_zeros(len(x), 3, 2, 2), x

    where = target if task == "classification" else target[:, None, None].expand(8, 2, 2)
    score = evaluate(Both(), list(zip(labels, where, strict=True)), classes=3, task=task, batch_size=3).last
    right = labels.argmax(1) == target if task == "classification" else target == 0
    assert score.accuracy == pytest.approx(float(right.float().mean()))
    if task == "classification":
        assert score.score == score.accuracy
        recall = MulticlassAccuracy(3, average="none")(labels, target)
        torch.testing.assert_close(torch.tensor(score.per_class), recall)


def test_a_loop_that_classifies_is_scored_on_its_labels():
    model = tiny(smpf.Recurrent(steps=2), aux_params={"classes": 3})
    images, target = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 2])
    score = evaluate(model, list(zip(images, target, strict=True)), classes=3, task="classification").last
    with torch.no_grad():
        labels = model(images)[1]
    assert score.nll == pytest.approx(float(F.cross_entropy(labels, target)), rel=1e-4)
    assert score.looks == 2


def test_every_look_is_scored_in_one_pass(looping, monkeypatch):
    data = Shapes(5, size=32)
    began = []
    once = type(looping).iterate
    monkeypatch.setattr(type(looping), "iterate", lambda *a, **k: began.append(1) or once(*a, **k))
    scores = evaluate(looping, data, classes=3, looks=[6, 1, 3], batch_size=2)
    assert len(began) == 3, "one loop a batch"
    assert [score.looks for score in scores] == [1, 3, 6]
    images, target = (torch.stack(column) for column in zip(*(data[i] for i in range(5)), strict=True))
    for t in (1, 3, 6):
        with torch.no_grad():
            logits = looping(images, steps=t)
        wanted = MulticlassJaccardIndex(3)(logits, target)
        assert scores.at(t).score == pytest.approx(float(wanted), abs=1e-4)
        assert scores.at(t).nll == pytest.approx(float(F.cross_entropy(logits, target)), rel=1e-4)
    assert evaluate(looping, data, classes=3).last.looks == 3, "its own"
    with pytest.raises(InvalidValue, match="looks=2: scored were 1, 3, 6"):
        scores.at(2)


def test_what_came_to_rest_answers_as_it_did_last():
    model = leaky(steps=2, tolerance=0.9)  # step 1 moves by 1, step 2 by 3 / 7: settled
    scores = evaluate(model, Shapes(2, size=32), classes=3, looks=[2, 9])
    assert scores.at(9).nll == scores.at(2).nll
    assert scores.at(9).mean_looks == 2


def test_images_that_stop_by_themselves_are_scored_beside_numbers_of_looks(looping):
    data, rule = Shapes(5, size=32), smpf.until_settled(2, at_most=7)
    scores = evaluate(looping, data, classes=3, looks=[rule, 7, 2], batch_size=2)
    assert [(score.looks, score.settled) for score in scores] == [(2, None), (7, None), (7, 2)]
    had, logits = [], []
    with torch.no_grad():
        for image, _ in data:
            for step in looping.iterate(image[None], rule):  # noqa: B007
                pass
            had.append(step.looks)
            logits.append(step.logits)
    found = scores.at(rule)
    assert found is scores.last
    assert found.mean_looks == pytest.approx(float(torch.cat(had).float().mean()))
    target = torch.stack([mask for _, mask in data])
    assert found.nll == pytest.approx(float(F.cross_entropy(torch.cat(logits), target)), rel=1e-4)
    assert (scores.at(7).mean_looks, scores.at(2).mean_looks) == (7, 2)
    with pytest.raises(InvalidValue, match=r"looks=3: scored were 2, 7, until_settled\(2, at_most=7\)"):
        scores.at(3)


@pytest.mark.parametrize("loop", [smpf.Recurrent(dynamics="fractional"), smpf.Restoration(depth=2, filters=4)])
def test_a_rule_that_a_loop_cannot_keep_is_refused_before_a_model_is_asked(loop, monkeypatch):
    model = tiny(loop)
    monkeypatch.setattr(type(model), "forward", None)
    with pytest.raises(InvalidValue, match="give a number"):
        evaluate(model, Shapes(2, size=32), classes=3, looks=[smpf.until_settled()])


def test_a_rule_in_a_sweep_is_a_row_that_says_so(looping, tmp_path):
    found = calibration({"loop": looping}, Shapes(2, size=32), classes=3, looks=[3, smpf.until_settled(2, at_most=7)])
    assert [(row["looks"], row["settled"]) for row in found["rows"]] == [(3, None), (7, 2)]
    again = load_result(save_result(found, tmp_path / "found.json"))
    assert again["rows"][1]["mean_looks"] == found["rows"][1]["mean_looks"]


def test_a_feed_forward_model_has_one_look_whatever_is_asked():
    scores = evaluate(nn.Conv2d(3, 3, 1), Shapes(2, size=32), classes=3, looks=[2, 5])
    assert [score.looks for score in scores] == [1]


def test_one_logit_is_a_question_of_yes_or_no():
    logits, target = torch.randn(4, 1, 5, 5), torch.randint(2, (4, 5, 5))
    score = evaluate(nn.Identity(), list(zip(logits, target, strict=True)), classes=2).last
    assert score.accuracy == pytest.approx(float(((logits[:, 0] > 0) == target.bool()).float().mean()))
    wanted = F.binary_cross_entropy_with_logits(logits[:, 0], target.float())
    assert score.nll == pytest.approx(float(wanted), rel=1e-5)


def test_evaluation_leaves_modes_and_random_numbers_alone():
    model = tiny(False).train()
    model.encoder.eval()
    modes, state, ticks = [m.training for m in model.modules()], torch.get_rng_state(), []
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    evaluate(model, Shapes(5, size=32), classes=3, batch_size=2, advance=lambda: ticks.append(1))
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert len(ticks) == 3


def test_all_models_are_shown_each_batch_once():
    class Counted(Shapes):
        seen = 0

        def __getitem__(self, i):
            self.seen += 1
            return super().__getitem__(i)

    data = Counted(4, size=32)
    models = {"a": nn.Conv2d(3, 3, 1), "b": nn.Conv2d(3, 3, 1)}
    found = evaluate_all(models, data, classes=3)
    assert data.seen == 4
    assert {name: scores.last.score for name, scores in found.items()} == {
        name: miou(model, data, classes=3) for name, model in models.items()
    }


def test_a_model_that_broke_is_scored_and_says_so():
    target = torch.zeros(2, 3, 3, dtype=torch.long)
    broken = [(torch.full((2, 3, 3), math.nan), target[i]) for i in range(2)]
    score = evaluate(nn.Identity(), broken, classes=2).last
    assert math.isnan(score.nll)
    assert 0 <= score.ece <= 1


@pytest.mark.parametrize(
    ("arguments", "data", "error", "words"),
    [
        ({"classes": 0}, None, InvalidValue, "classes=0"),
        ({"classes": 1}, None, InvalidValue, "background and foreground"),
        ({"task": "segmentaton"}, None, InvalidValue, "Did you mean 'segmentation'"),
        ({"looks": []}, None, InvalidType, r"looks=\[\]"),
        ({"looks": 3}, None, InvalidType, "looks=3"),
        ({"looks": 3.0}, None, InvalidType, "looks=3.0"),
        ({"looks": "3"}, None, InvalidType, "looks='3'"),
        ({"looks": [0]}, None, InvalidValue, "steps=0"),
        ({}, [], InvalidValue, "data is empty"),
        ({}, [(torch.zeros(3, 4, 4), torch.full((4, 4), 7))], InvalidInput, "16 labels .* 0 to 2"),
        ({"ignore_index": 7}, [(torch.zeros(3, 4, 4), torch.full((4, 4), 7))], InvalidInput, "every label is ignored"),
        ({}, [(torch.zeros(3, 4, 4), torch.zeros(5, 4).long())], InvalidInput, r"expected \(1, 3, 5, 4\)"),
        ({}, [(torch.zeros(2, 4, 4), torch.zeros(4, 4).long())], InvalidInput, r"\(1, 2, 4, 4\)"),
    ],
)
def test_what_cannot_be_scored_is_refused(arguments, data, error, words):
    data = [(torch.zeros(3, 4, 4), torch.zeros(4, 4).long())] if data is None else data
    with pytest.raises(error, match=words):
        evaluate(nn.Identity(), data, **{"classes": 3, **arguments})


def test_counting_reads_nothing_from_the_device():
    """On the meta device there is nothing to read: whatever asked for a value would fail."""
    tally = Tally(3, 255, torch.device("meta"))
    tally.add(torch.zeros(2, 3, 4, 4, device="meta"), torch.zeros(2, 4, 4, dtype=torch.long, device="meta"))
    assert tally.bins.is_meta


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_counts_what_a_cpu_counts():
    logits, target = guesses()
    here, there = Tally(4, 2, CPU), Tally(4, 2, torch.device("cuda"))
    here.add(logits, target)
    torch.cuda.set_sync_debug_mode("error")
    try:
        there.add(logits.cuda(), target.cuda())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(here.table(), there.table())
    assert here.reliability().error == pytest.approx(there.reliability().error, abs=1e-6)
    assert here.means() == pytest.approx(there.means(), rel=1e-5)


# --- sweeps


def test_a_robustness_sweep_shows_every_model_the_same_images(looping):
    data, ticks = Shapes(3, size=32), []
    models = {"plain": [nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)], "loop": looping}
    result = robustness(
        models,
        data,
        classes=3,
        corruptions=["gaussian_noise"],
        severities=[1, 4],
        seed=7,
        looks=[1, 2],
        advance=lambda: ticks.append(1),
    )
    assert len(ticks) == 3
    assert (result["kind"], result["classes"]) == ("robustness", ["background", "polygon", "circle"])
    assert len(result["rows"]) == 3 * (2 + 2)
    for row in result["rows"]:
        images = data if row["severity"] == 0 else Corrupted(data, row["corruption"], row["severity"], seed=7)
        model = looping if row["model"] == "loop" else models["plain"][row["seed"]]
        assert row["score"] == evaluate(model, images, classes=3, looks=[row["looks"]]).last.score


def test_a_corruption_that_there_is_not_is_refused_before_any_work(looping, monkeypatch):
    data = Shapes(2, size=32)
    monkeypatch.setattr(Shapes, "__getitem__", lambda *_: pytest.fail("touched"))
    with pytest.raises(UnknownName, match="Did you mean 'gaussian_noise'"):
        robustness({"loop": looping}, data, classes=3, corruptions=["contrast", "gausian_noise"])
    with pytest.raises(InvalidValue, match="severities=0"):
        robustness({"loop": looping}, data, classes=3, severities=[0, 1])


def test_few_images_are_part_of_more():
    data = Shapes(16, size=32)
    nested = [first_images(data, n, seed=3).indices for n in (1, 2, 4, 8, 16)]
    for few, more in pairwise(nested):
        assert more[: len(few)] == few
    assert sorted(nested[-1]) == list(range(16))
    assert first_images(data, 4, seed=4).indices != nested[2]
    with pytest.raises(InvalidValue, match="count=17: expected at most the 16"):
        first_images(data, 17, seed=0)


def test_a_few_shot_sweep_trains_on_every_count_and_seed():
    asked, test = [], Shapes(2, size=32)

    def train(count, seed):
        asked.append((count, seed))
        torch.manual_seed(seed * 10 + count)
        return {"plain": nn.Conv2d(3, 3, 1)}

    result = few_shot(train, test, classes=3, counts=(1, 2), seeds=(5, 6))
    assert asked == [(1, 5), (2, 5), (1, 6), (2, 6)]
    assert [(row["images"], row["seed"]) for row in result["rows"]] == asked
    torch.manual_seed(52)
    assert result["rows"][1]["score"] == miou(nn.Conv2d(3, 3, 1), test, classes=3)


# --- stability


def test_the_axes_of_a_path_are_those_of_a_singular_value_decomposition():
    states = torch.randn(7, 100_000) * torch.linspace(0, 3, 100_000)  # more than one chunk
    path, explained = principal_path(states)
    centred = states.double().numpy()
    centred -= centred.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    wanted = u[:, :2] * s[:2]
    wanted *= np.sign(np.take_along_axis(wanted, np.abs(wanted).argmax(0)[None], 0))
    np.testing.assert_allclose(path.numpy(), wanted, atol=1e-8 * s[0])
    np.testing.assert_allclose(explained.numpy(), s[:2] ** 2 / (s**2).sum(), rtol=1e-10)
    assert torch.equal(principal_path(-states)[0].abs().argmax(0), path.abs().argmax(0))
    assert (path.gather(0, path.abs().argmax(0, keepdim=True)) > 0).all()


def test_a_path_that_goes_nowhere_explains_nothing():
    path, explained = principal_path(torch.ones(4, 10))
    assert not path.any()
    assert not explained.any()


def test_a_leaky_loop_with_a_constant_drive_walks_a_straight_line_in_geometric_steps():
    """Nothing reads the feedback of a fresh loop: e is constant, and h_t = (1 - q^t) e with q = 1 - 1 / tau."""
    T, q = 12, 0.75
    images = [torch.rand(3, 32, 32) for _ in range(2)]
    found = stability(leaky(), images, looks=T)
    t = np.arange(1, T + 1)
    h = 1 - q**t
    np.testing.assert_allclose(found["change"], [(h - (1 - q ** (t - 1))) / h] * 2, rtol=1e-3)
    np.testing.assert_allclose(found["distance"], [(h[-1] - h) / h[-1]] * 2, atol=1e-5)
    np.testing.assert_allclose(found["explained"], [[1, 0]] * 2, atol=1e-6)
    for path in found["path"]:
        x, y = np.asarray(path).T
        assert np.abs(y).max() < 1e-3 * np.abs(x).max()
        centred = h - h.mean()
        np.testing.assert_allclose(x / x[0], centred / centred[0], atol=1e-4)  # along one line, as h_t goes


def test_stability_is_what_the_states_say_one_by_one(looping):
    image, T = torch.rand(3, 32, 32), 5
    found = stability(looping, [image], looks=T)
    with torch.no_grad():
        steps = list(looping.iterate(image[None], steps=T))
    last = steps[-1].state
    for t, step in enumerate(steps):
        assert found["change"][0][t] == pytest.approx(float(step.change), rel=1e-4)
        wanted = float((step.state - last).norm() / last.norm())
        assert found["distance"][0][t] == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    labels = [step.logits.argmax(1) for step in steps]
    flips = [float((labels[t] != labels[t - 1]).float().mean()) for t in range(1, T)]
    assert found["flips"][0] == pytest.approx(flips)
    states = np.stack([step.state.double().numpy().ravel() for step in steps])
    path = np.asarray(found["path"][0])
    apart = np.linalg.norm(states[:, None] - states[None], axis=-1)  # a plane shows at most the true distance
    seen = np.linalg.norm(path[:, None] - path[None], axis=-1)
    assert (seen <= apart * (1 + 1e-4) + 1e-4).all()


def test_a_loop_that_settles_rests_until_the_end():
    found = stability(leaky(tolerance=0.5), [torch.rand(3, 32, 32)], looks=8)
    assert found["change"][0][2:] == [0.0] * 6
    assert found["distance"][0][1:] == [0.0] * 7
    assert found["flips"][0][1:] == [0.0] * 6
    assert len(found["path"][0]) == 8


@pytest.mark.parametrize(
    ("model", "images", "looks", "error", "words"),
    [
        (nn.Conv2d(3, 3, 1), [torch.rand(3, 32, 32)], 5, InvalidType, "Conv2d"),
        (None, [], 5, InvalidValue, "images is empty"),
        (None, [torch.rand(3, 32, 32)], 1, InvalidValue, "looks=1"),
        (None, [torch.rand(2, 32, 32)], 5, InvalidInput, "channels"),
    ],
)
def test_stability_refuses_what_has_no_path(model, images, looks, error, words, looping):
    with pytest.raises(error, match=words):
        stability(model or looping, images, looks=looks)


# --- results


def example(kind, looks=(1, 2)):
    """A small result of every kind that is drawn here."""
    torch.manual_seed(0)
    data = Shapes(2, size=32)
    models = {"plain": [nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)], "feedback": tiny(smpf.Recurrent(steps=2))}
    if kind == "stability":
        return stability(models["feedback"], [data[0][0], data[1][0]], looks=4)
    if kind == "few_shot":
        return few_shot(lambda n, seed: models, data, classes=3, counts=(1, 2), seeds=(0,))
    if kind == "calibration":
        return calibration(models, data, classes=3, looks=looks)
    return robustness(models, data, classes=3, corruptions=["gaussian_noise", "occlusion"], severities=[2], looks=looks)


OURS = ("calibration", "few_shot", "robustness", "stability")
FIGURES = {
    "calibration": {"reliability", "classes", "looks"},
    "few_shot": {"few_shot"},
    "robustness": {"severity", "ece", "classes", "looks"},
    "stability": {"stability"},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Every kind of result, on disk."""
    folder = tmp_path_factory.mktemp("results")
    for kind in OURS:
        save_result(example(kind), folder / "deep" / f"{kind}.json")
    return folder / "deep"


@pytest.mark.parametrize("kind", OURS)
def test_a_result_comes_back_as_it_was_saved(kind, saved, tmp_path):
    found = load_result(saved / f"{kind}.json")
    assert (found["kind"], found["version"]) == (kind, 1)
    again = save_result(found, tmp_path / "again.json")
    assert again.read_text() == (saved / f"{kind}.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["again.json"]


def test_numbers_without_a_word_in_json_become_null(tmp_path):
    result = {"kind": "few_shot", "version": 1, "rows": [math.nan, math.inf, 1.5, None]}
    assert load_result(save_result(result, tmp_path / "a.json"))["rows"] == [None, None, 1.5, None]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("{", InvalidValue, "is no JSON"),
        ("[1]", InvalidValue, "has no 'kind'"),
        ('{"version": 1}', InvalidValue, "has no 'kind'"),
        ('{"kind": [], "version": 1}', InvalidValue, "has no 'kind'"),
        ('{"kind": "robustnes", "version": 1}', UnknownName, "Did you mean 'robustness'"),
        ('{"kind": "robustness", "version": 2}', InvalidValue, "has version 2: this package reads 1"),
        ('{"kind": "robustness"}', InvalidValue, "version None"),
        ('{"kind": "robustness", "version": 1}', InvalidValue, "no whole robustness result: KeyError"),
        (
            '{"kind": "robustness", "version": 1, "task": "segmentation", "classes": [], "rows": []}',
            InvalidValue,
            "no whole robustness result",
        ),
        (
            '{"kind": "calibration", "version": 1, "task": "segmentation", "classes": [], "rows": []}',
            InvalidValue,
            "no whole calibration result",
        ),
    ],
)
def test_a_file_that_is_no_result_is_refused_by_name(text, error, words, tmp_path):
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(error, match=words) as caught:
        list(plot([path]))
    assert "some.json" in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_saved_that_cannot_be_read_again(tmp_path):
    with pytest.raises(UnknownName):
        save_result({"kind": "nothing", "version": 1}, tmp_path / "deep" / "a.json")
    assert not list(tmp_path.iterdir())


# --- figures


@pytest.mark.parametrize("style", list(STYLES))
@pytest.mark.parametrize("kind", OURS)
def test_every_kind_is_drawn_at_the_width_of_its_style(kind, style, saved):
    with styled(style):
        figures = draw(load_result(saved / f"{kind}.json"))
        assert set(figures) == FIGURES[kind]
        for figure in figures.values():
            assert figure.get_figwidth() == STYLES[style]["figure.figsize"][0]
            figure.draw_without_rendering()
            assert all(axis.get_xlabel() or figure.get_supxlabel() for axis in figure.axes[-1:])
            box = figure.get_tightbbox()  # inches: nothing hangs over the edge
            assert box.x0 > -0.02
            assert box.x1 < figure.get_figwidth() + 0.02


def test_every_kind_has_somebody_who_draws_it():
    for kind, address in KINDS.items():
        module, _, function = address.partition(":")
        if kind in OURS:
            assert callable(getattr(__import__(module, fromlist=[function]), function))
    kinds = {"ablation", "clicked", "comparison", "film comparison", "films", "refined", "restored", "tuning"}
    assert set(KINDS) == {*OURS, *kinds}


def test_curves_show_the_mean_and_the_range_over_seeds():
    scores = {(1, 0): 0.2, (1, 1): 0.4, (2, 0): 0.5, (2, 1): 0.9}
    rows = [{"model": "m", "images": n, "seed": s, "looks": 1, "score": v} for (n, s), v in scores.items()]
    with styled():
        axis = draw({"kind": "few_shot", "task": "segmentation", "rows": rows})["few_shot"].axes[0]
    assert axis.lines[0].get_xdata().tolist() == [1, 2]
    assert axis.lines[0].get_ydata() == pytest.approx([0.3, 0.7])
    corners = axis.collections[0].get_paths()[0].vertices
    assert {(x, round(y, 6)) for x, y in corners} >= {(1, 0.2), (1, 0.4), (2, 0.5), (2, 0.9)}


def test_a_reliability_diagram_shows_accuracy_over_confidence():
    logits, target = guesses(sharp=3.0)
    pairs = list(zip(logits, target, strict=True))
    result = calibration({"guess": nn.Identity()}, pairs, classes=4)
    with styled():
        upper, lower = draw(result)["reliability"].axes
    bins = result["rows"][0]["reliability"]
    sure, right = upper.lines[1].get_data()
    filled = [b for b in range(14) if bins["share"][b] > 1e-4]
    assert sure[:-1] == pytest.approx([bins["confidence"][b] for b in filled])
    assert right[:-1] == pytest.approx([bins["accuracy"][b] for b in filled])
    assert lower.patches[0].get_data().values.sum() == pytest.approx(1)


def test_a_state_that_never_moves_is_drawn_without_a_warning():
    still = {"change": [[1.0, 0, 0]], "flips": [[0, 0]], "distance": [[0, 0, 0]], "path": [[[0, 0]] * 3]}
    with styled(), warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = draw({"kind": "stability", "looks": 3, **still, "explained": [[0, 0]]})
        figures["stability"].draw_without_rendering()


def test_lines_differ_without_colour():
    from smp_feedback.plotting.style import line

    looks = [(str(line(i)["linestyle"]), line(i)["marker"]) for i in range(len(LINES))]
    assert len(set(looks)) == len(LINES)


@pytest.mark.parametrize("format", a_few(["png", "svg", "pdf"], "png"))
def test_the_verb_draws_files_and_names_each(format, saved, tmp_path, capsys):
    files = [str(saved / f"{kind}.json") for kind in ("stability", "few_shot")]
    assert main(["plot", *files, "--out", str(tmp_path / "out"), "--format", format, "--style", "paper"]) == 0
    written = [tmp_path / "out" / f"{name}.{format}" for name in ("stability", "few_shot")]
    assert capsys.readouterr().out.split() == [word for path in written for word in ("wrote", str(path))]
    begin = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[format]
    assert all(path.read_bytes().startswith(begin) for path in written)
    before = written[0].read_bytes()
    assert main(["plot", files[0], "--out", str(tmp_path / "out"), "--format", format, "--style", "paper"]) == 0
    assert written[0].read_bytes() == before, "the same result, the same file"
    assert sorted(tmp_path.glob("out/*")) == sorted(written)


def test_figures_lie_beside_their_result_and_never_on_each_other(saved, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "run.json").write_bytes((saved / "stability.json").read_bytes())
    files = [tmp_path / folder / "run.json" for folder in ("a", "b")]
    assert list(plot(files)) == [tmp_path / folder / "run-stability.png" for folder in ("a", "b")]
    with pytest.raises(InvalidValue, match="overwrite each other"):
        plot(files, tmp_path)
    with pytest.raises(InvalidValue, match="'paper'"):
        plot(files, style="papr")


def test_uncertainty_is_pictured_for_every_model(looping, tmp_path):
    from PIL import Image

    samples = [Shapes(2, size=32)[i] for i in range(2)]
    path = uncertainty({"plain": tiny(False), "loop": looping}, samples, tmp_path / "u.png", classes=3)
    with Image.open(path) as picture:
        assert picture.width > 1.5 * picture.height
    with pytest.raises(InvalidValue, match="at least one"):
        uncertainty({}, [], tmp_path / "none.png", classes=3)


def test_evaluation_needs_no_library_of_an_extra():
    """It scores and saves with torch alone; drawing asks for matplotlib when it draws."""
    code = (
        "import sys, smp_feedback.evaluation; "
        "assert not {'matplotlib', 'torchmetrics', 'lightning'} & set(sys.modules), sys.modules.keys()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.sweep
def test_results_and_the_statistics_of_seeds_need_no_torch():
    code = (
        "import sys, smp_feedback.evaluation.statistics, smp_feedback.plotting.figures; "
        "from smp_feedback.evaluation import load_result; assert 'torch' not in sys.modules; "
        "from smp_feedback.evaluation import evaluate, stability; assert callable(evaluate) and callable(stability)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_results_are_plain_json(saved):
    for kind in OURS:
        json.loads((saved / f"{kind}.json").read_text(), parse_constant=lambda word: pytest.fail(word))


@pytest.mark.parametrize("workers", [0, 1])
def test_items_of_several_sizes_are_named_in_one_sentence_and_scored_one_by_one(workers):
    data = [{"image": torch.rand(2, 8, width), "mask": torch.zeros(8, width).byte()} for width in (8, 8, 6)]
    with pytest.raises(InvalidInput, match=r"^item 0 is 2 x 8 x 8 and item 2 is 2 x 8 x 6, .*batch_size=1\.$"):
        evaluate(nn.Identity(), data, classes=2, workers=workers)
    said = torch.cat([(item["image"][1] > item["image"][0]).flatten() for item in data])
    one_by_one = evaluate(nn.Identity(), data, classes=2, batch_size=1, workers=workers).last
    assert one_by_one.accuracy == pytest.approx(1 - said.double().mean().item())


def test_scores_of_several_labels_a_pixel_are_drawn_and_pictures_of_one_refuse_them(tmp_path):
    data = [(torch.rand(2, 4, 4), torch.randint(2, (2, 4, 4)))]
    result = robustness({"m": nn.Identity()}, data, classes=2, task="multilabel", corruptions=["contrast"])
    assert draw(result)["severity"].get_supylabel() == "mIoU"
    with pytest.raises(InvalidValue, match=r"\(2, 4, 4\): a picture shows one label a pixel"):
        uncertainty({"m": nn.Identity()}, data, tmp_path / "x.png", classes=2)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_images_of_any_bands_are_drawn(channels, tmp_path):
    image = torch.rand(channels, 6, 8)
    model = nn.Conv2d(channels, 2, 1)
    assert uncertainty({"m": model}, [(image, torch.zeros(6, 8).long())], tmp_path / "x.png", classes=2).is_file()
    seen = image[:3] if channels > 2 else image[:1]
    np.testing.assert_array_equal(photo(image), seen.permute(1, 2, 0).numpy())


def test_the_task_is_what_the_data_say_where_nobody_else_does():
    class Mine(list):
        task = "multilabel"

    data = Mine([(torch.tensor([[[1.0, -1.0]], [[1.0, 1.0]]]), torch.tensor([[[1, 0]], [[1, 1]]]))])
    assert evaluate(nn.Identity(), data, classes=2).last.per_class == (1.0, 1.0)
    assert evaluate(nn.Identity(), Subset(data, [0]), classes=2).last.per_class == (1.0, 1.0)
    with pytest.raises(InvalidInput):
        evaluate(nn.Identity(), data, classes=2, task="segmentation")


def test_a_model_in_half_precision_is_shown_images_of_it():
    data = [(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), torch.tensor([[0, 1]]))]
    model = nn.Conv2d(2, 2, 1, bias=False)
    nn.init.eye_(model.weight.data[..., 0, 0])
    assert evaluate(model.to(torch.bfloat16), data, classes=2).last.score == 1.0


def test_items_that_make_no_batch_are_refused_by_name():
    with pytest.raises(InvalidInput, match=r"item 0: expected tensors, arrays or numbers.*found <class 'PIL"):
        evaluate(nn.Identity(), [(Image.new("RGB", (4, 4)), torch.zeros(4, 4).long())], classes=2)
