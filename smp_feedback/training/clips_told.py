"""What a clip is, in the words of a run: how many there are, of how many films, and what they leave out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smp_feedback.data.films.clips import Clips, windows
from smp_feedback.data.inspection.problems import TRAIN
from smp_feedback.data.wrapped import Films, films_of


def frames_of(dataset: Any) -> Any:
    """The frames that *dataset* takes its clips from; itself, if it has none."""
    return dataset.dataset if isinstance(dataset, Clips) else dataset


def clips_told(datasets: Mapping[str, Any], clip: int | None, stride: int = 1) -> list[str]:
    """A line on the clips and films of *datasets*, by the names of their splits; none of images.

    Frames to train on are said as the clips that are made of them; of `Clips` that are there already, theirs count.

    >>> from smp_feedback.data import MovingShapes
    >>> clips_told({"train": MovingShapes(count=20), "val": MovingShapes("val", count=64)}, clip=8, stride=2)
    ['train: 2 clips of 8 frames, of 3 films of 4 to 8 (1 shorter, left out); val: 2 films of 32, one look a frame']
    >>> clips_told({"train": Clips(MovingShapes(count=16), length=3, every=3)}, clip=3)
    ['train: 4 clips of 3 frames that are 3 apart, of 2 films of 8']
    """
    if clip is None:
        return []
    said = []
    for name, dataset in datasets.items():
        if (films := films_of(frames_of(dataset))) is not None:
            clips = name == TRAIN or isinstance(dataset, Clips)
            said.append(f"{name}: {_clips(films, dataset, clip, stride) if clips else _whole(films)}")
    return ["; ".join(said)] if said else []


def _clips(films: Films, dataset: Any, clip: int, stride: int) -> str:
    every = 1
    if isinstance(dataset, Clips):
        clip, stride, every = dataset.length, dataset.stride, dataset.every
    span = (clip - 1) * every + 1
    short = sum(len(film) < span for film in films)
    left = f" ({short} shorter, left out)" if short else ""
    apart = f" that are {every} apart" if every > 1 else ""
    return f"{len(windows(films, clip, stride, every))} clips of {clip} frames{apart}, of {_of(films)}{left}"


def _whole(films: Films) -> str:
    return f"{_of(films)}, one look a frame"


def _of(films: Films) -> str:
    least, most = min(map(len, films)), max(map(len, films))
    return f"{len(films)} film{'s' * (len(films) > 1)} of {least if least == most else f'{least} to {most}'}"
