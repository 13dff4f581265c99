"""A rule by which the state answers a correction: ``h' = f(h, e, t)``, in the abstract."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import FeedbackError, InvalidValue

Rule = Callable[[Tensor, Tensor, int], Tensor]


class Dynamics(nn.Module):
    """A rule by which the state answers. Subclass, and ``register_dynamics`` it.

    Args:
        channels: Channels of the state, S + K.
        config: The loop's config.
    """

    starts_from_output: ClassVar[bool] = False
    """Whether h_1 is the base model's output itself instead of the answer to the first correction."""
    knows_the_end: ClassVar[bool] = False
    """Whether the rule depends on how many steps there are: a longer loop is then no continuation of a shorter."""
    carries: ClassVar[bool] = False
    """Whether the rule answers alike at every step, so that a state may be carried on from one call to the next."""

    def __init__(self, channels: int, config: Recurrent) -> None:
        super().__init__()
        self.channels, self.config = channels, config

    @classmethod
    def check(cls, config: Recurrent) -> None:
        """Refuse settings under which this rule makes no sense; called when the config is born."""
        if config.steps == "auto" and math.isinf(config.tau):
            raise InvalidValue("steps='auto': without decay (tau=inf) no correction is negligible; give a number.")
        bounded_norm = "layer" if config.output == "dirichlet" else "instance"  # evidence without its level says little
        for field, loose, bounded in (("norm_error", "none", bounded_norm), ("basis", "free", "orthogonal")):
            if config.steps == "auto" and getattr(config, field) == loose:
                raise InvalidValue(
                    f"steps='auto': with {field}={loose!r} no correction has a size known beforehand; give a number, "
                    f"or {field}={bounded!r}."
                )

    def begin(self, steps: int) -> Rule:
        """The rule for a loop of *steps* steps, with all that does not depend on the step done once."""
        raise FeedbackError(f"{type(self).__name__} defines no begin(steps) -> rule(state, correction, t).")

    def size(self, t: int, steps: int) -> float:
        """The most that step *t* of *steps* can add to rms(h), for corrections of rms 1."""
        return self.tail(t) - self.tail(t + 1)

    def tail(self, t: int) -> float:
        """The most that all corrections from step *t* on can add to rms(h)."""
        raise FeedbackError(f"{type(self).__name__} defines no tail(t), which steps='auto' needs.")

    def auto_steps(self, tolerance: float) -> int:
        """The smallest T >= 1 with ``tail(T) < tolerance``."""
        steps = 1
        while self.tail(steps) >= tolerance:
            steps += 1
            if steps > 10_000:
                raise FeedbackError(f"steps='auto': no T <= 10000 makes the rest smaller than {tolerance}.")
        return steps
