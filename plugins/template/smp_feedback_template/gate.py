"""A dynamics: the state moves towards each correction by a part that is learned."""

from __future__ import annotations

import torch
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.dynamics import Dynamics, Rule
from torch import nn


class Gate(Dynamics):
    """``h + g (e - h)``, with one learned number g in (0, 1), which starts at 1/2."""

    def __init__(self, channels: int, config: Recurrent) -> None:
        super().__init__(channels, config)
        self.gate = nn.Parameter(torch.zeros(()))

    def begin(self, steps: int) -> Rule:
        """The rule of one call; what does not depend on the step is computed here, once."""
        g = self.gate.sigmoid()
        return lambda h, e, t: h + g * (e - h)

    def tail(self, t: int) -> float:
        """How far the state is from a constant correction of rms 1 after t steps; ``steps="auto"`` asks."""
        return float(1 - self.gate.detach().sigmoid()) ** t
