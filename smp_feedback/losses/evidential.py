"""The evidential loss of arXiv 2507.10143: be right, and gather no evidence for what is wrong."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from smp_feedback.checks import check_number
from smp_feedback.losses.pixels import PixelLoss, Pixels

LARGE = 16.0  # from here on the series is as exact as float32


class Evidential(PixelLoss):
    """``risk + weight * KL(Dir(a~) || Dir(1))``, means over the pixels, for a model with ``output="dirichlet"``.

    With p drawn from Dir(a), S = sum(a) and y one-hot, the risk is the expected squared error
    ``sum_c (y_c - a_c / S)^2 + a_c (S - a_c) / (S^2 (S + 1))``; ``a~ = (a - 1)(1 - y) + 1`` is a without the evidence
    for the right class, so that the second term vanishes exactly if there is none for a wrong one.

    Called with log(a), which is what such a model answers. Evidence is never negative: logits below 0 count as 0
    (no evidence), with no gradient. Those of a model with ``output="logits"`` are not meant.

    Args:
        ignore_index: Label that does not count; None counts all.
        weight: Of the KL term, >= 0; 1 as published.

    >>> loss = Evidential()
    >>> loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)).mul(3)  # (1/4 + 1/12) * 2
    tensor(2.0000)
    """

    def __init__(self, ignore_index: int | None = None, *, weight: float = 1.0) -> None:
        super().__init__(ignore_index)
        check_number("weight", weight, least=0)
        self.weight = weight

    def of(self, pixels: Pixels) -> Tensor:
        """Mean over the counted pixels of the batch."""
        log_a = pixels.logits.clamp_min(0)
        wrong = log_a * (1 - pixels.one_hot)
        loss = risk(log_a, pixels.one_hot) + self.weight * divergence_from_uniform(wrong.exp())
        return (loss * pixels.counted).sum() / pixels.counted.sum().clamp_min(1)


def risk(log_a: Tensor, one_hot: Tensor) -> Tensor:
    """Expected squared error of a draw from Dir(a): (B, C, ...) -> (B, ...), in [0, 2].

    Its variance, a_c (S - a_c) / (S^2 (S + 1)), is p (1 - p) / (S + 1) with p = a / S: nothing large is squared.
    """
    p, total = log_a.softmax(1), log_a.exp().sum(1)
    return (one_hot - p).square().sum(1) + (p * (1 - p)).sum(1) / (total + 1)


def divergence_from_uniform(a: Tensor) -> Tensor:
    """KL(Dir(a) || Dir(1)) in nats, for a >= 1: (B, C, ...) -> (B, ...), >= 0, and 0 where all a are 1.

    That is ``lgamma(S) - lgamma(C) - sum_c lgamma(a_c) + sum_c (a_c - 1)(psi(a_c) - psi(S))``. Its terms grow like
    S log S and their sum like log S; sorted as ``g(S) - sum_c g(a_c) + (C - 1) psi(S) - lgamma(C)``, g being
    :func:`slow_part`, no large terms are left to cancel.

    >>> divergence_from_uniform(torch.ones(1, 3, 1)).abs() < 1e-6
    tensor([[True]])
    """
    total, classes = a.sum(1), a.shape[1]
    spread = slow_part(total) - slow_part(a).sum(1)
    return spread + (classes - 1) * torch.digamma(total) - math.lgamma(classes)


def slow_part(x: Tensor) -> Tensor:
    """``lgamma(x) - (x - 1) psi(x) + x`` for x >= 1, which grows like log(x) / 2; beyond 16 by Stirling's series.

    >>> slow_part(torch.ones(1))
    tensor([1.])
    """
    small, large = x.clamp_max(LARGE), x.clamp_min(LARGE)
    exact = torch.lgamma(small) - (small - 1) * torch.digamma(small) + small
    r = 1 / large
    series = r * (-1 / 3 + r * (-1 / 12 + r * (-1 / 90 + r * (1 / 120 + r / 210))))
    return torch.where(x < LARGE, exact, large.log() / 2 + 0.5 + math.log(2 * math.pi) / 2 + series)
