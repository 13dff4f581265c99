"""The loss of a large map some rows at a time: of what is a mean over pixels, in the memory of a few of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.evaluation.confusion import QUESTIONS
from smp_feedback.training.apply_loss import loss_of_look

MEANS = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss)
"""Losses that are a mean over what is not void, of classes' weights where they have some."""


def loss_in_parts(loss: nn.Module, logits: Tensor, target: Tensor, look: int, **how: Any) -> Tensor:
    """What :func:`smp_feedback.training.apply_loss.loss_of_look` says of maps that may be large; to rounding.

    A loss that is no mean over pixels judges them at once, and so it takes the memory that it takes.

    Args:
        loss: As there.
        logits: As there.
        target: As there, of any type of whole numbers.
        look: As there.
        **how: As there.

    >>> logits, target = torch.tensor([[[[2.0], [0.0]], [[0.0], [0.0]]]]), torch.tensor([[[1], [255]]]).byte()
    >>> loss_in_parts(nn.CrossEntropyLoss(ignore_index=255), logits, target, 0)
    tensor(2.1269)
    """
    if type(loss) not in MEANS or loss.reduction != "mean" or target.ndim < 3:
        return loss_of_look(loss, logits, target.long(), look, **how)
    void = how.get("ignore_index")
    void = getattr(loss, "ignore_index", None) if void is None else void
    height = target.shape[-2]
    rows = max(1, QUESTIONS * height // max(1, target.numel()))
    lost, whole = logits.new_zeros(()), logits.new_zeros(())
    for top in range(0, height, rows):
        said, so = logits[..., top : top + rows, :], target[..., top : top + rows, :].long()
        share = _share(loss, so, void).to(lost)
        lost += share * loss_of_look(loss, said, so, look, **how)
        whole += share
    return lost / whole.where(whole > 0, 1)


def _share(loss: nn.Module, target: Tensor, void: int | None) -> Tensor:
    """How much the mean over *target* weighs in that over all parts, ()."""
    counts = torch.ones_like(target, dtype=torch.bool) if void is None else target != void
    if isinstance(loss, nn.BCEWithLogitsLoss) or loss.weight is None:
        return counts.sum()
    weight: Tensor = loss.weight  # type: ignore[assignment]
    return (weight[target.where(counts, 0)] * counts).sum()
