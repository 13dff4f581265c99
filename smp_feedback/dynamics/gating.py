"""A state that learns, pixel by pixel and channel by channel, how much of a correction it takes."""

from __future__ import annotations

from dataclasses import fields
from typing import cast

import torch
from torch import Tensor, nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.dynamics.base import Dynamics, Rule
from smp_feedback.errors import InvalidValue

DECAYS = ("tau", "order", "learn_rates", "rate_exponent", "basis")
"""Fields of a config that say how corrections decay."""


def gated(state: Tensor, drive: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``h + g (e - h)`` with ``g = sigmoid(weight [h, e] + bias)``, between h and e.

    Args:
        state: h, (B, C, h, w).
        drive: e, (B, C, h, w).
        weight: (C, 2 C, 1, 1), of the channels of *state* and then of *drive*.
        bias: (C,).

    >>> gated(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), torch.zeros(1, 2, 1, 1), torch.zeros(1)).item()
    0.5
    """
    both = torch.cat([state, drive], 1)
    gate = nn.functional.conv2d(both, weight.to(both.dtype), bias.to(both.dtype)).sigmoid()
    return torch.lerp(state, drive, gate)


class Gated(Dynamics):
    """``h + g (e - h)``, ``g = sigmoid(G [h, e] + b)``: each channel of each pixel decides how much of e it takes.

    Ours, a convolutional GRU's update gate (arXiv 1511.06432) for the corrections of this loop; G is a 1 x 1
    convolution, and b begins at 1: most of a correction is taken until training says otherwise. A convex mix:
    ``|h_c| <= max over steps of |e_c|`` at every pixel, whatever the weights and however many the steps.
    """

    carries = True

    @classmethod
    def check(cls, config: Recurrent) -> None:
        """The gate says what is forgotten: a time constant would have no say, and no end is known beforehand."""
        if config.steps == "auto":
            raise InvalidValue(
                "steps='auto': with dynamics='gated' no correction has a size known beforehand; give a number."
            )
        for field in fields(config):
            if field.name in DECAYS and (value := getattr(config, field.name)) != field.default:
                raise InvalidValue(
                    f"{field.name}={value!r}: dynamics='gated' learns what it forgets; "
                    f"expected {field.name}={field.default!r}."
                )

    def __init__(self, channels: int, config: Recurrent) -> None:
        super().__init__(channels, config)
        self.gate = nn.Conv2d(2 * channels, channels, 1)
        nn.init.ones_(cast(Tensor, self.gate.bias))

    def begin(self, steps: int) -> Rule:
        """See :func:`gated`."""
        return lambda h, e, t: gated(h, e, self.gate.weight, cast(Tensor, self.gate.bias))
