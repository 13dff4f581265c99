"""A model on films, frame by frame: one pass, any length, nothing copied from the device before the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_whole
from smp_feedback.data.feeding import feeding
from smp_feedback.data.items import inherited
from smp_feedback.data.wrapped import say_outside
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.asking import as_shown, device_of
from smp_feedback.evaluation.films.counts import FilmTally
from smp_feedback.evaluation.films.joined import JoinedFilms
from smp_feedback.evaluation.films.order import FilmIndex, FrameBatch, films_in, frames_of, side_by_side
from smp_feedback.evaluation.films.predictors import FrameStack, Predictor, as_predictor
from smp_feedback.evaluation.films.scores import FilmScores
from smp_feedback.evaluation.one_pass import Advance
from smp_feedback.models.builder import check_reads_logits
from smp_feedback.ops.reading import SEGMENTATION
from smp_feedback.surgery.extension import evaluating


def evaluate_films(
    model: nn.Module | Predictor,
    data: Any,
    *,
    classes: int,
    ignore_index: int | None = None,
    reset: Any = None,
    batch_size: int = 8,
    workers: int = 0,
    advance: Advance = lambda: None,
) -> FilmScores:
    """Score *model* on the films of *data*, one answer a frame.

    Args:
        model: A looping model whose state can be carried on has one look a frame; any other sees each frame on its own.
            Or a predictor, such as :class:`Averaged` or :class:`FrameStack`. Evaluated where its weights are; every
            module's mode is left as it was.
        data: Map-style pairs of a frame and its mask, with ``films``: the places of each film's frames, in order. It
            may say ``cuts``, the frames of each film with which another scene begins, and ``hidden(i)``, the object
            pixels of item i that an occluder hides (H, W). Also behind wrappers such as ``Corrupted``.
        classes: Number of classes, >= 2; one channel of logits stands for two.
        ignore_index: Label that is not scored, such as that of all pixels of a frame without a mask.
        reset: ``auto``, or the change of the state above which a frame begins anew: see ``look``.
        batch_size: Films of one length that are shown side by side; memory grows with it, and with nothing else.
        workers: Processes that load data.
        advance: Called after each frame of films side by side (progress bars).

    Raises:
        InvalidValue, InvalidType: If an argument is out of its range, before any work.
        InvalidInput: If *data* says nothing of films, answers and masks do not fit, films side by side are of several
            sizes, or a label is neither a class nor ignored.

    Warns:
        DataWarning: If frames are in no film: they are not scored.

    >>> class Frames(list):
    ...     films = (range(3),)
    >>> frames = Frames((torch.full((2, 1, 1), float(t % 2)), torch.tensor([[0]])) for t in range(3))
    >>> says = nn.Conv2d(2, 2, 1)
    >>> _ = says.load_state_dict({"weight": torch.tensor([[-2.0, 0], [0, 0]]).view(2, 2, 1, 1), "bias": torch.ones(2)})
    >>> scores = evaluate_films(says, frames, classes=2)  # 0, 1, 0 where all is 0
    >>> scores.by_frame, scores.flicker
    ((1.0, 0.0, 1.0), 1.0)
    """
    films = check_films(data, classes)
    predictor = as_predictor(model, reset)
    check_reads_logits(predictor.model, "evaluate_films")
    if not isinstance(data, JoinedFilms):  # which leaves out what it is told to
        say_outside(data, films.places, "not scored")
    tally = FilmTally(films, classes, ignore_index, device_of(predictor.model))
    stacked = predictor.frames if isinstance(predictor, FrameStack) else 1
    with torch.inference_mode():
        for frame, shown in shown_to(predictor.model, data, films, batch_size, workers, stacked):
            if frame.place == 0:
                predictor.begin()
            tally.add(predictor.see(shown), frame)
            advance()
    return tally.scores()


def shown_to(
    model: nn.Module, data: Any, films: FilmIndex, batch_size: int, workers: int, stacked: int = 1
) -> Iterator[tuple[FrameBatch, Tensor]]:
    """Every frame of *films*, and its image as *model* is shown it, which evaluates meanwhile.

    Where so many frames are *stacked* as the channels of one image, a frame is normalised as the last of them.
    """
    feed = feeding(model, data)
    with evaluating(model):
        for frame in frames_of(data, films, batch_size, workers):
            stack = torch.cat([frame.image] * stacked, 1) if stacked > 1 else frame.image
            yield frame, as_shown(model, feed, stack)[:, -frame.image.shape[1] :]


def check_films(data: Any, classes: int) -> FilmIndex:
    """The films of *data*, to be scored with *classes* classes.

    Raises:
        InvalidValue, InvalidType: If there are fewer than two classes, or its targets are no masks of labels.
        InvalidInput: If *data* says nothing of films.
    """
    if (task := inherited(data, "task") or SEGMENTATION) != SEGMENTATION:
        raise InvalidValue(f"data is for {task!r}: films are scored by masks of labels, task='segmentation'.")
    if check_whole("classes", classes) < 2:
        raise InvalidValue("classes=1: expected >= 2; a mask of one class has two, background and foreground.")
    return films_in(data)


def count_frames(data: Any, batch_size: int = 8) -> int:
    """How often :func:`evaluate_films` calls *advance*: frames of films side by side.

    >>> class Frames(list):
    ...     films = (range(3), range(3, 6), range(6, 8))
    >>> count_frames(Frames(range(8)), batch_size=2)
    5
    """
    lengths = [len(film) for film in films_in(data).places]
    return sum(lengths[group[0]] for group in side_by_side(lengths, batch_size))
