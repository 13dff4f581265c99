"""A convolution that reads features beside what changes: its answer to the features is computed once per image."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class ConditionedConv2d(nn.Conv2d):
    """A 3 x 3 convolution over ``[h, x]`` in two calls: ``conv(x, conv.condition(h))``.

    A convolution is linear: over a concatenation it is the sum of one over each part. The first part does not change
    while x is refined. The weight stays one, (out, C_h + C_x, 3, 3), and learns from both calls.

    Args:
        conditions: Channels of h, C_h >= 0; with 0, *x* is all there is.
        channels: Channels of x, C_x.
        width: Of the answer.
        padding: Zeros on each side.

    >>> import torch
    >>> conv = ConditionedConv2d(2, 3, 5)
    >>> h, x = torch.rand(1, 2, 4, 4), torch.rand(1, 3, 4, 4)
    >>> whole = F.conv2d(torch.cat([h, x], 1), conv.weight, conv.bias, padding=1)
    >>> torch.allclose(conv(x, conv.condition(h)), whole, atol=1e-6)
    True
    """

    def __init__(self, conditions: int, channels: int, width: int, *, padding: int = 1) -> None:
        super().__init__(conditions + channels, width, 3, padding=padding)
        self.conditions = conditions

    def condition(self, h: Tensor) -> Tensor:
        """What the weight makes of *h* (B, C_h, H, W), without the bias."""
        return F.conv2d(h, self.weight[:, : self.conditions], padding=self.padding)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The convolution over ``[h, x]``, from *x* (B, C_x, H, W) and the *condition* that h gave."""
        answer = F.conv2d(x, self.weight[:, self.conditions :], self.bias, padding=self.padding)
        return answer if condition is None else answer + condition
