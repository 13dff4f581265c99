"""Several losses as one: each with its weight, and from a look of its own on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor, nn

from smp_feedback.errors import InvalidType, InvalidValue


class Term(NamedTuple):
    """One of them.

    Attributes:
        loss: Called as ``loss(logits, target)``, or ``loss(logits, target, step=t)`` if it ``reads_steps``.
        weight: > 0.
        from_look: The first look that it judges, counted from 1.
    """

    loss: nn.Module
    weight: float = 1.0
    from_look: int = 1


class LossMixture(nn.Module):
    """``sum(weight * loss(logits, target))`` over the terms that judge the look.

    By name, a term is ``{name: soft_cldice, weight: 0.5, from_look: 2, arguments: {iterations: 3}}``, of which only the
    name has to be said; :func:`smp_feedback.training.build_loss.build_loss` makes them. Each is called in its own
    way, as if it were alone.

    Args:
        ignore_index: Label that does not count, of the usual terms; other terms know it themselves.
        terms: What is added up; None is cross-entropy and Dice, each with weight 1.

    Raises:
        InvalidType, InvalidValue: If there is none, or one is something else.

    >>> half = LossMixture(terms=[Term(nn.CrossEntropyLoss()), Term(nn.CrossEntropyLoss(), 0.5, from_look=2)])
    >>> logits, target = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long()
    >>> half(logits, target), half(logits, target, step=1)  # log(2), and half as much again
    (tensor(0.6931), tensor(1.0397))
    """

    reads_steps = True  # training calls it with step=t

    def __init__(self, ignore_index: int | None = None, *, terms: Sequence[Term] | None = None) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        if terms is None:
            label = -100 if ignore_index is None else ignore_index  # torch's word for none
            usual = nn.CrossEntropyLoss(ignore_index=label), DiceLoss("multiclass", ignore_index=ignore_index)
            terms = [Term(loss) for loss in usual]
        for term in terms:
            if not isinstance(term, Term):
                raise InvalidType(f"terms holds {term!r:.60}: expected a Term, or the settings of one, by name.")
        if not terms:
            raise InvalidValue("terms=[]: expected at least one loss.")
        self.losses = nn.ModuleList(term.loss for term in terms)
        self.weights = tuple(float(term.weight) for term in terms)
        self.starts = tuple(term.from_look for term in terms)

    @property
    def terms(self) -> list[Term]:
        """All of them."""
        return [Term(*parts) for parts in zip(self.losses, self.weights, self.starts, strict=True)]

    def judging(self, step: int) -> list[Term]:
        """Those that judge look *step*, counted from 0."""
        return [term for term in self.terms if step + 1 >= term.from_look]

    def forward(self, logits: Tensor, target: Tensor, step: int = 0) -> Tensor:
        """The loss of look *step*: logits (B, C, H, W), C >= 2, or (B, C); class indices (B, H, W), or (B,)."""
        return self.summed(logits, [_asked(term.loss, logits, target, step) for term in self.judging(step)], step)

    def summed(self, logits: Tensor, values: Sequence[Tensor], step: int) -> Tensor:
        """The weighted sum of the *values* of those that judge look *step*; 0, with a gradient of 0, of none."""
        if not values:
            return 0 * logits.float().mean()
        return torch.stack([term.weight * one for term, one in zip(self.judging(step), values, strict=True)]).sum()


def _asked(loss: nn.Module, logits: Tensor, target: Tensor, step: int) -> Tensor:
    value: Tensor = loss(logits, target, step=step) if getattr(loss, "reads_steps", False) else loss(logits, target)
    return value
