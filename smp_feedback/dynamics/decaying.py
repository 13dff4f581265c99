"""A state to which later corrections add exponentially less."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import is_parametrized

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.dynamics.base import Dynamics, Rule
from smp_feedback.ops.maps import as_precise_as, laid_out_as


def decay(
    x: Tensor,
    t: int,
    tau: float,
    rates: Tensor | None = None,
    basis: Tensor | None = None,
    inverse: Tensor | None = None,
    exponent: float = 1.0,
) -> Tensor:
    """``D_t x`` with ``D_t = Q^T exp(-t |s|^exponent / tau) Q`` (arXiv 2509.15905; *inverse* for Q^T: 2507.10143).

    Args:
        x: (B, C, h, w).
        t: The step, from 0.
        tau: Time constant in steps.
        rates: s (C,); None is all ones.
        basis: Q (C, C); None is the identity.
        inverse: (C, C) in place of Q^T.
        exponent: The power of |s|.

    >>> decay(torch.ones(1, 2, 1, 1), t=2, tau=1.0).flatten()
    tensor([0.1353, 0.1353])
    """
    if rates is None and basis is None:
        return x * math.exp(-t / tau)
    fade = x.new_full((x.shape[1],), math.exp(-t / tau)) if rates is None else faded(t, tau, rates, exponent)
    if basis is None:
        return x * fade[:, None, None]
    back = basis.mT if inverse is None else inverse
    return laid_out_as(torch.einsum("oc,bchw->bohw", (back * fade) @ basis, x), x)


def faded(t: int, tau: float, rates: Tensor, exponent: float = 1.0) -> Tensor:
    """What is left of each channel after *t* steps (C,): ``exp(-t |s|^exponent / tau)``."""
    return torch.exp(rates.abs().pow(exponent) * (-t / tau))


class Decay(Dynamics):
    """``h + D_t e``: a state to which later corrections add exponentially less (arXiv 2509.15905).

    With all rates equal and an orthogonal basis D_t is the scalar exp(-t / tau), and the basis, which then
    changes nothing, is not even made.
    """

    def __init__(self, channels: int, config: Recurrent) -> None:
        super().__init__(channels, config)
        self.rates = nn.Parameter(torch.ones(channels)) if config.learn_rates else None
        free, turned = config.basis == "free", config.basis == "orthogonal" and config.learn_rates
        self.basis = _square(channels, orthogonal=not free) if free or turned else None
        self.inverse = _square(channels, orthogonal=False) if free else None

    def begin(self, steps: int) -> Rule:
        """h + weight(t) * D_t e."""
        tau, exponent = self.config.tau, self.config.rate_exponent
        if self.rates is None and self.basis is None:
            return lambda h, e, t: torch.add(h, e, alpha=self.weight(t, steps) * math.exp(-t / tau))
        basis, inverse = (None if part is None else _in_full(part) for part in (self.basis, self.inverse))
        return lambda h, e, t: torch.add(
            h, decay(e, t, tau, self.rates, basis, inverse, exponent), alpha=self.weight(t, steps)
        )

    def weight(self, t: int, steps: int) -> float:
        """w_t = 1."""
        return 1.0

    def size(self, t: int, steps: int) -> float:
        """|w_t| exp(-t s_min / tau)."""
        return abs(self.weight(t, steps)) * math.exp(-t * self.slowest() / self.config.tau)

    def tail(self, t: int) -> float:
        """The geometric series from t on."""
        ratio = math.exp(-self.slowest() / self.config.tau)
        return ratio**t / (1 - ratio) if ratio < 1 else math.inf

    def slowest(self) -> float:
        """s_min, the smallest |s|^exponent."""
        return 1.0 if self.rates is None else float(self.rates.detach().abs().min()) ** self.config.rate_exponent


def _in_full(part: nn.Linear) -> Tensor:
    """The matrix, computed in its own precision: under autocast an orthogonal one would not be."""
    if not is_parametrized(part):  # nothing to compute; ``torch.export`` saves no region without an operation
        return part.weight
    with as_precise_as(part.weight):
        return part.weight


def _square(channels: int, *, orthogonal: bool) -> nn.Linear:
    """A learned (C, C) matrix that starts as the identity."""
    linear = nn.Linear(channels, channels, bias=False)
    nn.init.eye_(linear.weight)
    return parametrizations.orthogonal(linear) if orthogonal else linear  # type: ignore[return-value]
