"""What a base model may know in a step: what is fed back, and what belongs to the step.

A convolution deep inside an encoder needs the feedback, a BatchNorm the statistics of the step, and neither
is called by us. As with ``torch.autocast`` and ``no_grad``, they read it from their surroundings: a value of
this thread, set for the length of one call and never stored on a module. So two threads, two batches and two
interleaved loops do not meet, and outside a loop the base model is exactly itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor, nn

Buffers = Mapping[str, Tensor | None]
"""Those of one BatchNorm in one step, by name."""

T = TypeVar("T")


class Once(NamedTuple):
    """What is computed once per image, because no feedback reaches it. Every tensor is (B, ...).

    Attributes:
        heard: What the convolutions that read the feedback answer to the rest of their input, by reader;
            empty where it may not be kept.
        stages: What came out of the encoder before the place where the feedback enters.
        image: What it was computed of: whoever is handed something else in a look (a hook's, say) computes it anew.
        kept: What else of the base gives the same in every look, by number; None where it has to run.
    """

    heard: tuple[Tensor, ...] = ()
    stages: tuple[Tensor, ...] = ()
    image: Tensor | None = None
    kept: tuple[Tensor | None, ...] = ()

    @property
    def read(self) -> Tensor | None:
        """What the convolutions were asked about that answered *heard*."""
        return self.stages[-1] if self.stages else self.image

    def shared(self, image: Tensor, share: Callable[[Sequence[Tensor]], list[Tensor]]) -> tuple[Tensor, Once]:
        """What *share* gives in place of *image* and of all that was computed, but for what is *heard*."""
        made = [x for x in self.kept if x is not None]
        image, *rest = share([image, *self.stages, *made])
        stages, others = tuple(rest[: len(self.stages)]), iter(rest[len(self.stages) :])
        return image, self._replace(stages=stages, kept=tuple(None if x is None else next(others) for x in self.kept))


class StepContext(NamedTuple):
    """What belongs to one step.

    Attributes:
        feedback: What is fed back (B, K, h, w), on the grid on which it is read.
        readers: What reads it, one module for each place.
        statistics: Running statistics of this step, by BatchNorm; empty means everyone's own.
        once: What was computed before the first step.
    """

    feedback: Tensor
    readers: Sequence[nn.Module] | nn.ModuleList
    statistics: Sequence[Buffers] = ()
    once: Once = Once()


class _Surroundings(threading.local):
    step: StepContext | None = None
    recomputing: bool = False
    answers: list[Tensor] | None = None
    features: dict[str, Any] | None = None


_here = _Surroundings()


class _Set(Generic[T]):
    """Context: in this thread *name* is *value*. No generator, which torch.compile would not take whole."""

    def __init__(self, name: str, value: T) -> None:
        self.name, self.value = name, value

    def __enter__(self) -> T:
        self.before = getattr(_here, self.name)
        setattr(_here, self.name, self.value)
        return self.value

    def __exit__(self, *error: object) -> None:
        setattr(_here, self.name, self.before)


def in_step(step: StepContext) -> _Set[StepContext]:
    """Context: the base model, called inside, takes this step."""
    return _Set("step", step)


def current_step() -> StepContext | None:
    """The step being taken in this thread, if any."""
    return _here.step


def recomputing() -> _Set[bool]:
    """Context: whatever runs inside has run before."""
    return _Set("recomputing", True)


def is_recomputing() -> bool:
    """Whether a step is being recomputed for the backward pass: nothing may be counted twice."""
    return _here.recomputing


def collecting_answers() -> _Set[list[Tensor]]:
    """Context: convolutions that read the feedback, called inside, give what they answer to the rest of their input.

    What they return will not do: whoever hooks or wraps them adds to that, and does so again in every step.
    """
    return _Set("answers", [])


def collect_answer(answer: Tensor) -> None:
    """Give *answer* to whoever collects in this thread."""
    if _here.answers is not None:
        _here.answers.append(answer)


def capturing_features() -> _Set[dict[str, Any]]:
    """Context: modules that are captured, called inside, leave what they gave last, by name."""
    return _Set("features", {})


def capture_feature(name: str, gave: Any) -> None:
    """Leave what the module *name* gave to whoever captures features in this thread."""
    if _here.features is not None:
        _here.features[name] = gave
