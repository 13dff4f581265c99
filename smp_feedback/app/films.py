"""Films and a camera in the page: one look a frame, the state carried on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smp_feedback.app.looks import painting
from smp_feedback.app.pictures import regions_of
from smp_feedback.app.served import ServedModel
from smp_feedback.app.uploads import Limits
from smp_feedback.data.films.video import VideoFrames
from smp_feedback.data.films.writing import write_video
from smp_feedback.errors import InvalidInput
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.looking import carries
from smp_feedback.plotting.legend import Entry, as_picture, covered
from smp_feedback.plotting.overlay import RGB
from smp_feedback.training.film_answers import Answered, FilmAnswers

FRAMES = 1000  # of a film, at most: a page that answers for hours answers nobody else


class AnsweredFilm(NamedTuple):
    """A film that was answered.

    Attributes:
        path: Of the film with its answers drawn over it.
        said: What was done, in words.
    """

    path: Path
    said: str


def no_films(found: ServedModel) -> str | None:
    """Why films and a camera are not for this model; None if they are."""
    model = found.model
    if found.config.channels != 3:
        return f"Films and camera: frames have 3 channels, and the model reads {found.config.channels}."
    if carries(model):
        return None
    if not isinstance(model, FeedbackModel):
        return "Films and camera: a model without feedback carries nothing from frame to frame."
    dynamics = getattr(model.loop_config, "dynamics", None)
    what = f"the {model.loop_config.loop} loop" if dynamics is None else f"the dynamics {dynamics}"
    return f"Films and camera: {what} of this model carries no state from frame to frame, so it has nothing to show."


def answers_of(found: ServedModel) -> FilmAnswers:
    """What answers frames, as ``predict --video`` does."""
    return FilmAnswers(found.model, size=found.size, device=found.device)


def answer_film(
    found: ServedModel, path: Path, out: Path, limits: Limits, advance: Callable[[int, int | None], None] | None = None
) -> AnsweredFilm:
    """Answer the film at *path*, frame by frame, and write it to *out* with its answers drawn over it.

    Args:
        found: A model that carries its state.
        path: A video file; of a longer one the first thousand frames are answered.
        out: The film to write, ``.mp4``.
        limits: Of the pixels of a frame.
        advance: Told how many frames are done, and how many there are, as far as that is known.

    Raises:
        InvalidInput: If it is no video, or the model cannot take its frames.
    """
    film = VideoFrames(path)
    limits.check_pixels(path, film.size)
    count = 0

    def painted() -> Iterator[Tensor]:
        nonlocal count
        for one in answers_of(found).answers(islice(film, FRAMES)):
            yield torch.from_numpy(over(found, one)).permute(2, 0, 1)
            count += 1
            found.check_going_on()
            if advance is not None:
                advance(count, film.length)

    with found.working():
        write_video(out, painted(), film.fps, times=film.times, pixel=film.pixel)
    said = f"{count} frame{'s' * (count != 1)}, one look a frame"
    rest = (
        f"; this page answers no more of the film's {film.length or 'frames'}" if count == FRAMES != film.length else ""
    )
    return AnsweredFilm(out, f"{said}{rest}.")


def painted_classes(found: ServedModel) -> list[Entry]:
    """The classes that are painted, and their colours."""
    classes, colours, background = painting(found)
    return [(name, colours[k]) for k, name in enumerate(classes) if k != background]


def over(found: ServedModel, one: Answered) -> RGB:
    """The answer over its frame."""
    _, colours, background = painting(found)
    return covered(as_picture(one.frame), regions_of(one.labels.numpy(), colours, background))


class Stream:
    """Frames that come one by one, such as those of a camera; the state lives here, and no frame is kept.

    Args:
        found: A model that carries its state.

    >>> import smp_feedback as smpf
    >>> from smp_feedback.app.served import served
    >>> stream = Stream(served(smpf.create("PlainConv", classes=2, feedback="film")))
    >>> [stream.look(np.zeros((16, 24, 3), np.uint8)).shape for _ in range(2)], stream.frames
    ([(16, 24, 3), (16, 24, 3)], 2)
    """

    def __init__(self, found: ServedModel) -> None:
        self.found = found
        self._begin()

    def _begin(self) -> None:
        self.frames = 0
        self._waiting: deque[Tensor] = deque()
        self._answers = answers_of(self.found).answers(self._coming())

    def _coming(self) -> Iterator[Tensor]:
        while True:
            yield self._waiting.popleft()

    def look(self, frame: RGB) -> RGB:
        """The answer over the next *frame* (H, W, 3), bytes.

        Raises:
            InvalidInput: If it has another size than those before, or the model cannot take it.
        """
        with self.found.working():
            self._waiting.append(torch.from_numpy(np.array(frame)).permute(2, 0, 1))
            one = next(self._answers, None)
            if one is None:  # an error before has ended it
                raise InvalidInput("The stream has ended: begin anew.")
            self.frames += 1
        return over(self.found, one)

    def reset(self) -> None:
        """As if there had been no frame; one that is being looked at is looked at first."""
        with self.found.working():
            self._begin()
