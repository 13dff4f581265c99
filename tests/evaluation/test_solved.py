"""``solved``: the share of images without an error, held to a count in NumPy, in evaluation as in training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation import evaluate
from smp_feedback.evaluation.confusion import Tally
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL, SEGMENTATION

pytest.importorskip("torchmetrics")
pytest.importorskip("lightning")
from smp_feedback.training import FeedbackModule, PairsModule, fit
from smp_feedback.training.metric import LookMetric

SHAPES = {SEGMENTATION: (2, 2), MULTILABEL: (3, 2, 2), CLASSIFICATION: ()}
VOID = 255


def drawn(task, seed, images=7, void=0.2, wrong=0.08):
    """Logits of three classes and targets, some of them void and some of them wrong."""
    rng = np.random.default_rng(seed)
    labels = 2 if task == MULTILABEL else 3
    said = rng.integers(0, labels, (images, *SHAPES[task]))
    target = np.where(rng.random(said.shape) < wrong, (said + 1) % labels, said)
    target = np.where(rng.random(said.shape) < void, VOID, target)
    logits = 2.0 * said - 1 if task == MULTILABEL else np.moveaxis(np.eye(3)[said], -1, 1)
    return said, target, torch.tensor(logits, dtype=torch.float32), torch.tensor(target)


def by_counting(said, target):
    """Solved images, and those in which something counts; one by one."""
    images = [(s[t != VOID], t[t != VOID]) for s, t in zip(said, target, strict=True)]
    return sum(bool((s == t).all()) for s, t in images if t.size), sum(t.size > 0 for _, t in images)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(SHAPES)), st.integers(0, 2**31), st.sampled_from([0.0, 0.2, 0.8]), st.integers(1, 7))
def test_evaluation_and_training_count_what_numpy_counts(task, seed, void, batch):
    said, target, logits, labels = drawn(task, seed, void=void)
    solved, images = by_counting(said, target)
    metric = LookMetric(task, classes=3, steps=1, ignore_index=VOID)
    for at in range(0, len(said), batch):
        metric.update(0, logits[at : at + batch], labels[at : at + batch])
    found = metric.scored().solved.tolist()
    pairs = list(zip(logits, labels, strict=True))
    how = {"classes": 3, "ignore_index": VOID, "task": task, "batch_size": batch}
    if images:
        assert found == pytest.approx([solved / images])
        assert evaluate(nn.Identity(), pairs, **how).last.solved == solved / images
    else:
        assert math.isnan(found[0])
        with pytest.raises(InvalidInput, match="every label is ignored"):
            evaluate(nn.Identity(), pairs, **how)


def test_one_wrong_pixel_is_an_image_that_is_not_solved_and_void_is_not_asked():
    said, right = torch.zeros(3, 4, 4).long(), torch.zeros(3, 4, 4).long()
    right[0, 3, 3], right[1, 0, 0], right[2] = 1, VOID, VOID  # wrong, void in part, void as a whole
    logits = torch.stack([1.0 - said, said.float()], 1)
    score = evaluate(nn.Identity(), list(zip(logits, right, strict=True)), classes=2, ignore_index=VOID).last
    assert score.solved == 1 / 2
    assert score.accuracy == pytest.approx(30 / 31)


def test_of_labels_it_is_the_accuracy():
    _, _, logits, labels = drawn(CLASSIFICATION, 3, images=40, wrong=0.4)
    how = {"classes": 3, "ignore_index": VOID, "task": CLASSIFICATION}
    score = evaluate(nn.Identity(), list(zip(logits, labels, strict=True)), **how).last
    assert 0 < score.solved < 1
    assert score.solved == pytest.approx(score.score) == pytest.approx(score.accuracy)


def test_each_look_has_its_own_count():
    metric = LookMetric(SEGMENTATION, classes=2, steps=3)
    target = torch.zeros(4, 2, 2).long()
    for look, wrong in enumerate((3, 1, 0)):
        logits = torch.zeros(4, 1, 2, 2) - 1
        logits[:wrong, 0, 0, 0] = 1
        metric.update(look, logits, target)
    assert metric.scored().solved.tolist() == [0.25, 0.75, 1.0]
    metric.reset()
    metric.update(0, logits, target)
    solved = metric.scored().solved
    assert solved[0] == 1
    assert solved[1:].isnan().all()


def test_counting_solved_images_reads_nothing_from_the_device():
    tally = Tally(3, VOID, torch.device("meta"))
    tally.add(torch.zeros(2, 3, 4, 4, device="meta"), torch.zeros(2, 4, 4, dtype=torch.long, device="meta"))
    assert tally.images.is_meta


def test_a_run_logs_images_solved_by_each_look_and_by_all_processes():
    said, target, logits, labels = drawn(SEGMENTATION, 5, images=6, void=0.0)
    pairs = list(zip(logits.clamp(0, 1), labels, strict=True))

    class Looking(FeedbackModule):
        def looks(self, image):
            yield from (-image, image[:, [1, 2, 0]], image)  # of which the last answers as *said*

    module = Looking(nn.Conv2d(3, 3, 1), classes=3)
    module.steps = 3
    fit(module, PairsModule(pairs, pairs, batch_size=4), steps=1, progress=False, accelerator="cpu")
    found = module.trainer.callback_metrics
    solved, images = by_counting(said, target)
    assert 0 < solved < images
    assert float(found["val_solved"]) == float(found["val_solved/look_3"]) == pytest.approx(solved / images)
    assert float(found["val_solved/look_1"]) == 0
    assert module.scored.solved[-1] == found["val_solved"]


def test_counts_of_several_processes_are_summed():
    here, there = (LookMetric(SEGMENTATION, classes=3, steps=1) for _ in range(2))
    said, target, logits, labels = drawn(SEGMENTATION, 5, images=6, void=0.0)
    here.update(0, logits[:1], labels[:1])
    there.update(0, logits[1:], labels[1:])
    theirs = {there.tables.shape: there.tables, there.images.shape: there.images, torch.Size(): there.strays}

    def gathered(ours, **_):
        return [ours, theirs[ours.shape]]

    here.sync(dist_sync_fn=gathered, distributed_available=lambda: True)
    assert here.images.tolist() == [list(by_counting(said, target))]
    here.unsync()
    assert here.images.tolist() == [list(by_counting(said[:1], target[:1]))]
