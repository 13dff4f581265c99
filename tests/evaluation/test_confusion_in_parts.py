"""Large maps are counted in parts: the same counts as at once."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("lightning")

from smp_feedback.evaluation import confusion
from smp_feedback.evaluation.confusion import cells_in_parts, cells_of
from smp_feedback.ops.reading import labels_of
from smp_feedback.training.metric import LookMetric


def drawn(task):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 11, 7)
    target = torch.randint(0, 2 if task == "multilabel" else 4, (2, 3, 11, 7) if task == "multilabel" else (2, 11, 7))
    target[0, ..., :4, :] = labels_of(logits, task)[0, ..., :4, :]
    return logits, target


@pytest.mark.parametrize("task", ["segmentation", "multilabel"])
@pytest.mark.parametrize("as_labels", [False, True])
def test_parts_count_what_the_whole_counts(task, as_labels, monkeypatch):
    logits, target = drawn(task)
    said = labels_of(logits, task).to(torch.uint8) if as_labels else logits
    ignored = None if task == "multilabel" else 3
    metrics = [LookMetric(task, classes=3, steps=1, ignore_index=ignored) for _ in range(2)]
    metrics[0].update(0, logits, target)
    monkeypatch.setattr(confusion, "QUESTIONS", 14)
    parts = [*cells_in_parts(said, target, 3, ignored, task)]
    assert len(parts) > 5
    assert torch.equal(torch.cat([part.cell for part in parts], -2), cells_of(logits, target, 3, ignored, task).cell)
    metrics[1].update(0, said, target)
    for one, other in zip(metrics[0].compute(), metrics[1].compute(), strict=True):
        assert torch.equal(one, other)


def test_an_image_is_solved_only_if_all_its_parts_are(monkeypatch):
    monkeypatch.setattr(confusion, "QUESTIONS", 4)
    target = torch.zeros(2, 6, 2, dtype=torch.long)
    said = torch.zeros(2, 6, 2, dtype=torch.uint8)
    said[1, 0, 0] = 1  # in its first part alone
    metric = LookMetric("segmentation", classes=2, steps=1)
    metric.update(0, said, target)
    assert metric.images.tolist() == [[1, 2]]
