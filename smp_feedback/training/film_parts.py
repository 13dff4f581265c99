"""Whole films as batches: so many frames at a time, in order, films of one length side by side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate


class Part(NamedTuple):
    """Some frames of films that are gone through side by side.

    Attributes:
        place: How many frames of each went before.
        frames: Of each film, the indices of these frames in their dataset.
    """

    place: int
    frames: tuple[tuple[int, ...], ...]


class FilmParts(Dataset[tuple[Any, ...]]):
    """Batches (images (B, T, C, H, W), targets (B, T, ...), place, indices (B, T)) that go through whole films.

    A batch whose *place* is 0 begins films anew, every other one goes on with those of the batch before it: taken in
    order, nothing else is to be remembered, and no film is in memory as a whole.

    Args:
        dataset: Numbered frames, items (image, target, index).
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

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, Tensor]:
        part = self.parts[index]
        seen = [default_collate([self.dataset[frame] for frame in frames]) for frames in part.frames]
        image, target, indices = (torch.stack(column) for column in zip(*seen, strict=True))
        return image, target, part.place, indices


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
