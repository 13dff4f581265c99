"""A state that is a fractional integral of decaying corrections."""

from __future__ import annotations

import math

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.dynamics.decaying import Decay
from smp_feedback.errors import InvalidValue


def fractional_weight(t: int, steps: int, order: float) -> float:
    """``((T - t) / T)^(order - 1) / Gamma(order)``: the weight of step t of T (arXiv 2507.10143).

    >>> round(fractional_weight(0, 4, 1.5), 4), round(fractional_weight(3, 4, 1.5), 4)
    (1.1284, 0.5642)
    """
    return math.exp((order - 1) * math.log((steps - t) / steps) - math.lgamma(order))


class Fractional(Decay):
    """``h + w_t D_t e`` with the weights of a fractional integral of order ``order`` (arXiv 2507.10143)."""

    knows_the_end = True

    @classmethod
    def check(cls, config: Recurrent) -> None:
        """The weights of an order below 1 grow with T: nothing is known beforehand."""
        super().check(config)
        if config.steps == "auto" and config.order < 1:
            raise InvalidValue(f"order={config.order}: steps='auto' needs an order >= 1.")

    def weight(self, t: int, steps: int) -> float:
        """See :func:`fractional_weight`."""
        return fractional_weight(t, steps, self.config.order)

    def tail(self, t: int) -> float:
        """No weight exceeds 1 / Gamma(order), for any T."""
        return super().tail(t) * math.exp(-math.lgamma(self.config.order))
