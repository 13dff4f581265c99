"""What the segmentation network of a restoration loop is held to at each step, and how rare classes are weighed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from smp_feedback.data.checking import count_classes
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.confusion import per_class
from smp_feedback.losses.balance import class_balanced_weights
from smp_feedback.losses.iterative import ClassBalancedIterativeFocal, checked_weights
from smp_feedback.training.build_loss import build_loss, loss_of_look
from smp_feedback.training.sampling import drawing

BALANCED = "balanced"


class StepLoss(nn.Module):
    """``alpha_t * loss(logits, target)`` of step t, for any loss; the last alpha stands for every step after it.

    Args:
        loss: A name, see :func:`smp_feedback.training.build_loss.build_loss`, or a module.
        classes: Number of classes, >= 2.
        ignore_index: Label that is not learnt; None learns all.
        gammas: Focus of each step, of a loss that has one; None is the loss's own.
        step_weights: alpha_t, each >= 0; None is 1 for all.
        class_weights: One number >= 0 a class, for a loss that takes some; or ``balanced``, where the loss is
            ``class_balanced_iterative_focal``: those that :meth:`balance` is to find.

    Raises:
        InvalidType, InvalidValue, UnknownName, UnknownKeyword: At birth, naming the argument.

    >>> import torch
    >>> loss = StepLoss("cross_entropy", classes=2, step_weights=[1, 0.5])
    >>> logits, target = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long()
    >>> loss(logits, target, 0), loss(logits, target, 7)
    (tensor(0.6931), tensor(0.3466))
    """

    def __init__(
        self,
        loss: str | nn.Module,
        *,
        classes: int,
        ignore_index: int | None = None,
        gammas: Sequence[float] | None = None,
        step_weights: Sequence[float] | None = None,
        class_weights: Sequence[float] | str | None = None,
    ) -> None:
        super().__init__()
        self.classes, self.ignore_index, self.name = classes, ignore_index, loss
        self.step_weights = (1.0,) if step_weights is None else checked_weights("step_weights", step_weights)
        self.own: dict[str, Any] = {} if gammas is None else {"gammas": gammas}
        balanced = isinstance(class_weights, str)
        if isinstance(class_weights, str):
            if class_weights != BALANCED:
                raise InvalidValue(f"class_weights={class_weights!r}: expected {BALANCED!r}, a list, or None.")
        elif class_weights is not None:
            self.own["class_weights"] = self._of_each_class(class_weights)
        self.loss = build_loss(loss, ignore_index, self.own)
        self.waits = balanced and isinstance(loss, str) and isinstance(self.loss, ClassBalancedIterativeFocal)

    def forward(self, logits: Tensor, target: Tensor, step: int) -> Tensor:
        """The loss of step *step*, from 0; logits (B, classes, H, W), or one channel of a base of one class."""
        alpha = self.step_weights[min(step, len(self.step_weights) - 1)]
        return alpha * loss_of_look(self.loss, per_class(logits), target, step)

    def balance(self, labelled: Any) -> list[float]:
        """Weigh the classes as they occur in *labelled*, pairs of image and mask: rare ones up to 7.8 times as much.

        As published: :func:`~smp_feedback.losses.balance.class_balanced_weights` of ``samples="log"``. What the pairs
        draw at random is drawn alike each time, so that a resumed run finds the same weights.
        """
        known = self.ignore_index is not None and 0 <= self.ignore_index < self.classes
        with drawing(0):
            counts = count_classes(labelled, self.classes, self.ignore_index)
        weights = class_balanced_weights(counts, samples="log", ignore_index=self.ignore_index if known else None)
        self.own["class_weights"] = weights
        self.loss, self.waits = build_loss(self.name, self.ignore_index, self.own), False
        return weights

    def _of_each_class(self, weights: Sequence[float]) -> list[float]:
        checked = checked_weights("class_weights", weights)
        if len(checked) != self.classes:
            raise InvalidValue(
                f"class_weights has {len(checked)} numbers, the data have {self.classes} classes: expected one number "
                "for each, 0 for one that does not count."
            )
        return list(checked)
