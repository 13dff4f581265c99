"""Parts as a stranger writes them: an LSTM's state of two maps, a learned projection, settings of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from smp_feedback.dynamics import Dynamics
from smp_feedback.errors import InvalidValue
from smp_feedback.ops.maps import resize
from smp_feedback.projections import Projection


class Memory(NamedTuple):
    """What an LSTM knows."""

    hidden: Tensor
    cell: Tensor


@dataclass(frozen=True)
class LSTMOptions:
    """Its own settings."""

    kernel: int = 1
    forget: float = 1.0
    squash: Literal["tanh", "none"] = "tanh"
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise InvalidValue(f"kernel={self.kernel}: expected an odd number.")


class ConvLSTM(Dynamics):
    """A convolutional LSTM (arXiv 1506.04214, without peepholes)."""

    state_class = Memory
    options_class = LSTMOptions
    carries = True

    def __init__(self, channels, config):
        super().__init__(channels, config)
        size = self.options.kernel
        self.gates = nn.Conv2d(2 * channels, 4 * channels, size, padding=size // 2)

    def begin(self, steps):
        """The four gates of one convolution."""

        def rule(state, correction, t):
            entry, forget, out, new = self.gates(torch.cat([correction, state.hidden], 1)).chunk(4, 1)
            cell = (forget + self.options.forget).sigmoid() * state.cell + entry.sigmoid() * new.tanh()
            return Memory(out.sigmoid() * cell.tanh(), cell)

        return rule


@dataclass
class MixedOptions:
    """Its own settings, one of which has no default."""

    width: int


class Mixed(Projection):
    """A learned mixture of the state's last channels."""

    options_class = MixedOptions

    def __init__(self, config, classes):
        super().__init__(config, classes)
        self.channels = self.options.width
        self.mix = nn.Conv2d(self.readout, self.channels, 1)

    def forward(self, view):
        """Mixed, then resized."""
        return resize(self.mix(view.readout), view.size)

    def before(self):
        """What a state of zeros gives."""
        return self.mix.bias
