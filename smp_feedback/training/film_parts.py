"""Whole films as batches: so many frames at a time, in order, films of one length side by side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from smp_feedback.loops.steps import Step


class Part(NamedTuple):
    """Some frames of films that are gone through side by side.

    Attributes:
        place: How many frames of each went before.
        frames: Of each film, the indices of these frames in their dataset.
    """

    place: int
    frames: tuple[tuple[int, ...], ...]


class Ongoing:
    """Films that are gone through side by side, part by part: their batches hand it on, each model its own.

    Attributes:
        place: How many frames of each have been looked at.
        step: The last look at them, from which the next goes on; None before the first, and where nothing is carried.
    """

    def __init__(self) -> None:
        self.place = 0
        self.step: Step | None = None


class FilmLoader(DataLoader[tuple[Any, ...]]):
    """Loads `FilmParts`; in place of their *place*, the batches of the same films have one `Ongoing`.

    >>> frames = [(torch.zeros(3, 4, 4), torch.zeros(4, 4), i) for i in range(5)]
    >>> loader = FilmLoader(FilmParts(frames, [(0, 1, 2), (3, 4)], frames=2, films_at_once=8), collate_fn=only)
    >>> first, second, third = (ongoing_in(batch) for batch in loader)
    >>> first is second, second is third
    (False, True)
    """

    def __iter__(self) -> Any:
        ongoing = Ongoing()
        for *parts, place, indices in super().__iter__():
            ongoing = ongoing if place else Ongoing()
            yield *parts, ongoing, indices


def ongoing_in(batch: Any) -> Ongoing:
    """Those that *batch* goes on with; others that begin, where it does not say."""
    parts = batch if isinstance(batch, (tuple, list)) else ()
    return next((part for part in parts if isinstance(part, Ongoing)), None) or Ongoing()


class FilmParts(Dataset[tuple[Any, ...]]):
    """Batches (images (B, T, C, H, W), targets (B, T, ...), place, indices (B, T)) that go through whole films.

    Of frames with more parts, such as triplets, each part so, before place and indices.

    A batch whose *place* is 0 begins films anew, every other one goes on with those of the batch before it: taken in
    order, no film is in memory as a whole. See `FilmLoader`.

    Args:
        dataset: Numbered frames, items (image, target, index), or with more parts.
        films: Of each film the indices of its frames.
        frames: T, at most.
        films_at_once: B, at most: films of one length.

    >>> frames = [(torch.zeros(3, 4, 4), torch.zeros(4, 4), i) for i in range(6)]
    >>> parts = FilmParts(frames, [(0, 1, 2), (3, 4, 5)], frames=2, films_at_once=8)
    >>> [(images.shape[:2], place, indices.tolist()) for images, _, place, indices in parts]
    [(torch.Size([2, 2]), 0, [[0, 1], [3, 4]]), (torch.Size([2, 1]), 2, [[2], [5]])]
    """

    def __init__(self, dataset: Any, films: Sequence[Sequence[int]], frames: int, films_at_once: int) -> None:
        self.dataset = dataset
        self.parts = [part for group in alongside(films, films_at_once) for part in cut(group, frames)]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        part = self.parts[index]
        seen = [default_collate([self.dataset[frame] for frame in frames]) for frames in part.frames]
        *parts, indices = (torch.stack(column) for column in zip(*seen, strict=True))
        return *parts, part.place, indices


def only(parts: Sequence[Any]) -> Any:
    """The one part that there is: a batch already.

    >>> only(["a part"])
    'a part'
    """
    (part,) = parts
    return part


def alongside(films: Sequence[Sequence[int]], most: int) -> list[list[Sequence[int]]]:
    """*films* of one length together, *most* at once.

    >>> alongside(["ab", "c", "de", "fg"], 2)
    [['c'], ['ab', 'de'], ['fg']]
    """
    groups = [list(group) for _, group in itertools.groupby(sorted(films, key=len), key=len)]
    return [group[at : at + most] for group in groups for at in range(0, len(group), most)]


def cut(films: Sequence[Sequence[int]], frames: int) -> list[Part]:
    """The parts, of so many *frames* each, of films of one length."""
    length = len(films[0])
    return [Part(t, tuple(tuple(film[t : t + frames]) for film in films)) for t in range(0, length, frames)]
