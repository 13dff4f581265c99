"""The frames of a comparison on films: clean and corrupted, to train on, to tune on and to score."""

from __future__ import annotations

from typing import Any, SupportsIndex

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from smp_feedback.data import Clips, Corrupted, SyntheticCamera, open_dataset
from smp_feedback.data.draws import clip_seed, one_clip
from smp_feedback.data.items import Sample, checked_index, height_width
from smp_feedback.data.strangers import as_handed, check_of_stranger
from smp_feedback.data.wrapped import WrappedDataset
from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation.films.order import films_in
from smp_feedback.experiments.comparison.settings import Condition
from smp_feedback.experiments.films.rivals import Rival
from smp_feedback.experiments.films.settings import FilmSettings
from smp_feedback.experiments.runs import TEST_SEED

VAL_SEED = TEST_SEED + 1  # as that: nothing is trained under it
CLOSEST = 0.6  # the smallest window of the camera, over the still's sides
LONG = 32  # frames of a still's film to tune on


def opened_films(settings: FilmSettings, split: str, seed: int = 0, size: Any = None) -> Any:
    """The frames of one split, clean; of another *size* than the settings' where one is given.

    Raises:
        InvalidInput: If they say nothing of films.
    """
    trains = split == "train"
    most = settings.train_count if trains else settings.test_images if split == settings.split else settings.val_images
    how: dict[str, Any] = {"root": settings.root, "size": size or settings.size, "seed": seed}
    transform = as_handed(settings.data, settings.augment if trains else "none")
    how |= {"transform": transform} | settings.data_options
    how |= settings.train_options if trains else settings.test_options
    data: Any = open_dataset(settings.data, split, **how)
    if most and "count" not in how and (settings.root is None or most < len(data)):  # what is drawn has no end
        data = open_dataset(settings.data, split, count=most, **how)
    check_of_stranger(settings.data, data, transform)
    if size is None:  # else of stills
        films_in(data)
    return data


def training_frames(settings: FilmSettings, rival: Rival, seed: int) -> Any:
    """What *rival* is trained on: clips, frames on their own, or stacks of frames; corrupted anew each time."""
    films = opened_films(settings, "train", seed)
    if settings.camera is not None:
        films = ConcatDataset([filmed(settings, "train", seed, settings.clip), films])
    frames = Mixed(films, settings.conditions)
    if rival.loops and rival.looks == 1:
        return Clips(frames, settings.clip)
    return frames if rival.stack == 1 else StackedFrames(frames, rival.stack)


def filmed(settings: FilmSettings, split: str, seed: int, frames: int) -> SyntheticCamera:
    """The stills of *split* as a moving camera sees them: opened so large that its closest view is sharp."""
    how = dict(settings.camera or {})
    larger = [round(side / how.get("least", CLOSEST)) for side in height_width(settings.size, least=1)]
    stills = opened_films(settings, split, seed, larger)
    told = {"frames": frames, "size": settings.size, "seed": seed, "least": CLOSEST, **how}
    return SyntheticCamera(stills, fresh=split == "train", **told)


def scored_frames(settings: FilmSettings, condition: Condition) -> Corrupted:
    """The frames of the test split, the same for every model and seed."""
    data = opened_films(settings, settings.split)
    return Corrupted(data, condition.corruption, condition.severity, seed=TEST_SEED)


def validation_frames(settings: FilmSettings, *conditions: Condition) -> ConcatDataset[Sample]:
    """The validation films under each of *conditions*, one after the other; under all that is trained on if none."""
    if settings.camera is None:
        data = opened_films(settings, settings.tuned)
    else:
        data = filmed(settings, settings.tuned, VAL_SEED, LONG)
    under = conditions or settings.conditions
    return ConcatDataset([Corrupted(data, one.corruption, one.severity, seed=VAL_SEED) for one in under])


class Mixed(WrappedDataset[Sample]):
    """Frames under one of several corruptions, each as often, drawn anew at each access: one for a whole clip.

    Args:
        dataset: Of frames.
        conditions: Corruptions and their severities.
    """

    def __init__(self, dataset: Dataset[Sample], conditions: tuple[Condition, ...]) -> None:
        super().__init__(dataset)
        self.ways = [Corrupted(dataset, one.corruption, one.severity, fresh=True) for one in conditions]

    def __getitem__(self, index: SupportsIndex) -> Sample:
        drawn = clip_seed()
        which = int(torch.randint(2**31, ())) if drawn is None else drawn
        return self.ways[which % len(self.ways)][checked_index(index, len(self))]


class StackedFrames(WrappedDataset[Sample]):
    """Each frame behind those before it in its film, as the channels of one image, oldest first; the mask is its own.

    Where the film has none before, there is its first frame again. All are augmented alike, as a clip's are.

    Args:
        dataset: Of frames, with films.
        frames: In a stack.

    Raises:
        InvalidInput: If a frame is in no film.

    >>> from smp_feedback.data import MovingShapes
    >>> shapes = MovingShapes("test", frames=4, count=8, size=32)
    >>> stack, mask = StackedFrames(shapes, 3)[5]
    >>> torch.equal(stack, torch.cat([shapes[i][0] for i in (4, 4, 5)])), torch.equal(mask, shapes[5][1])
    (True, True)
    """

    def __init__(self, dataset: Any, frames: int) -> None:
        super().__init__(dataset)
        self.stack: dict[int, list[int]] = {}
        for film in films_in(dataset).places:
            for t, place in enumerate(film):
                self.stack[place] = [film[max(0, t - back)] for back in reversed(range(frames))]

    def __getitem__(self, index: SupportsIndex) -> Sample:
        place = checked_index(index, len(self))
        if place not in self.stack:
            raise InvalidInput(f"{self.name(place)} is in no film: expected that every frame is in one.")
        with one_clip():
            seen: dict[int, Sample] = {i: self.dataset[i] for i in dict.fromkeys(self.stack[place])}
        frames: list[Tensor] = [seen[i][0] for i in self.stack[place]]
        return torch.cat(frames), seen[place][1]
