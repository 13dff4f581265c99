"""What the segmentation network of a restoration loop is held to at each step, and how rare classes are weighed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from smp_feedback.losses.iterative import ClassBalancedIterativeFocal, checked_weights
from smp_feedback.training.apply_loss import loss_of_look
from smp_feedback.training.build_loss import build_loss
from smp_feedback.training.class_weights import BALANCED, balanced_weights, check_class_weights


class StepLoss(nn.Module):
    """``alpha_t * loss(logits, target)`` of step t, for any loss; the last alpha stands for every step after it.

    Args:
        loss: A name, see :func:`smp_feedback.training.build_loss.build_loss`, or a module.
        classes: Number of classes, >= 2.
        ignore_index: Label that is not learnt; None learns all.
        gammas: Focus of each step, of a loss that has one; None is the loss's own.
        step_weights: alpha_t, each >= 0; None is 1 for all.
        class_weights: One number >= 0 a class, for a loss that weighs classes; or ``balanced``, where the loss is
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
        self.loss = self._built(check_class_weights(class_weights, classes))
        balanced = isinstance(class_weights, str) and class_weights == BALANCED and isinstance(loss, str)
        self.waits = balanced and isinstance(self.loss, ClassBalancedIterativeFocal)

    def forward(self, logits: Tensor, target: Tensor, step: int) -> Tensor:
        """The loss of step *step*, from 0; logits (B, classes, H, W), or one channel of a base of one class."""
        alpha = self.step_weights[min(step, len(self.step_weights) - 1)]
        how: dict[str, Any] = {"ignore_index": self.ignore_index, "named": True}
        return alpha * loss_of_look(self.loss, logits, target, step, **how)

    def balance(self, labelled: Any) -> list[float]:
        """Weigh the classes as they occur in *labelled*, pairs of image and mask: rare ones up to 7.8 times as much.

        See :func:`smp_feedback.training.class_weights.balanced_weights`.
        """
        weights = balanced_weights(labelled, self.classes, self.ignore_index)
        self.loss, self.waits = self._built(weights), False
        return weights

    def _built(self, weights: Sequence[float] | None) -> nn.Module:
        return build_loss(self.name, self.ignore_index, self.own, classes=self.classes, class_weights=weights)
