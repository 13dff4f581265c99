"""A state that starts as a trained model's output, and is corrected from there."""

from __future__ import annotations

import torch
from torch import nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.dynamics.base import Rule
from smp_feedback.dynamics.decaying import Decay


class Residual(Decay):
    """``h_1 = y_0``, then ``h + gamma * D_t e`` with gamma (C,) starting at 0.

    Ours: a trained feed-forward model keeps its exact outputs, for every T, until training moves gamma. With one
    step gamma is not used: DistributedDataParallel then needs ``find_unused_parameters=True``.
    """

    starts_from_output = True

    def __init__(self, channels: int, config: Recurrent) -> None:
        super().__init__(channels, config)
        self.gamma = nn.Parameter(torch.zeros(channels))

    def begin(self, steps: int) -> Rule:
        """h + gamma * D_t e."""
        correction, gamma = super().begin(steps), self.gamma[:, None, None]
        return lambda h, e, t: torch.addcmul(h, gamma, correction(torch.zeros_like(e), e, t))

    def size(self, t: int, steps: int) -> float:
        """From step 1 on; what h_1 = y_0 brings is not bounded by any dynamics."""
        return 0.0 if t == 0 else super().size(t, steps) * self.largest()

    def tail(self, t: int) -> float:
        """The decay's, for a gamma of at least 1: an untrained one must have steps to learn from."""
        return super().tail(t) * max(1.0, self.largest())

    def largest(self) -> float:
        """The largest |gamma|."""
        return float(self.gamma.detach().abs().max())
