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
    """A line on the clips and films of *datasets*, frames by the names of their splits; none of images.

    >>> from smp_feedback.data import MovingShapes
    >>> clips_told({"train": MovingShapes(count=20), "val": MovingShapes("val", count=64)}, clip=6, stride=2)
    ['train: 4 clips of 6 frames, of 3 films of 4 to 8 (1 shorter, left out); val: 2 films of 32, one look a frame']
    """
    if clip is None:
        return []
    said = []
    for name, dataset in datasets.items():
        if (films := films_of(dataset)) is not None:
            said.append(f"{name}: {_clips(films, clip, stride) if name == TRAIN else _whole(films)}")
    return ["; ".join(said)] if said else []


def _clips(films: Films, clip: int, stride: int) -> str:
    short = sum(len(film) < clip for film in films)
    left = f" ({short} shorter, left out)" if short else ""
    return f"{len(windows(films, clip, stride))} clips of {clip} frames, of {_of(films)}{left}"


def _whole(films: Films) -> str:
    return f"{_of(films)}, one look a frame"


def _of(films: Films) -> str:
    least, most = min(map(len, films)), max(map(len, films))
    return f"{len(films)} film{'s' * (len(films) > 1)} of {least if least == most else f'{least} to {most}'}"
