"""The loss of a large map some rows at a time: of what is a mean over pixels, in the memory of a few of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

MEANS = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss)
"""Losses that are a mean over what is not void, of classes' weights where they have some."""


def is_mean(loss: nn.Module) -> bool:
    """Whether *loss* of a map follows from the losses of its parts.

    >>> is_mean(nn.CrossEntropyLoss()), is_mean(nn.CrossEntropyLoss(reduction="sum")), is_mean(nn.NLLLoss())
    (True, False, False)
    """
    return type(loss) in MEANS and loss.reduction == "mean"


class LossInParts:
    """The mean loss of a map whose parts are judged as they come; to rounding that of the whole.

    Args:
        judge: The loss of a part, of its logits and its target, int64.
        loss: Asked for the module that *judge* judges by, once it has: what channels it is for may turn out then.
        void: The label that does not count; None is the loss's own, if it has one.

    >>> loss = nn.CrossEntropyLoss(ignore_index=255)
    >>> parts = LossInParts(loss, lambda: loss, None)
    >>> for logits, label in ((2.0, 1), (0.0, 255), (0.0, 0)):
    ...     parts.add(torch.tensor([[[[logits]], [[0.0]]]]), torch.tensor([[[label]]]).byte())
    >>> parts.value()  # of two pixels: 2.1269 and 0.6931
    tensor(1.4100)
    """

    def __init__(
        self, judge: Callable[[Tensor, Tensor], Tensor], loss: Callable[[], nn.Module], void: int | None
    ) -> None:
        self.judge, self.loss, self.void = judge, loss, void
        self.lost: list[Tensor] = []
        self.shares: list[Tensor] = []

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Judge one part; *target* may be bytes."""
        target = target.long()
        value = self.judge(logits, target)
        share = _share(self.loss(), target, self.void).to(value)
        self.lost.append(torch.where(share > 0, share * value, 0))
        self.shares.append(share)

    def value(self) -> Tensor:
        """The loss of all, (); 0 where nothing counts."""
        lost, whole = torch.stack(self.lost).sum(), torch.stack(self.shares).sum()
        return lost / whole.where(whole > 0, 1)


def _share(loss: nn.Module, target: Tensor, void: int | None) -> Tensor:
    """How much the mean over *target* weighs in that over all parts, ()."""
    void = getattr(loss, "ignore_index", None) if void is None else void
    counts = torch.ones_like(target, dtype=torch.bool) if void is None else target != void
    if isinstance(loss, nn.BCEWithLogitsLoss) or loss.weight is None:
        return counts.sum()
    weight: Tensor = loss.weight  # type: ignore[assignment]
    return (weight[target.where(counts, 0)] * counts).sum()
