"""What is said of a film that is answered: how it is, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter

from smp_feedback.errors import InvalidValue
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.training.film_answers import Answered, FilmAnswers
from smp_feedback.training.film_masks import FilmMasks


def about(answers: FilmAnswers) -> str:
    """How frames are answered, in a line; in which precision, where that is not the model's own."""
    said = _way(answers)
    return said if answers.precision is None else f"{said}, in {answers.precision}"


def _way(answers: FilmAnswers) -> str:
    if answers.carries:
        cuts = "never begins anew" if answers.reset is None else f"begins anew at cuts (reset={answers.reset})"
        return f"one look a frame: the state goes on, and {cuts}"
    model = answers.model
    if not isinstance(model, FeedbackModel):
        return f"frame by frame: a plain {type(model).__name__} keeps no state"
    dynamics = getattr(model.loop_config, "dynamics", None)
    which = f"feedback={model.loop_config.loop}" if dynamics is None else f"dynamics={dynamics}"
    return f"frame by frame: {which} carries no state from one image to the next, as feedback=film does"


@dataclass
class FilmSummary:
    """What went by: said when it has."""

    answers: FilmAnswers
    frames: int = 0
    begun: int = 0
    model_seconds: float = 0.0
    seconds: float = 0.0
    last: Answered | None = None

    def counted(
        self, seen: Iterable[Answered], masks: FilmMasks | None, advance: Callable[[], None]
    ) -> Iterator[Answered]:
        """The same, each counted, and its mask written."""
        start = perf_counter()
        for one in seen:
            if masks is not None:
                masks.write(self.frames, one.labels, one.channels)
            yield one
            self.frames, self.last = self.frames + 1, one
            self.model_seconds += one.seconds
            self.seconds = perf_counter() - start
            if self.answers.reset is not None and one.step is not None:
                self.begun += int(one.step.looks[0]) == 1
            advance()

    def lines(self) -> Iterator[str]:
        """Frames a second, and the size of the state.

        Raises:
            InvalidValue: If there was no frame.
        """
        if self.last is None:
            raise InvalidValue("The film has no frame: nothing to answer.")
        each = 1000 * self.model_seconds / self.frames
        pace = f"{self.frames / self.seconds:.1f} frames per second, reading and writing included"
        yield f"{self.frames} frame{'s' * (self.frames != 1)}, {pace}; {each:.1f} ms a frame in the model"
        step = self.last.step
        if step is not None:
            size = step.state.numel() * step.state.element_size() / 1e6
            yield f"state: {' x '.join(map(str, step.state.shape))}, {size:.3g} MB, however long the film"
        if self.begun > 1:
            yield f"began anew at {self.begun - 1} cut{'s' * (self.begun > 2)}"
