"""An average of the weights, scored and kept in place of the last."""

from __future__ import annotations

import functools
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from smp_feedback.checks import check_number
from smp_feedback.errors import InvalidValue


def check_decay(ema: float | None) -> None:
    """*ema* is the decay of an average, in (0, 1), or None."""
    if ema is not None:
        check_number("ema", ema, above=0)
        if ema >= 1:
            raise InvalidValue(f"ema={ema!r}: expected a number < 1; 0.999 averages over about the last 1000 steps.")


class AveragedWeights(WeightAveraging):
    """Scores and keeps the average in place of the last weights; both are in every checkpoint.

    The statistics of every step's BatchNorm are averaged as the weights are, so no pass over the data is needed
    at the end. The decay begins small, (1 + n) / (10 + n) after n updates, so that a short run's average is not
    one of random weights.

    Args:
        decay: In (0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(avg_fn=functools.partial(averaged, decay))

    def see(self, trainer: Any, module: Any) -> None:
        """Average the weights after a step inside a batch, which Lightning tells nobody of; once a step."""
        self.on_train_batch_end(trainer, module, None, None, 0)


def averaged(decay: float, average: Tensor, now: Tensor, updates: Tensor | int) -> Tensor:
    """The average after one more update; counters, which are whole numbers, are taken as they are.

    >>> averaged(0.5, torch.tensor(0.0), torch.tensor(1.0), torch.tensor(100))
    tensor(0.5000)
    """
    if not average.is_floating_point():
        return now
    n = torch.as_tensor(updates, device=average.device, dtype=torch.float32)
    keep = torch.clamp((1 + n) / (10 + n), max=decay).to(average.dtype)
    return now + (average - now) * keep
