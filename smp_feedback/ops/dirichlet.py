"""Dirichlet predictions (arXiv 2507.10143): a distribution over distributions, and what it says of its own doubt.

The state h holds one channel of evidence per class; ``alpha = 1 + softplus(h)``, and a model answers log(alpha), so
that ``softmax(logits)`` is the mean of the Dirichlet distribution, and argmax, losses and metrics read it like others.
"""

from __future__ import annotations

import math  # noqa: F401  (doctests)
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from smp_feedback.errors import InvalidInput, InvalidValue

START = 1.0
"""h_0 of a Dirichlet state, everywhere: equal evidence for every class."""


def log_concentration(evidence: Tensor) -> Tensor:
    """log(alpha), ``alpha = 1 + softplus(evidence)``; same shape, > 0, and in the order of the evidence.

    >>> bool(log_concentration(torch.zeros(())).exp().sub(1 + math.log(2)).abs() < 1e-6)
    True
    """
    return F.softplus(evidence).log1p()


def mean_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of the mean, ``softmax(logits)``.

    Args:
        logits: log(alpha), (B, C, ...).

    Returns:
        (B, 1, ...), in [0, log C].

    >>> mean_entropy(torch.zeros(1, 2, 1, 1)).item() - math.log(2) < 1e-6
    True
    """
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1, keepdim=True)


class Uncertainty(NamedTuple):
    """What a Dirichlet prediction says of its own doubt, at each pixel (B, H, W). Entropies are in nats.

    Attributes:
        evidence: alpha_0 - C, alpha_0 = sum of alpha: all that was gathered for any class, >= 0.
        vacuity: C / alpha_0, in (0, 1]; 1 where there is no evidence.
        entropy: Of the mean: all doubt about the label, in [0, log C]; the sum of the two below.
        expected_entropy: Mean entropy of the distributions drawn: doubt that more evidence would not remove, >= 0.
        mutual_information: Of label and distribution: doubt for lack of evidence, >= 0.
    """

    evidence: Tensor
    vacuity: Tensor
    entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor


def uncertainty(logits: Tensor) -> Uncertainty:
    """The uncertainty maps of a model with ``output="dirichlet"``; differentiable, in float32 or better.

    With p drawn from Dir(alpha): ``E[H(p)] = psi(alpha_0 + 1) - sum_c alpha_c / alpha_0 psi(alpha_c + 1)``, and the
    mutual information is ``H(E[p]) - E[H(p)]``.

    Args:
        logits: The model's answer, log(alpha): (B, C, H, W), or (B, C) for maps of shape (B,).

    Raises:
        InvalidInput: If there are fewer than two classes.

    >>> sure, unsure = uncertainty(torch.tensor([[5.0, 0.0], [0.0, 0.0]])).vacuity
    >>> bool(sure < 0.02), unsure.item()
    (True, 1.0)
    """
    if logits.ndim < 2 or logits.shape[1] < 2:
        raise InvalidInput(f"logits of shape {tuple(logits.shape)}: expected (B, C, H, W) or (B, C) with C >= 2.")
    logits = logits if logits.dtype == torch.float64 else logits.float()
    classes, alpha = logits.shape[1], logits.exp()
    total = alpha.sum(1)
    entropy = mean_entropy(logits).squeeze(1)
    expected = torch.digamma(total + 1) - (logits.softmax(1) * torch.digamma(alpha + 1)).sum(1)
    information = (entropy - expected).clamp_min(0)
    return Uncertainty((total - classes).clamp_min(0), classes / total, entropy, expected, information)


def check_classes(classes: int) -> None:
    """A Dirichlet distribution is over two classes or more."""
    if classes < 2:
        raise InvalidValue(
            f"output='dirichlet': expected classes >= 2, got classes={classes}; foreground and background are two."
        )
