"""What logits say: by argmax, by sign, channel by channel; held to closed forms and to torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.evaluation import evaluate, evaluate_all
from smp_feedback.evaluation.confusion import Tally, cells_of
from smp_feedback.ops.reading import MULTILABEL, SEGMENTATION, chances_of, labels_of, per_class, reading_of

pytest.importorskip("torchmetrics")
from torchmetrics.classification import (
    BinaryJaccardIndex,
    MulticlassCalibrationError,
    MulticlassJaccardIndex,
    MultilabelJaccardIndex,
)

pytest.importorskip("lightning")
from smp_feedback.training.metric import LookMetric, task_of


def drawn(channels=3, images=4, size=6):
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(images, channels, size, size + 1, generator=generator), generator


def test_one_channel_is_read_by_its_sign():
    x, _ = drawn(channels=1)
    assert torch.equal(labels_of(x), (x[:, 0] > 0).long())
    assert torch.equal(labels_of(x), per_class(x).argmax(1))
    torch.testing.assert_close(chances_of(x), torch.cat([1 - x.sigmoid(), x.sigmoid()], 1))
    assert labels_of(torch.zeros(1, 1, 1, 1)).item() == 0, "as argmax has it where both are as probable"


def test_several_channels_are_read_by_the_largest_or_one_by_one():
    x, _ = drawn()
    assert torch.equal(labels_of(x), x.argmax(1))
    assert torch.equal(labels_of(x, MULTILABEL), (x.sigmoid() > 0.5).long())
    torch.testing.assert_close(chances_of(x).sum(1), torch.ones(4, 6, 7))
    torch.testing.assert_close(chances_of(x, MULTILABEL), 1 / (1 + (-x).exp()))
    assert [reading_of(3), reading_of(1), reading_of(1, MULTILABEL)] == ["argmax", "sign", "multilabel"]


@pytest.mark.parametrize("ignore_index", [None, 255, -1])
def test_one_channel_is_scored_as_torchmetrics_scores_it(ignore_index):
    x, generator = drawn(channels=1)
    target = torch.randint(0, 2, (4, 6, 7), generator=generator)
    if ignore_index is not None:
        target[:, :2] = ignore_index
    metric = LookMetric(SEGMENTATION, classes=2, steps=1, ignore_index=ignore_index)
    metric.update(0, x, target)
    score = evaluate(nn.Identity(), list(zip(x, target, strict=True)), classes=2, ignore_index=ignore_index).last
    foreground = float(BinaryJaccardIndex(ignore_index=ignore_index)(x[:, 0], target))
    assert score.per_class[1] == pytest.approx(foreground, abs=1e-6)
    assert metric.scored().per_class[0].tolist() == pytest.approx(score.per_class, abs=1e-6)
    both = MulticlassJaccardIndex(2, ignore_index=ignore_index)
    assert float(metric.scored().looks[0]) == pytest.approx(float(both((x[:, 0] > 0).long(), target)), abs=1e-6)


@pytest.mark.parametrize("ignore_index", [None, 255, -1])
def test_several_labels_are_scored_as_torchmetrics_scores_them(ignore_index):
    x, generator = drawn()
    target = torch.randint(0, 2, x.shape, generator=generator)
    if ignore_index is not None:
        target[:, 1, :3] = ignore_index  # of one class alone
    pairs = list(zip(x, target, strict=True))
    how = {"classes": 3, "ignore_index": ignore_index, "task": MULTILABEL}
    score = evaluate(nn.Identity(), pairs, batch_size=3, **how).last
    of_each = MultilabelJaccardIndex(3, average="none", ignore_index=ignore_index)(x.sigmoid(), target)
    assert list(score.per_class) == pytest.approx(of_each.tolist(), abs=1e-6)
    assert score.score == pytest.approx(float(of_each.mean()), abs=1e-6)
    metric = LookMetric(MULTILABEL, classes=3, steps=1, ignore_index=ignore_index)
    for image, mask in pairs:
        metric.update(0, image[None], mask[None])
    assert metric.scored().name == "miou"
    assert metric.scored().looks.tolist() == pytest.approx([score.score], abs=1e-6)
    assert metric.scored().per_class[0].tolist() == pytest.approx(score.per_class, abs=1e-6)


def test_all_else_of_several_labels_is_of_questions_of_yes_or_no():
    """Every pixel and class is one; NumPy in double precision, and torchmetrics for two classes."""
    x, generator = drawn()
    target = torch.randint(0, 2, x.shape, generator=generator)
    target[0, 0] = 255
    score = evaluate(
        nn.Identity(), list(zip(x, target, strict=True)), classes=3, ignore_index=255, task=MULTILABEL
    ).last
    kept = (target != 255).numpy()
    p, t = 1 / (1 + np.exp(-x.double().numpy()[kept])), target.numpy()[kept]
    right = (p > 0.5) == t
    assert score.accuracy == pytest.approx(right.mean(), abs=1e-7)
    assert score.nll == pytest.approx(-(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(), rel=1e-5)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    assert score.uncertainty_right == pytest.approx(entropy[right].mean(), rel=1e-5)
    assert score.uncertainty_wrong == pytest.approx(entropy[~right].mean(), rel=1e-5)
    two = torch.from_numpy(np.stack([1 - p, p], 1))
    ece = MulticlassCalibrationError(2, n_bins=15, norm="l1")(two, torch.from_numpy(t))
    assert score.ece == pytest.approx(float(ece), abs=2e-6)


def test_several_labels_by_hand():
    """Two classes, four pixels: class 0 says 1 1 0 0 where 1 0 0 1 is right, IoU 1/3; class 1 is right, IoU 1."""
    said = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 1]]])[None]
    target = torch.tensor([[[1, 0, 0, 1]], [[0, 0, 0, 1]]])[None]
    metric = LookMetric(MULTILABEL, classes=2, steps=1)
    metric.update(0, 9.0 * said - 4, target)
    tables, images = metric.compute()
    assert tables.tolist() == [[[[1, 1], [1, 1]], [[3, 0], [0, 1]]]]
    assert images.tolist() == [[0, 1]]
    assert metric.scored().per_class[0].tolist() == pytest.approx([1 / 3, 1])
    assert metric.scored().looks.tolist() == pytest.approx([2 / 3])


def test_a_class_that_nobody_says_or_is_does_not_count_among_several_labels():
    target = torch.zeros(1, 2, 2, 2, dtype=torch.long)
    target[0, 0, 0] = 1
    score = evaluate(nn.Identity(), [(9.0 * target[0] - 4, target[0])], classes=2, task=MULTILABEL).last
    assert score.per_class == (1.0, None)
    assert score.score == 1.0


def test_two_models_are_scored_on_several_labels_at_once():
    x, generator = drawn()
    target = torch.randint(0, 2, x.shape, generator=generator)
    pairs = list(zip(x, target, strict=True))

    class Negated(nn.Module):
        def forward(self, image):
            return -image

    found = evaluate_all({"a": nn.Identity(), "b": Negated()}, pairs, classes=3, task=MULTILABEL)
    assert found["a"].last.accuracy == pytest.approx(1 - found["b"].last.accuracy)


# --- targets and batches as people have them


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.float32, torch.float64])
@pytest.mark.parametrize("channel", [False, True])
def test_masks_of_any_whole_numbers_are_scored_alike(dtype, channel):
    x, generator = drawn(channels=20)  # 20 * 19 is no byte
    target = torch.randint(0, 20, (4, 6, 7), generator=generator)
    wanted = evaluate(nn.Identity(), list(zip(x, target, strict=True)), classes=20).last
    given = target.to(dtype)[:, None] if channel else target.to(dtype)
    assert evaluate(nn.Identity(), list(zip(x, given, strict=True)), classes=20).last == wanted
    dicts = [{"image": image, "mask": mask} for image, mask in zip(x, given, strict=True)]
    assert evaluate(nn.Identity(), dicts, classes=20).last == wanted


def test_fractions_are_refused_with_their_values():
    pairs = [(torch.zeros(2, 2, 2), torch.tensor([[0, 0.5], [1, 0.25]]))]
    with pytest.raises(InvalidInput, match=r"target of torch.float32 holds 0.25, 0.5: expected class indices"):
        evaluate(nn.Identity(), pairs, classes=2)


@pytest.mark.parametrize(
    ("logits", "target", "task"),
    [
        ((2, 5, 4, 4), (2, 4, 4), SEGMENTATION),  # would land in another cell of the matrix
        ((2, 1, 4, 4), (2, 4, 4), SEGMENTATION),
        ((2, 3, 4, 4), (2, 4, 5), SEGMENTATION),
        ((2, 3, 4, 4), (2, 4, 4), MULTILABEL),
        ((2, 1, 4, 4), (2, 3, 4, 4), MULTILABEL),
    ],
)
def test_what_does_not_fit_is_refused_with_its_shapes(logits, target, task):
    with pytest.raises(InvalidInput, match=rf"logits of shape \({logits[0]}, {logits[1]}.* and 3 classes: expected"):
        cells_of(torch.zeros(logits), torch.zeros(target, dtype=torch.long), 3, None, task)


def test_the_task_is_seen_by_the_rank():
    shapes = {(2,): "classification", (2, 4, 4): "segmentation", (2, 1, 4, 4): "segmentation", (2, 3, 4, 4): MULTILABEL}
    assert {shape: task_of(torch.zeros(shape)) for shape in shapes} == shapes
    with pytest.raises(InvalidInput, match=r"target of shape \(2, 4\)"):
        task_of(torch.zeros(2, 4))


def test_labels_that_are_neither_yes_nor_no_are_counted_and_refused():
    tally = Tally(2, 255, torch.device("cpu"), MULTILABEL)
    tally.add(torch.zeros(1, 2, 1, 2), torch.tensor([[[[1, 2]], [[255, 3]]]]))
    with pytest.raises(InvalidInput, match="2 labels are neither a class nor ignored; expected 0 to 1, or 255"):
        tally.table()


def test_one_class_is_a_question_only_among_several_labels():
    data = [(torch.ones(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.long))]
    assert evaluate(nn.Identity(), data, classes=1, task=MULTILABEL).last.score == 1
    with pytest.raises(InvalidValue, match="classes=1: expected >= 2"):
        evaluate(nn.Identity(), data, classes=1)


def test_the_doubt_of_one_channel_is_that_of_two_classes():
    from smp_feedback.training.prediction_writers import entropy

    x, _ = drawn(channels=1)
    p = x[:, 0].double().sigmoid()
    expected = F.binary_cross_entropy(p, p, reduction="none") / math.log(2)
    torch.testing.assert_close(entropy(x).double(), expected, rtol=1e-5, atol=1e-6)
