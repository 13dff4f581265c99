"""What a base model may know while it looks: what is fed back, and what belongs to the step.

A convolution deep inside an encoder needs the feedback, a BatchNorm the statistics of the step, and neither
is called by us. As with ``torch.autocast`` and ``no_grad``, they read it from their surroundings: a value of
this thread, set for the length of one call and never stored on a module. So two threads, two batches and two
interleaved loops do not meet, and outside a loop the base model is exactly itself.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from torch import Tensor, nn

Row = Mapping[str, Tensor | None]
"""The buffers of one BatchNorm in one step, by name."""


class Once(NamedTuple):
    """What is computed once per image, because no feedback reaches it. Every tensor is (B, ...).

    Attributes:
        heard: What the convolutions that read the feedback answer to the rest of their input, by reader;
            empty where it may not be kept.
        stages: What came out of the encoder before the place where the feedback enters.
    """

    heard: tuple[Tensor, ...] = ()
    stages: tuple[Tensor, ...] = ()


class Look(NamedTuple):
    """One look at the image.

    Attributes:
        feedback: What is fed back (B, K, h, w), on the grid on which it is read.
        readers: What reads it, one module for each place.
        statistics: Running statistics of this step, by BatchNorm; empty means everyone's own.
        once: What was computed before the first look.
    """

    feedback: Tensor
    readers: Sequence[nn.Module] | nn.ModuleList
    statistics: Sequence[Row] = ()
    once: Once = Once()


class _Surroundings(threading.local):
    look: Look | None = None
    replay: bool = False
    told: list[Tensor] | None = None
    notes: dict[str, Any] | None = None


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


class listening:  # noqa: N801
    """Context: convolutions that read the feedback, called inside, say what they answer to the rest of their input.

    What they return will not do: whoever hooks or wraps them adds to that, and does so again in every look.
    """

    def __enter__(self) -> list[Tensor]:
        answers: list[Tensor] = []
        self.before, _here.told = _here.told, answers
        return answers

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _here.told = self.before


def tell(answer: Tensor) -> None:
    """Say *answer* to whoever is listening in this thread."""
    if _here.told is not None:
        _here.told.append(answer)


class noting:  # noqa: N801
    """Context: modules that are noted, called inside, leave what they gave last, by name."""

    def __enter__(self) -> dict[str, Any]:
        notes: dict[str, Any] = {}
        self.before, _here.notes = _here.notes, notes
        return notes

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _here.notes = self.before


def note(name: str, gave: Any) -> None:
    """Leave what the module *name* gave to whoever takes notes in this thread."""
    if _here.notes is not None:
        _here.notes[name] = gave


class replaying:  # noqa: N801
    """Context: whatever runs inside has run before."""

    def __enter__(self) -> None:
        self.before, _here.replay = _here.replay, True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _here.replay = self.before
