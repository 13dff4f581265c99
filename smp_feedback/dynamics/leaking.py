"""A state that leaks towards each correction, as gradient descent does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.dynamics.base import Dynamics, Rule
from smp_feedback.errors import InvalidValue


def leaky(state: Tensor, drive: Tensor, rate: float) -> Tensor:
    """Euler step of ``tau dh/dt = -h + e`` with ``rate = 1 / tau``; fixed point h = e (arXiv 2507.10143).

    >>> leaky(torch.zeros(1), torch.ones(1), 0.25)
    tensor([0.2500])
    """
    return torch.lerp(state, drive, rate)


class Leaky(Dynamics):
    """``h + (e - h) / tau``: gradient descent on |h - e|^2 / 2, with a true fixed point (arXiv 2507.10143)."""

    carries = True

    @classmethod
    def check(cls, config: Recurrent) -> None:
        """A step longer than the time constant overshoots."""
        super().check(config)
        if config.tau < 1 or math.isinf(config.tau):
            raise InvalidValue(f"tau={config.tau}: dynamics='leaky' takes steps of 1 / tau; expected tau >= 1, finite.")
        for field, plain in (("learn_rates", False), ("basis", "identity")):
            if getattr(config, field) != plain:
                raise InvalidValue(
                    f"{field}={getattr(config, field)!r}: dynamics='leaky' does not decay corrections; "
                    f"expected {field}={plain!r}."
                )

    def begin(self, steps: int) -> Rule:
        """See :func:`leaky`."""
        rate = 1 / self.config.tau
        return lambda h, e, t: leaky(h, e, rate)

    def tail(self, t: int) -> float:
        """Distance to a constant drive after t steps."""
        return (1 - 1 / self.config.tau) ** t
