"""A rule by which the state answers a correction: ``h' = f(h, e, t)``, in the abstract."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.dynamics.states import check_state_class, over_one, over_several, unpacked
from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.ops.precision import SinglePrecision

Rule = Callable[[Tensor, Tensor, int], Tensor]
"""The next state of a state (B, S + K, h, w), a correction of that shape, and the look t, counted from 0."""


class Dynamics(SinglePrecision):
    """A rule by which the state answers. Subclass, and ``register_dynamics`` it.

    Its weights stay in float32, or better, as the state does. A state of several maps, such as an LSTM's, is a
    ``NamedTuple`` of them, named as ``state_class``; what the loop carries, saves and resizes is one tensor of all.

    Args:
        channels: Channels of the state, S + K; of several maps, those of the first.
        config: The loop's config.

    Attributes:
        options: Its own settings, an ``options_class``; None where it has none.
    """

    starts_from_output: ClassVar[bool] = False
    """Whether h_1 is the base model's output itself instead of the answer to the first correction."""
    knows_the_end: ClassVar[bool] = False
    """Whether the rule depends on how many steps there are: a longer loop is then no continuation of a shorter."""
    carries: ClassVar[bool] = False
    """Whether the rule answers alike at every step, so that a state may be carried on from one call to the next."""

    brought = ""
    """Who brought it, as an error says it behind its name; set by the model that it is of."""

    options_class: ClassVar[type | None] = None
    """A dataclass of settings of its own, said in a config under ``options={"dynamics": {...}}``."""
    state_class: ClassVar[type[tuple[Any, ...]] | None] = None
    """A ``NamedTuple`` with a field for each map of the state, the first of which the head reads; None is one map."""

    def __init__(self, channels: int, config: Recurrent) -> None:
        super().__init__()
        self.channels, self.config = channels, config
        self.options: Any = config.options_of("dynamics")

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

    def widths(self) -> tuple[int, ...]:
        """The channels of each map of the state: all of the first's, unless the class says otherwise."""
        return (self.channels,) * len(getattr(self.state_class, "_fields", (None,)))

    @property
    def width(self) -> int:
        """The channels of the state that a loop carries: those of all its maps."""
        return sum(self.widths())

    def maps(self, state: Tensor) -> Any:
        """What a carried *state* (B, width, h, w), such as ``step.state``, is to the rule: a map, or a named tuple."""
        return state if self.state_class is None else unpacked(state, self.state_class, self.widths())

    def rule(self, steps: int) -> Rule:
        """What :meth:`begin` gives, of the state as one tensor (B, width, h, w), and held to what it is given.

        Raises:
            InvalidType, InvalidValue: If ``state_class`` is no named tuple of maps; when called, if the rule gives
                another shape, dtype or number of maps.
        """
        who = f"dynamics={self.config.dynamics!r} ({type(self).__name__}{self.brought})"
        if self.state_class is None:
            return over_one(self.begin(steps), who)
        check_state_class(self.state_class, widths := self.widths(), self.channels, who)
        return over_several(self.begin(steps), self.state_class, widths, who)

    def begin(self, steps: int) -> Any:
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
