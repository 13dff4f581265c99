"""Films from stills: a camera that pans, zooms and shakes over each, and never sees beyond its border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsIndex, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.checks import check_number
from smp_feedback.data.draws import clip_seed, once_a_clip
from smp_feedback.data.films.moving import bounced
from smp_feedback.data.items import (
    Sample,
    checked_index,
    checked_int,
    height_width,
    in_unit,
    inherited,
    item_name,
    source,
)
from smp_feedback.errors import InvalidType, InvalidValue


class Window(NamedTuple):
    """What the camera sees of a still: its upper left corner and its sides, in pixels, not whole ones."""

    corner: tuple[float, float]
    sides: tuple[float, float]


class SyntheticCamera(Dataset[Sample]):
    """Each still of a dataset as a film of *frames* frames, seen by a moving camera.

    The camera sees a window as wide as high in proportion to the still, between *least* and all of its sides. It pans
    and zooms evenly, turns back where it would leave the still, and shakes. Images are resampled by a triangle filter
    as wide as a pixel of the frame, so nothing flickers; masks by the nearest pixel.

    Args:
        dataset: Map-style, with items (image, mask). What augments it does so once for all frames of a clip of `Clips`.
        frames: Of each film, >= 1.
        size: Of a frame, side or (H, W); None is the still's. Stills that are larger stay sharp where it zooms in.
        least: The smallest window, a share of the still's sides, in (0, 1).
        pan: The fastest pan, a frame along each axis, in the sides of the smallest window, >= 0.
        zoom: The fastest change of the window's share, a frame, >= 0.
        shake: Standard deviation of each frame's place, in windows, >= 0.
        seed: Another seed, other ways of the camera; >= 0.
        fresh: Whether each clip has another way than the last time, drawn from torch's global generator, for training;
            frames alone have the way of *seed*.

    Raises:
        InvalidType, InvalidValue: If an argument is none of these.

    >>> from smp_feedback.data import Shapes
    >>> data = SyntheticCamera(Shapes(3, 64), frames=4, size=32)
    >>> data.films, data[5][0].shape, data.name(5)
    ((range(0, 4), range(4, 8), range(8, 12)), torch.Size([3, 32, 32]), 'coloured_shapes[1] of seed 0, frame 1')
    """

    normalised = False

    def __init__(
        self,
        dataset: Dataset[Sample],
        frames: int = 8,
        *,
        size: int | Sequence[int] | None = None,
        least: float = 0.6,
        pan: float = 0.02,
        zoom: float = 0.01,
        shake: float = 0.003,
        seed: int = 0,
        fresh: bool = False,
    ) -> None:
        if not hasattr(dataset, "__len__"):
            raise InvalidType(f"dataset={dataset!r}: expected a map-style dataset, with a length.")
        self.dataset, self.fresh = dataset, fresh
        self.frames, self.seed = checked_int("frames", frames, least=1), checked_int("seed", seed, least=0)
        self.size = None if size is None else height_width(size, least=1)
        check_number("least", least, above=0)
        if least >= 1:
            raise InvalidValue(f"least={least!r}: expected a share of the still's sides, below 1: the rest is to move.")
        for name, value in (("pan", pan), ("zoom", zoom), ("shake", shake)):
            check_number(name, value, least=0)
        self.least, self.pan, self.zoom, self.shake = least, pan, zoom, shake
        self.indices = [still for still in range(len(dataset)) for _ in range(self.frames)]
        self.classes = cast("tuple[str, ...] | None", inherited(dataset, "classes"))
        self.ignore_index = cast("int | None", inherited(dataset, "ignore_index"))

    @property
    def films(self) -> tuple[range, ...]:
        """Of each still its frames."""
        return tuple(range(at, at + self.frames) for at in range(0, len(self), self.frames))

    @property
    def cuts(self) -> tuple[int, ...]:
        """None: a film is one still, whatever its dataset says of other films."""
        return ()

    def hidden(self, index: SupportsIndex) -> Tensor:
        """What the camera sees of what an occluder hides in the still; bool (H, W).

        Raises:
            AttributeError: If the stills' dataset does not say.
        """
        still, time = divmod(checked_index(index, len(self)), self.frames)
        inner, place = source(self.dataset, still, "hidden")
        found: Tensor = inner.hidden(place)
        whole = cast("tuple[int, int]", tuple(found.shape[-2:]))
        return nearest(found, self.window(still, time, whole), whole if self.size is None else self.size)

    def name(self, index: SupportsIndex) -> str:
        """What the still is called, and which frame it is."""
        still, time = divmod(checked_index(index, len(self)), self.frames)
        return f"{item_name(self.dataset, still)}, frame {time}"

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        still, time = divmod(checked_index(index, len(self)), self.frames)
        image, mask = once_a_clip((id(self), still), lambda: cast(Any, self.dataset)[still])
        whole = cast("tuple[int, int]", tuple(image.shape[-2:]))
        window = self.window(still, time, whole)
        size = whole if self.size is None else self.size
        frame = in_unit(resampled(image, window, size), self.name(index))
        return frame, nearest(mask, window, size)

    def window(self, still: int, time: int, size: tuple[int, int]) -> Window:
        """What the camera sees of a *still* of *size* (H, W) in frame *time*."""
        drawn = clip_seed() if self.fresh else None
        rng = np.random.default_rng([self.seed, still] if drawn is None else [drawn, still])
        room = 1 - self.least
        place, way = rng.random(3), rng.uniform(-1, 1, 3) * (*[self.pan * self.least / room] * 2, self.zoom / room)
        along = bounced(place + way * time, np.ones(3))  # between the ends that there are, 0 to 1
        share = self.least + along[2] * room
        shaken = along[:2] * (1 - share) + self.shake * share * rng.standard_normal((time + 1, 2))[-1]
        inside = np.clip(shaken, 0, 1 - share)
        (y, x), (height, width) = inside * size, share * np.array(size, float)
        return Window((float(y), float(x)), (float(height), float(width)))


def resampled(image: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """The *window* of *image* (C, H, W) at *size*: each pixel the mean around it, weighted by a triangle.

    The triangle reaches one pixel of the result to either side, or one of *image* where that is larger. Beyond the
    image there is nothing to weigh.

    >>> resampled(torch.tensor([[[0.0, 1.0, 2.0, 3.0]]]), Window((0.0, 0.5), (1.0, 2.0)), (1, 2))
    tensor([[[0.5000, 1.5000]]])
    """
    down, along = (
        _weights(start, side, whole, count).to(image)
        for start, side, whole, count in zip(window.corner, window.sides, image.shape[-2:], size, strict=True)
    )
    return down @ image @ along.T


def nearest(mask: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """The *window* of *mask* (..., H, W) at *size*: of each pixel's centre the label; a label () as it is.

    >>> nearest(torch.tensor([[0, 1, 2, 3]]), Window((0.0, 0.5), (1.0, 2.0)), (1, 4))
    tensor([[0, 1, 1, 2]])
    """
    if mask.ndim < 2:
        return mask
    rows, columns = (
        torch.from_numpy(np.minimum((start + (np.arange(count) + 0.5) * side / count).astype(int), whole - 1))
        for start, side, whole, count in zip(window.corner, window.sides, mask.shape[-2:], size, strict=True)
    )
    return mask[..., rows[:, None], columns]


def _weights(start: float, side: float, whole: int, count: int) -> Tensor:
    """(count, whole): how much each pixel of the image weighs in each of the result, along one axis."""
    step = side / count
    centres = start + (torch.arange(count, dtype=torch.float64) + 0.5) * step
    away = (torch.arange(whole, dtype=torch.float64) + 0.5 - centres[:, None]).abs() / max(step, 1.0)
    weights = (1 - away).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)
