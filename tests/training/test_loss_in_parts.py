"""A loss in parts is the loss of the whole: torch's own cross-entropies, weighed, smoothed and with void."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("lightning")

from smp_feedback.training import loss_in_parts as parts
from smp_feedback.training.apply_loss import loss_of_look

WEIGHT = torch.tensor([0.5, 0.0, 2.0])
CASES = {
    "plain": (nn.CrossEntropyLoss(), None),
    "void": (nn.CrossEntropyLoss(ignore_index=255), 255),
    "weights": (nn.CrossEntropyLoss(weight=WEIGHT), None),
    "weights, smooth, void": (nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.2, ignore_index=255), 255),
    "no mean over pixels": (nn.CrossEntropyLoss(reduction="sum"), None),
}


@pytest.mark.parametrize("case", CASES)
def test_parts_of_rows_judge_as_the_whole_map(case, monkeypatch):
    monkeypatch.setattr(parts, "QUESTIONS", 20)  # two rows of 2 x 5 pixels
    loss, void = CASES[case]
    target = torch.arange(70).remainder(3).view(2, 7, 5)
    if void is not None:
        target[0], target[:, 2:4], target[1, 0, 0] = void, void, void  # all of an image, and all of a part
    logits = torch.randn(2, 3, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = loss.double()
    whole = loss_of_look(loss, logits, target, 0, ignore_index=void)
    found = parts.loss_in_parts(loss, logits, target.byte(), 0, ignore_index=void)
    torch.testing.assert_close(found, whole)
    if type(loss) is nn.CrossEntropyLoss:
        torch.testing.assert_close(found, loss(logits, target), msg="torch's own, of the whole")


def test_of_single_channels_and_of_nothing_that_counts(monkeypatch):
    monkeypatch.setattr(parts, "QUESTIONS", 3)
    loss, target = nn.BCEWithLogitsLoss(), torch.tensor([[[0, 1, 255], [1, 1, 0], [255, 255, 255]]])
    logits = torch.linspace(-2, 2, 9).view(1, 1, 3, 3)
    counts = target != 255
    expected = loss(logits[0][counts], target[counts].float())
    torch.testing.assert_close(parts.loss_in_parts(loss, logits, target.byte(), 0, ignore_index=255), expected)
    void = torch.full_like(target, 255)
    assert parts.loss_in_parts(loss, logits, void, 0, ignore_index=255) == 0
