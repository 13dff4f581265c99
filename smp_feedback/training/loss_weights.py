"""Which looks carry the loss, and how much."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from smp_feedback.checks import check_number
from smp_feedback.errors import InvalidType, InvalidValue, did_you_mean, suggestion
from smp_feedback.loops.base import FeedbackModel, Step
from smp_feedback.surgery.extension import looping_in

Supervise = str | Sequence[float]
WAYS = ("last", "mean", "increasing", "drawn")


def looks_of(model: nn.Module) -> int:
    """T, the looks of a call that names none; 1 for a feed-forward model."""
    model = looping_in(model)
    if not isinstance(model, FeedbackModel):
        return 1
    steps = getattr(model.feedback, "steps", None)  # "auto" is worked out there
    looks = int(steps() if callable(steps) else getattr(model.loop_config, "steps"))  # noqa: B009
    return max(1, looks)  # a score loop tuned to no update still answers


def step_weights(supervise: Supervise, steps: int, chosen: int = 0) -> list[float]:
    """The weight of each look's loss; they sum to 1.

    Args:
        supervise: ``last`` (arXiv 2509.15905), ``mean`` (arXiv 2507.10143), ``increasing`` (proportional to t + 1:
            an early look need not be right yet, but is told where to go), ``drawn`` (the look *chosen* alone: on
            average the mean, at the memory of fewer looks), or one number >= 0 a look.
        steps: T.
        chosen: Which of 0 ... T - 1 was drawn.

    Raises:
        InvalidType, InvalidValue: For another word, another count than T, a negative number or a sum of 0.

    >>> step_weights("increasing", 3)
    [0.16666666666666666, 0.3333333333333333, 0.5]
    >>> step_weights([1, 1, 2], 3), step_weights("drawn", 3, chosen=1)
    ([0.25, 0.25, 0.5], [0.0, 1.0, 0.0])
    """
    if isinstance(supervise, str):
        raw = _by_name(supervise, steps, chosen)
    elif isinstance(supervise, (list, tuple)):
        raw = _given(list(supervise), steps)
    else:
        raise InvalidType(f"supervise={supervise!r}: expected one of {', '.join(WAYS)}, or a list of {steps} numbers.")
    return [value / math.fsum(raw) for value in raw]


def weighted(
    weights: Sequence[float], judge: Callable[[Tensor, Tensor, int], Tensor], target: Tensor, first: int = 0
) -> Callable[[Step], Tensor]:
    """A look's share of the loss, as ``backward_per_step`` asks for it; *judge* is given logits, target and look.

    *first* is the look whose weight comes first.
    """
    return lambda step: weights[step.index - first] * judge(step.logits, target, step.index)


def _by_name(name: str, steps: int, chosen: int) -> list[float]:
    looks = range(steps)
    ways = {
        "last": [float(t == steps - 1) for t in looks],
        "mean": [1.0] * steps,
        "increasing": [t + 1.0 for t in looks],
        "drawn": [float(t == chosen) for t in looks],
    }
    if name not in ways:
        close = suggestion(did_you_mean(name, WAYS), list(WAYS))
        raise InvalidValue(f"supervise={name!r}: {close} Or a list of {steps} numbers.")
    return ways[name]


def _given(weights: list[float], steps: int) -> list[float]:
    if len(weights) != steps:
        raise InvalidValue(f"supervise={weights}: expected {steps} numbers, one for each look, not {len(weights)}.")
    for weight in weights:
        check_number("supervise", weight, least=0)
    if not any(weights):
        raise InvalidValue(f"supervise={weights}: expected at least one number > 0.")
    return [float(weight) for weight in weights]
