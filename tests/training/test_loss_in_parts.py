"""A loss in parts is the loss of the whole: torch's own cross-entropies, weighed, smoothed and with void."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

pytest.importorskip("lightning")

from smp_feedback.training.apply_loss import loss_of_look
from smp_feedback.training.loss_in_parts import LossInParts, is_mean

WEIGHT = torch.tensor([0.5, 0.0, 2.0])
CASES = {
    "plain": (nn.CrossEntropyLoss(), None),
    "void": (nn.CrossEntropyLoss(ignore_index=255), 255),
    "weights": (nn.CrossEntropyLoss(weight=WEIGHT), None),
    "weights, smooth, void": (nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.2, ignore_index=255), 255),
}


def in_parts(loss, logits, target, void, rows):
    """Some rows of each image at a time."""
    parts = LossInParts(partial(loss_of_look, loss, look=0, ignore_index=void), lambda: loss, void)
    for image in range(len(logits)):
        for top in range(0, logits.shape[-2], rows):
            here = slice(image, image + 1), ..., slice(top, top + rows), slice(None)
            parts.add(logits[here], target.byte()[here])
    return parts.value()


@pytest.mark.parametrize("case", CASES)
def test_parts_of_rows_judge_as_the_whole_map(case):
    loss, void = CASES[case]
    target = torch.arange(70).remainder(3).view(2, 7, 5)
    if void is not None:
        target[0], target[:, 2:4], target[1, 0, 0] = void, void, void  # all of an image, and all of a part
    logits = torch.randn(2, 3, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = loss.double()
    assert is_mean(loss)
    torch.testing.assert_close(in_parts(loss, logits, target, void, 2), loss(logits, target))


def test_of_single_channels_and_of_nothing_that_counts():
    loss, target = nn.BCEWithLogitsLoss(), torch.tensor([[[0, 1, 255], [1, 1, 0], [255, 255, 255]]])
    logits = torch.linspace(-2, 2, 9).view(1, 1, 3, 3)
    counts = target != 255
    expected = loss(logits[0][counts], target[counts].float())
    torch.testing.assert_close(in_parts(loss, logits, target, 255, 1), expected)
    assert in_parts(loss, logits, torch.full_like(target, 255), 255, 1) == 0
