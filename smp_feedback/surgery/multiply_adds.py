"""How much a model computes: a property of model and image, not of the machine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from smp_feedback.surgery.extension import evaluating


def multiply_adds(model: nn.Module, image: Tensor, ask: Callable[[Tensor], object] | None = None) -> int:
    """Multiply-adds of a forward pass in evaluation, for each image in it.

    Those of convolutions, linear layers and attention; sums, norms and activations are not counted.

    Args:
        model: The model.
        image: (B, C, H, W).
        ask: What is done with *image*, such as a call of *model* that is told a number of looks; None calls *model*.

    >>> multiply_adds(nn.Conv2d(3, 4, 3, padding=1), torch.zeros(2, 3, 8, 8)) == 3 * 4 * 3 * 3 * 8 * 8
    True
    """
    with torch.no_grad(), evaluating(model), FlopCounterMode(display=False) as counter:
        (model if ask is None else ask)(image)
    flops: int = counter.get_total_flops()
    return flops // 2 // len(image)  # torch counts a multiply-add as two
