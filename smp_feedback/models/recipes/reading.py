"""A segmentation head that reads the first channels of its decoder's output, and leaves the rest to the loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn

from smp_feedback.surgery.cuts import SMP_CUT
from smp_feedback.surgery.extension import Extension, extend


class ReadsFirst(Extension):
    """A head that reads the first channels alone."""

    reads: int

    def forward(self, x: Tensor) -> Tensor:
        """(B, S + K, h, w) or (B, S, h, w) -> what it makes of the first S channels."""
        return cast(Tensor, super().forward(x[:, : self.reads]))


def reading_first(head: nn.Module, channels: int) -> nn.Module:
    """*head*, in place, reading the first *channels* alone.

    >>> import torch
    >>> reading_first(nn.Conv2d(2, 1, 1), 2)(torch.zeros(1, 5, 4, 4)).shape
    torch.Size([1, 1, 4, 4])
    """
    extend(head, ReadsFirst).reads = channels
    return head


def readout(model: Any) -> int:
    """How many of its channels a recipe makes to be fed back."""
    return int(model.feedback_channels)


CUT = replace(SMP_CUT, readout=readout)
"""As smp's models are opened; their decoders make ``feedback_channels`` more than their heads read."""
