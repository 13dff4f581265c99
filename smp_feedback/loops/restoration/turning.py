"""One pass of the restoration loop as a turn: of one image again, or of the next frame of films."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from smp_feedback.config.restoration import Restoration
from smp_feedback.loops.beginnings import Beginnings
from smp_feedback.loops.recurrent.streams import joined
from smp_feedback.loops.restoration.state import Memory, Pass, RestorationFeedback
from smp_feedback.loops.unroll import Turned
from smp_feedback.restorers.base import Restored, class_feedback

Begun = tuple[Tensor, ...]
"""What no feedback reaches of an image, as the restorer gives it."""
Passed = Callable[[Memory | None, Tensor | None], Pass]
"""A pass over an image, with what is known of those before it and how many there were (B,); None of a first one."""


@dataclass(frozen=True)
class PassTurn:
    """A turn of streams that are all at their first pass, or all beyond it.

    Args:
        passed: What a pass over their image gives.
        feedback: The loop's.
        had: How many passes each stream has had before a step (B,); None where nobody asks.
        counts: Whether turns say how many passes that makes; a call that goes on from another counts by itself.
        among_others: Whether there are streams beyond their first pass in the batch: a first one is told apart by a
            change of zeros from scores of zero, where alone it has none.
    """

    passed: Passed
    feedback: RestorationFeedback
    had: Callable[[int], Tensor] | None = None
    counts: bool = False
    among_others: bool = False

    settled = False

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """Restore and segment; without a *state* it is a first pass."""
        had = None if self.had is None else self.had(t)
        looks = had + 1 if self.counts and had is not None else None
        if state is None:
            made = self.passed(None, None)
            return turned(self._filled(made) if self.among_others else made, made.logits, looks)
        memory = self.feedback.memory_of(state)
        made = self.passed(memory, had)
        return turned(made._replace(before=memory.last), memory.last, looks)

    def _filled(self, made: Pass) -> Pass:
        nothing = torch.zeros_like(made.logits)
        return made._replace(before=nothing, change=nothing if self.feedback.config.weight else None)


@dataclass(frozen=True)
class PassesApart:
    """A turn of streams of which some may be at their first pass: those are turned on their own.

    Args:
        make: The turn of the streams at these places, of all if None; and whether there are others.
        began: When each began; asks the device, once.
    """

    make: Callable[[Tensor | None], PassTurn]
    began: Beginnings

    settled = False

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """Turn both kinds, and put them back in their places."""
        assert state is not None
        ages = self.began.by_row(t, 1)
        if len(ages) == 1:
            (age,) = ages
            return self.make(None)(state if age else None, t)
        groups = [torch.tensor(places, device=state.device) for places in ages.values()]
        parts = [self.make(places)(state[places] if age else None, t) for places, age in zip(groups, ages, strict=True)]
        return joined(parts, torch.cat(groups).argsort())


def turned(made: Pass, before: Tensor, looks: Tensor | None = None) -> Turned:
    """A pass as a turn gives it, *before* being the scores before it."""
    known = [made.logits, before, made.restored, *(() if made.mean is None else (made.mean,))]
    return Turned(torch.cat(known, 1), made.labels, made, looks)


def running_mean(restored: Restored, mean: Tensor, had: Tensor, lowest: float | None) -> Tensor:
    """The mean (B, C, H, W) of so many images as there were *had* (B,), and of one more.

    ``m_t = z_t + keep (m_{t-1} - z_t)``, where ``keep`` is ``t / (t + 1)`` of a plain mean, at most ``1 - lowest``; or,
    of a restorer that says how much shall stay, that share of it.

    >>> restored, had = Restored(torch.full((1, 1, 1, 1), 4.0)), torch.tensor([2])
    >>> [running_mean(restored, torch.tensor(1.0), had, lowest).item() for lowest in (0.1, 0.5)]
    [2.0, 2.5]
    """
    image = restored.image
    count = had.to(image.dtype)[:, None, None, None]
    share = count / (count + 1)
    if lowest is not None:
        keep = share.clamp(max=1 - lowest)
    else:
        assert restored.keep is not None
        keep = share * restored.keep
    return image + keep * (mean - image)


def class_feedback_of(config: Restoration, change: Tensor | None, *restored: Tensor) -> Tensor | None:
    """:func:`class_feedback` with the config's sign; None of no change."""
    return None if change is None else class_feedback(change, *restored, absolute=config.absolute)
