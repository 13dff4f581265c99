"""What is found in overlapping windows as one map: MONAI's ``SlidingWindowInferer``, which blends their edges."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from smp_feedback.loops.tiling.grid import WindowGrid, cut
from smp_feedback.ops.maps import Size


class WindowPlace(NamedTuple):
    """Where a window lies: which image of the batch, and its first row and column."""

    image: int
    top: int
    left: int


Places = Sequence[WindowPlace]


def mosaic(
    grid: WindowGrid,
    answer: Callable[[Places], Tensor],
    *,
    images: int,
    at_once: int,
    dtype: torch.dtype,
    device: torch.device,
    asked: torch.device,
) -> Tensor:
    """What *answer* says of every window as one map (B, C, H, W) of the grid's size.

    Where windows overlap it is their mean, weighted by a Gaussian around the middle of each (MONAI's, of a standard
    deviation of an eighth of the window): what a window says at its edge, where it sees least, counts least. Of a
    single window it is the answer itself. Kept are the sum and the weights, however many windows there are.

    Args:
        grid: The windows.
        answer: Of some windows, answers (b, C, h, w) on the device *asked*.
        images: B; the windows of one come after those of another.
        at_once: Windows that are answered together.
        dtype: Of the map; precise enough to add in.
        device: Where the map is.
        asked: Where the answers are.
    """
    if grid.windows == 1:
        places = [WindowPlace(image, 0, 0) for image in range(images)]
        parts = [answer(places[k : k + at_once]).to(device, dtype) for k in range(0, images, at_once)]
        return torch.cat(parts)
    from monai.inferers import SlidingWindowInferer

    overlap = [1 - (step + 0.5) / side for step, side in zip(grid.step, grid.window, strict=True)]  # MONAI rounds down
    overlap = [max(0.0, one) for one in overlap]
    where = {"sw_device": asked, "device": device}
    inferer = SlidingWindowInferer(grid.window, at_once, overlap, mode="gaussian", with_coord=True, **where)

    def told(_: Tensor, windows: Sequence[Sequence[slice]]) -> Tensor:
        places = [WindowPlace(*(int(window[axis].start) for axis in (0, 2, 3))) for window in windows]
        return answer(places).to(dtype, copy=True)  # it is weighted in place

    blank = torch.zeros((), dtype=dtype, device=asked).expand(images, 1, *grid.size)  # the answer cuts by itself
    made: Tensor = inferer(blank, told)
    return made


def strips(
    grid: WindowGrid,
    answer: Callable[[Places], Tensor],
    *,
    image: int,
    at_once: int,
    dtype: torch.dtype,
    device: torch.device,
    asked: torch.device,
) -> Iterator[tuple[int, Tensor]]:
    """The map of :func:`mosaic` of one *image* from above to below: each part as soon as no window reaches it any more.

    Bit for bit the same numbers, of which no more is kept than one row of windows. ``SlidingWindowInferer`` gives its
    map when all of it is done; the weights are MONAI's, too, and so is the order in which they are added up.

    Yields:
        The first row of a part, and the part (1, C, h, W), to be read before the next one is asked for.
    """
    tops, lefts = grid.begins
    places = [WindowPlace(image, top, left) for top in tops for left in lefts]
    each = (
        one for k in range(0, len(places), at_once) for one in answer(places[k : k + at_once]).to(dtype).unsqueeze(1)
    )
    if len(places) == 1:
        yield 0, next(each).to(device)
        return
    from monai.data.utils import compute_importance_map

    weight = compute_importance_map(grid.window, mode="gaussian", device=asked, dtype=dtype)
    there, height, first = weight.to(device), grid.window[0], next(each)
    summed = torch.zeros(1, first.shape[1], height, grid.size[1], dtype=dtype, device=device)
    weights, every = summed.new_zeros(1, 1, *summed.shape[2:]), itertools.chain([first], each)
    for top, below in zip(tops, [*tops[1:], grid.size[0]], strict=True):
        for left in lefts:
            columns = slice(left, left + grid.window[1])
            summed[..., columns] += (next(every) * weight).to(device)
            weights[..., columns] += there
        yield top, summed[..., : below - top, :].div_(weights[..., : below - top, :])
        for rows in (summed, weights):
            _move_up(rows, below - top)


def _move_up(rows: Tensor, by: int) -> None:
    """Let *rows* be without the first *by* of them, and with empty ones below; in place, as they may be many."""
    left = rows.shape[-2] - by
    rows[..., :left, :] = rows[..., by:, :].clone()
    rows[..., left:, :] = 0


def windows_of(maps: Tensor, places: Places, window: Size) -> Tensor:
    """Those of *maps* (B, C, H, W) at *places*, (b, C, h, w); a copy."""
    return torch.stack([cut(maps[image], top, left, window) for image, top, left in places])
