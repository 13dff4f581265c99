"""How often a batch is looked at, and which of its looks learn: functions of seed, epoch and batch alone.

So all processes of a run draw the same, and a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from torch import nn

from smp_feedback.checks import check_number, check_whole
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.looking import carries
from smp_feedback.loops.recurrent.model import RecurrentModel
from smp_feedback.registry.public import catalogue
from smp_feedback.training.loss_weights import Supervise, looks_of, step_weights
from smp_feedback.training.sampling import LOOKS, derived

LOOP_ONLY = ("steps", "free_steps", "progressive", "segments", "supervise", "backward", "truncate", "feedback_lr")
"""What :class:`FeedbackModule` takes for models that look again, and for no others."""

Span = int | list[int]
"""A whole number, or [low, high]: one of low ... high, each as likely, drawn for each batch."""


class LookPass(NamedTuple):
    """One forward pass of several looks in succession, from the first.

    Attributes:
        weights: How much the loss of each counts.
        call: What the model is told, beside the image: ``steps``, and ``grad_steps`` where not all carry gradient.
        free: Looks without gradient, or frames without loss, that were drawn to go before.
    """

    weights: tuple[float, ...]
    call: dict[str, int]
    free: int = 0

    @property
    def needed(self) -> int:
        """How many there are up to the last that counts.

        >>> LookPass((0, 1, 0), {}).needed
        2
        """
        return 1 + max(t for t, weight in enumerate(self.weights) if weight)

    @property
    def only_last(self) -> bool:
        """Whether no other counts.

        >>> LookPass((0, 0, 1), {}).only_last, LookPass((0, 1, 1), {}).only_last
        (True, False)
        """
        return not any(self.weights[:-1])


@dataclass(frozen=True, kw_only=True)
class Unrolling:
    """How a model that looks again is trained; :class:`FeedbackModule` says what each means.

    Args:
        usual: T, the looks of a call that names none.
        steps: Looks with gradient; None is *usual*.
        free_steps: Looks without gradient before them.
        progressive: The share alpha of the progressive loss; None is none.
        supervise: Which looks with gradient carry the loss.
        segments: Optimiser steps for each batch.
        carrying: The last looks that carry gradient at most, where the loop's config says so (``grad_steps``).
        truncate: Of a clip, frames after which the state is detached; None is never.

    Raises:
        InvalidType, InvalidValue: Naming the argument.

    >>> Unrolling(usual=4, steps=2, free_steps=3).passes(seed=0, epoch=0, batch=0)
    (LookPass(weights=(0.0, 0.0, 0.0, 0.0, 1.0), call={'steps': 5, 'grad_steps': 2}, free=3),)
    """

    usual: int
    steps: Span | None = None
    free_steps: Span = 0
    progressive: float | None = None
    supervise: Supervise = "last"
    segments: int = 1
    carrying: int | None = None
    truncate: int | None = 1

    def __post_init__(self) -> None:
        low, high = self.span
        span("free_steps", self.free_steps, least=0)
        check_whole("segments", self.segments)
        if self.truncate is not None:
            check_whole("truncate", self.truncate, ", or None")
        if not isinstance(self.supervise, str) and low < high:
            raise InvalidValue(
                f"supervise={self.supervise!r}: one number a look, and steps={[low, high]} draws how many there are; "
                "expected last, mean, increasing or drawn."
            )
        step_weights(self.supervise, low)
        if self.progressive is not None:
            self._check_progressive(self.progressive)

    def _check_progressive(self, alpha: float) -> None:
        check_number("progressive", alpha, least=0)
        if alpha > 1:
            raise InvalidValue(f"progressive={alpha!r}: expected a share of the loss, 0 to 1.")
        for name, value, none in (("free_steps", self.free_steps, 0), ("segments", self.segments, 1)):
            if value != none:
                raise InvalidValue(
                    f"progressive={alpha!r} draws looks without gradient of its own, from the first look on: leave out "
                    f"{name}={value!r}."
                )

    @property
    def span(self) -> tuple[int, int]:
        """The fewest and the most looks with gradient."""
        return span("steps", self.usual if self.steps is None else self.steps, least=1)

    @property
    def furthest(self) -> int:
        """The most looks that a batch comes to, those without gradient and of all segments counted.

        >>> Unrolling(usual=9, steps=[2, 4], free_steps=[0, 3]).furthest
        7
        """
        return self.segments * (self.span[1] + span("free_steps", self.free_steps, least=0)[1])

    @property
    def judged(self) -> int:
        """The last look that may carry a loss.

        >>> Unrolling(usual=3, supervise=[1, 1, 0]).judged
        2
        """
        if isinstance(self.supervise, str):
            return self.furthest
        return self.furthest - self.span[1] + max(t + 1 for t, weight in enumerate(self.supervise) if weight)

    def passes(self, seed: int, epoch: int, batch: int, segment: int = 0) -> tuple[LookPass, ...]:
        """What the loss of one batch is summed over, a forward pass each: two with a progressive loss, else one."""
        draw = Random(derived(LOOKS, seed, epoch, batch, segment))
        steps, free = draw.randint(*self.span), draw.randint(*span("free_steps", self.free_steps, least=0))
        weights = step_weights(self.supervise, steps, chosen=draw.randrange(steps))
        if self.progressive is None:
            return (self._looks(weights, free),)
        n = draw.randrange(steps)
        return self._progressive(weights, n, draw.randint(1, steps - n), self.progressive)

    def _progressive(self, weights: list[float], n: int, k: int, alpha: float) -> tuple[LookPass, ...]:
        """``(1 - alpha) L(all) + alpha L(n without gradient, then k with it)`` (arXiv 2202.05826, section 3.2)."""
        every = [(1 - alpha) * weight for weight in weights]
        if n == 0 and alpha < 1:  # the k looks are the first of them all: one pass does for both
            every[k - 1] += alpha
            return (self._looks(every),)
        later = self._looks([0.0] * (k - 1) + [alpha], n)
        return tuple(one for one in (self._looks(every), later) if any(one.weights))

    def _looks(self, weights: list[float], free: int = 0) -> LookPass:
        steps = len(weights)
        if self.steps is None and not free and steps == self.usual:
            return LookPass(tuple(weights), {})
        grad = {"grad_steps": min(steps, self.carrying or steps)} if free else {}
        return LookPass((*[0.0] * free, *weights), {"steps": free + steps, **grad}, free)


def span(name: str, value: Any, *, least: int) -> tuple[int, int]:
    """The fewest and the most that *value* stands for.

    Raises:
        InvalidType, InvalidValue: If it is neither a whole number >= *least* nor two of them, low <= high.

    >>> span("steps", 8, least=1), span("steps", [8, 16], least=1)
    ((8, 8), (8, 16))
    """
    if isinstance(value, int):
        return (check_whole(name, value, ", or [low, high]", least=least),) * 2
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise InvalidType(f"{name}={value!r}: expected a whole number >= {least}, or two, [low, high].")
    low, high = (check_whole(name, one, least=least) for one in value)
    if low > high:
        raise InvalidValue(f"{name}={[low, high]}: expected low <= high.")
    return low, high


def unrolling_of(model: nn.Module, *, supervise: Any, backward: str, **asked: Any) -> Unrolling:
    """How *model* is trained: *asked* are `steps`, `free_steps`, `progressive`, `segments` and `truncate`.

    Raises:
        InvalidType, InvalidValue: As :class:`Unrolling`; for what asks more looks of a model that looks once, carries
            on a state that begins anew with each call, or takes several passes or segments look by look.
    """
    if not isinstance(model, FeedbackModel):
        for name, value in asked.items():
            if value != getattr(Unrolling, name):
                raise InvalidValue(
                    f"{name}={value!r} is for models that look again, and this {type(model).__name__} looks once "
                    "(feedback=false): leave it out."
                )
        return Unrolling(usual=1, supervise=supervise)
    if backward == "per_step":
        model.check_per_step("backward='per_step':")
    carrying = None if backward == "per_step" else model.loop_config.flow.steps
    how = Unrolling(usual=looks_of(model), supervise=supervise, carrying=carrying, **asked)
    for name, one in (("progressive", how.progressive is None), ("segments", how.segments == 1)):
        if backward == "per_step" and not one:
            raise InvalidValue(f"{name}={asked[name]!r} is one backward pass over many looks: use backward='together'.")
    if how.segments > 1 and not carries(model):
        fit = ", ".join(name for name, rule in catalogue().dynamics.items() if rule.carries)
        raise InvalidValue(
            f"segments={how.segments} carries the state from one optimiser step to the next, and this "
            f"{type(model).__name__} begins anew with each call: take feedback.dynamics of {fit}."
        )
    return how


def warn_of_untrained_statistics(model: nn.Module, furthest: int, *, clips: bool = False) -> None:
    """Warn where BatchNorm has running statistics of looks that are scored, and that training never comes to.

    Args:
        model: What is trained.
        furthest: The most looks that a batch comes to; of *clips*, their frames.
        clips: Whether it is trained on clips.
    """
    if not isinstance(model, RecurrentModel) or not len(model.recurrent.statistics):
        return
    first, last = furthest + 1, 1 + model.recurrent.statistics_rows()
    if first <= last:
        more = f"clips of {last} frames" if clips else f"steps={last}"
        which = f"look {last} stay" if first == last else f"looks {first} to {last} stay"
        warnings.warn(
            f"training comes to {furthest} look{'s' * (furthest > 1)} of the loop's {last}, so BatchNorm's "
            f"statistics of {which} untrained: take feedback.statistics='shared', one set for all looks, or "
            f"{more}.",
            UserWarning,
            stacklevel=3,
        )
