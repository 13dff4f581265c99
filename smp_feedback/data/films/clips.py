"""Clips: windows of a dataset's films, each a number of frames with their masks."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any, SupportsIndex, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.data.draws import one_clip
from smp_feedback.data.files import by
from smp_feedback.data.items import checked_index, checked_int, files_of, inherited, item_name
from smp_feedback.data.wrapped import Films, check_frames, films_of, say_outside
from smp_feedback.errors import DataWarning, InvalidInput, InvalidType, InvalidValue

Clip = tuple[Tensor, Tensor]  # frames (T, C, H, W) float32 in [0, 1]; masks (T, H, W) int64


class Clips(Dataset[Clip]):
    """Windows of the films of a dataset of frames.

    The frames of a clip are augmented alike: what a transform draws, it draws once a clip. Corruptions and noise stay
    each frame's own. A batch of clips is (B, T, C, H, W) and (B, T, H, W).

    Args:
        dataset: Of frames, items (image, mask) of one size within a film, with ``films``; also behind wrappers that
            keep it as ``.dataset``, such as `Corrupted` and ``torch.utils.data.Subset``.
        length: Frames in a clip, T >= 1.
        stride: Frames from the start of a clip to the start of the next, >= 1; *length* is clips that share none.
        every: Frames of the film from one of a clip's to the next, >= 1; 2 leaves every other one out.

    Attributes:
        frames: Of each clip the indices of its frames in *dataset*.

    Items are (frames, masks): float32 (T, C, H, W) in [0, 1] and int64 (T, H, W); of a dataset whose items have other
    parts, such as `Triplets`, each part, stacked.

    Raises:
        InvalidType: If *dataset* has no films, or *length*, *stride* or *every* is no whole number.
        InvalidValue: If one of them is less than 1, or every film is shorter than a clip.
        InvalidInput: If a film has a frame that is no item of *dataset*; on access, naming the frame: if the frames of
            a clip differ in shape.

    Warns:
        DataWarning: If some films are shorter than a clip, or frames are in no film: they are left out.

    >>> from smp_feedback.data import MovingShapes
    >>> clips = Clips(MovingShapes(count=20, size=32), length=4, stride=2)  # films of 8, 8 and 4 frames
    >>> frames, masks = clips[0]
    >>> len(clips), frames.shape, masks.shape, clips.frames[1]
    (7, torch.Size([4, 3, 32, 32]), torch.Size([4, 32, 32]), (2, 3, 4, 5))
    """

    def __init__(self, dataset: Dataset[Any], length: int = 8, stride: int = 1, every: int = 1) -> None:
        self.length, self.stride, self.every = (
            checked_int(name, value, least=1)
            for name, value in (("length", length), ("stride", stride), ("every", every))
        )
        films = films_of(dataset)
        if films is None:
            raise InvalidType(
                f"dataset is a {type(dataset).__name__} without films: expected one that says which items are the "
                "frames of a film, such as open_dataset('moving'), or open_dataset('folder', films='folder')."
            )
        check_frames(dataset, films)
        say_outside(dataset, films, "left out")
        self.dataset = dataset
        self.frames = windows(films, self.length, self.stride, self.every)
        self._say_short(films)
        self.classes = cast("tuple[str, ...] | None", inherited(dataset, "classes"))
        self.ignore_index = cast("int | None", inherited(dataset, "ignore_index"))

    def _say_short(self, films: Films) -> None:
        span = (self.length - 1) * self.every + 1
        short = [film for film in films if len(film) < span]
        if not short:
            return
        what = f"length={self.length}, every={self.every}: a clip spans {span} frames"
        longest = max(map(len, films))
        if len(short) == len(films):
            raise InvalidValue(f"{what}, and the longest film has {longest}: expected a length of at most {longest}.")
        first = f"{item_name(self.dataset, short[0][0])} begins one of {len(short[0])}"
        warnings.warn(
            f"{what}: {len(short)} of {len(films)} films are shorter, and left out ({first}).",
            DataWarning,
            stacklevel=3,
        )

    @functools.cached_property  # asked for once a frame by who looks for files
    def samples(self) -> list[list[Path]]:
        """Of each clip the files that it is read from, those of its first frame first; empty where there are none."""
        return [[path for frame in frames for path in files_of(self.dataset, frame)] for frames in self.frames]

    @property
    def films(self) -> Films:
        """Clips are no frames.

        Raises:
            AttributeError: Always.
        """
        raise AttributeError("Clips has no films")

    def name(self, index: SupportsIndex) -> str:
        """What its first and its last frame are called."""
        frames = self.frames[checked_index(index, len(self))]
        first, last = (item_name(self.dataset, frame) for frame in (frames[0], frames[-1]))
        return first if len(frames) == 1 else f"{first} to {last}"

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: SupportsIndex) -> Clip:
        frames = self.frames[checked_index(index, len(self))]
        with one_clip():
            items = [cast(Any, self.dataset)[frame] for frame in frames]
        for frame, item in zip(frames, items, strict=True):
            self._check_alike(frames[0], items[0], frame, item)
        return cast(Clip, tuple(torch.stack([torch.as_tensor(p) for p in part]) for part in zip(*items, strict=True)))

    def _check_alike(self, first: int, one: Any, frame: int, other: Any) -> None:
        shapes = [[tuple(torch.as_tensor(part).shape) for part in item] for item in (one, other)]
        if shapes[0] != shapes[1]:
            names = item_name(self.dataset, first), item_name(self.dataset, frame)
            was, now = (by(shape[0]) for shape in shapes)
            raise InvalidInput(
                f"{names[1]} is {now} and {names[0]}, of the same film, {was}: expected frames of one size; size= "
                "resizes them."
            )


def windows(films: Films, length: int, stride: int = 1, every: int = 1) -> list[tuple[int, ...]]:
    """The frames of each window of each film that is long enough; arguments as `Clips` has them.

    >>> windows((range(5), (7, 8)), length=2, stride=2, every=2)
    [(0, 2), (2, 4)]
    """
    span = (length - 1) * every + 1
    return [tuple(film[at : at + span : every]) for film in films for at in range(0, len(film) - span + 1, stride)]
