"""Frames as a moving picture: the first is shown for a while, the last is held."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from smp_feedback.data.films.writing import write_video
from smp_feedback.plotting.overlay import RGB
from smp_feedback.saving.files import replace_file

VIDEO = "mp4"
FORMATS = ("gif", "webp", VIDEO)
FIRST, EACH, LAST = 800, 80, 3000  # milliseconds that a frame is shown
COLOURS = 255  # of a GIF, and one that shows the frame before
HOW: dict[str, dict[str, Any]] = {"gif": {"optimize": True}, "webp": {"lossless": True, "method": 4}}


def write_frames(path: Path, frames: Sequence[RGB], format: str) -> Path:
    """Write *frames*, at least two, as one of :data:`FORMATS`, whole or not at all; returns *path*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [FIRST, *[EACH] * (len(frames) - 2), LAST]
    if format == VIDEO:  # as many equal frames as each is shown for, of even sides: what every player knows
        shown = chain.from_iterable(repeat(_even(f), round(time / EACH)) for f, time in zip(frames, times, strict=True))
        return write_video(path, shown, 1000 / EACH)
    return replace_file(path, lambda draft: _write(draft, frames, format, times))


def _even(frame: RGB) -> Tensor:
    down, right = (side % 2 for side in frame.shape[:2])
    whole = np.pad(frame, ((0, down), (0, right), (0, 0)), constant_values=255)
    return torch.from_numpy(whole).permute(2, 0, 1)


def _write(draft: Path, frames: Sequence[RGB], format: str, times: Sequence[int]) -> None:
    pages = [Image.fromarray(frame) for frame in frames]
    pages = _in_few_colours(pages) if format == "gif" else pages
    how = {"save_all": True, "append_images": pages[1:], "duration": times, "loop": 0, **HOW[format]}
    pages[0].save(draft, format=format, **how)


def _in_few_colours(pages: Sequence[Image.Image]) -> list[Image.Image]:
    """All in one palette: exactly, where there are few colours; else in those near most of what some pages show."""
    counted = [page.getcolors(COLOURS) for page in pages]
    every = sorted({colour for page in counted for _, colour in page or ()})
    if None in counted or len(every) > COLOURS:
        some = Image.fromarray(np.concatenate([np.asarray(pages[i]) for i in (0, len(pages) // 2, -1)]))
        palette = some.quantize(COLOURS, dither=Image.Dither.NONE)
        return [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    return [_indexed(page, np.array(every)) for page in pages]


def _indexed(page: Image.Image, palette: NDArray[np.int64]) -> Image.Image:
    """*page* by its colours' numbers in *palette* (n, 3), which is sorted and has them all."""
    code = np.array([1 << 16, 1 << 8, 1])
    numbered = Image.fromarray(np.searchsorted(palette @ code, np.asarray(page) @ code).astype(np.uint8))
    numbered.putpalette(palette.astype(np.uint8).tobytes())
    return numbered
