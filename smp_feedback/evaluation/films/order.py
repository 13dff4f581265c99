"""Which frames of a dataset are a film, in which order they are shown, and several films side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.checks import check_whole
from smp_feedback.data.batch import image_of, read_target, target_of
from smp_feedback.data.items import check_map_style, source
from smp_feedback.data.wrapped import check_frames, films_of
from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation.batches import batches_of

Hidden = Callable[[int], Tensor]


class FilmIndex(NamedTuple):
    """What a dataset of frames says of its films.

    Attributes:
        places: The places of each film's frames, in order.
        cuts: The frames of each film, counted from its first, with which another scene begins.
        hidden: Of a frame's place, the pixels of objects that an occluder hides (H, W), bool; None if nobody tells.
    """

    places: tuple[tuple[int, ...], ...]
    cuts: tuple[tuple[int, ...], ...]
    hidden: Hidden | None = None


def films_in(data: Any) -> FilmIndex:
    """The films of *data*, also behind wrappers that keep it as ``.dataset``, and behind ``Subset``.

    Raises:
        InvalidInput: If it says nothing of films, or a film has no frame, or one that is no item.

    >>> class Frames(list):
    ...     films, cuts = (range(0, 3), range(3, 5)), (2,)
    >>> films_in(torch.utils.data.Subset(Frames("abcde"), [1, 2, 4]))
    FilmIndex(places=((0, 1), (2,)), cuts=((1,), ()), hidden=None)
    """
    check_map_style(data, "data")
    films = films_of(data)
    if films is None:
        raise InvalidInput(
            f"{type(data).__name__} does not say which frames are a film: expected a dataset with `films`, such as "
            "`moving`, or a folder opened with films=, and its frames as (image, mask)."
        )
    places = tuple(tuple(int(place) for place in film) for film in films)
    if not places or not all(places):
        raise InvalidInput(f"films of {type(data).__name__}: expected at least one, each with at least one frame.")
    check_frames(data, places)
    is_cut = _Cuts(data)
    cuts = tuple(tuple(t for t, place in enumerate(film) if t and is_cut(place)) for film in places)
    return FilmIndex(places, cuts, _hidden(data, places[0][0]))


class _Cuts:
    """Whether a cut is at a place, each dataset of those that are put together being asked once."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.said: dict[int, frozenset[int]] = {}

    def __call__(self, place: int) -> bool:
        said, there = source(self.data, place, "cuts")
        if id(said) not in self.said:
            self.said[id(said)] = frozenset(getattr(said, "cuts", ()))
        return there in self.said[id(said)]


def _hidden(data: Any, first: int) -> Hidden | None:
    """What tells which pixels are hidden, if anybody does; asked of the frame *first*."""

    def hidden(place: int) -> Tensor:
        told, there = source(data, place, "hidden")
        found: Tensor = told.hidden(there)
        return found

    try:
        hidden(first)
    except (AttributeError, InvalidInput):  # of a wrapped dataset that does not say, or of augmented frames
        return None
    return hidden


class FrameBatch(NamedTuple):
    """One frame of each of several films.

    Attributes:
        image: (B, C, H, W), as the dataset has it.
        target: Labels (B, H, W), int64.
        hidden: Object pixels that an occluder hides (B, H, W), bool; None if nobody tells.
        place: Which frame of its film it is; with 0 other films begin.
        films: The films' numbers, B of them.
    """

    image: Tensor
    target: Tensor
    hidden: Tensor | None
    place: int
    films: tuple[int, ...]


def frames_of(data: Any, films: FilmIndex, batch_size: int = 8, workers: int = 0) -> Iterator[FrameBatch]:
    """Every frame of every film, in order; up to *batch_size* films of one length side by side.

    Args:
        data: Map-style pairs of image and mask.
        films: As :func:`films_in` gives them.
        batch_size: Films at a time.
        workers: Processes that load data.

    Raises:
        InvalidInput: If films side by side are of several sizes, naming two frames; a mask holds no whole numbers.
    """
    check_whole("batch_size", batch_size)
    groups = side_by_side([len(film) for film in films.places], batch_size)
    order = [(t, group) for group in groups for t in range(len(films.places[group[0]]))]
    places = [[films.places[film][t] for film in group] for t, group in order]
    loaded = batches_of(_Frames(data, films.hidden), places, workers)
    for (t, group), (image, target, hidden) in zip(order, loaded, strict=True):
        yield FrameBatch(image, read_target(target), hidden if films.hidden else None, t, group)


def side_by_side(lengths: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """Films of one length together, at most *most* of them.

    >>> side_by_side([8, 5, 8, 8, 5], most=2)
    [(0, 2), (3,), (1, 4)]
    """
    alike: dict[int, list[int]] = {}
    for film, length in enumerate(lengths):
        alike.setdefault(length, []).append(film)
    return [tuple(found[i : i + most]) for found in alike.values() for i in range(0, len(found), most)]


class _Frames(Dataset[tuple[Any, Any, Any]]):
    """Image, mask and what is hidden, as one item, so that workers load all three."""

    def __init__(self, dataset: Any, hidden: Hidden | None) -> None:
        self.dataset, self.hidden_at = dataset, hidden

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        item = self.dataset[index]
        hidden = torch.zeros(0, dtype=torch.bool) if self.hidden_at is None else self.hidden_at(index)
        return image_of(item), target_of(item), hidden
