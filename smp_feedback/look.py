"""What a base model may know while it looks: the step, and what is fed back.

A convolution deep inside an encoder needs the feedback, a BatchNorm the number of the step, and neither is
called by us. As with ``torch.autocast`` and ``no_grad``, they read it from their surroundings: a value of
this thread, set for the length of one call and never stored on a module. So two threads, two batches and two
interleaved loops do not meet, and outside a loop the base model is exactly itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple

from torch import Tensor, nn


class Look(NamedTuple):
    """One look at the image.

    Attributes:
        t: The step, from 0.
        feedback: What is fed back (B, K, H, W).
        readers: The convolutions that read the feedback, one beside each that reads the image.
        statistics: BatchNorm's running statistics of the later steps, one per BatchNorm.
        seen: What the image's own convolutions answered in an earlier step of this loop, by reader; None
            when it may not be kept (a graph is being built).
    """

    t: int
    feedback: Tensor
    readers: Sequence[nn.Module] | nn.ModuleList
    statistics: Sequence[nn.Module] | nn.ModuleList
    seen: dict[int, Tensor] | None = None

    def once(self, key: int, compute: Callable[[], Tensor]) -> Tensor:
        """What *compute* gives, computed once in a loop where that is allowed."""
        if self.seen is None:
            return compute()
        if key not in self.seen:
            self.seen[key] = compute()
        return self.seen[key]


class _Surroundings(threading.local):
    look: Look | None = None
    replay: bool = False


_here = _Surroundings()


def current_look() -> Look | None:
    """The look being taken in this thread, if any."""
    return _here.look


def is_replay() -> bool:
    """Whether a step is being recomputed for the backward pass: nothing may be counted twice."""
    return _here.replay


class looking:  # noqa: N801  (reads as a phrase: with looking(...))
    """Context: the base model, called inside, takes this look."""

    def __init__(self, look: Look) -> None:
        self.look = look

    def __enter__(self) -> None:
        self.before, _here.look = _here.look, self.look

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _here.look = self.before


class replaying:  # noqa: N801
    """Context: whatever runs inside has run before."""

    def __enter__(self) -> None:
        self.before, _here.replay = _here.replay, True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _here.replay = self.before
