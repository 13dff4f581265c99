"""An answer over its photograph, at the photograph's own size, with the classes' names and colours below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from smp_feedback.plotting.overlay import RGB, letters

COVER = 0.5  # of the photograph's own colour so much is hidden
ROWS = 512  # painted at a time
LEAST, MOST = 12, 96  # pixels of a letter
Entry = tuple[str, tuple[int, int, int]]
"""A class's name, and its colour."""


def as_picture(image: Tensor) -> RGB:
    """An image (C, H, W), bytes or in [0, 1], as RGB (H, W, 3): of more than three bands the first three.

    >>> import torch
    >>> as_picture(torch.tensor([[[0.0, 1.0]]])).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    seen = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    seen = seen.clamp(0, 1).mul(255).round().byte() if seen.is_floating_point() else seen
    return np.array(seen.permute(1, 2, 0).cpu().numpy(), order="C")


def covered(picture: RGB, regions: Iterable[tuple[tuple[int, int, int], NDArray[np.bool_]]]) -> RGB:
    """*picture* (H, W, 3) with each of *regions* (H, W) half hidden by its colour, one after another; changed in place.

    >>> covered(np.zeros((1, 2, 3), np.uint8), [((200, 100, 0), np.array([[True, False]]))]).tolist()
    [[[100, 50, 0], [0, 0, 0]]]
    """
    for colour, pixels in regions:
        for first in range(0, len(picture), ROWS):
            rows = slice(first, first + ROWS)
            seen = picture[rows][pixels[rows]].astype(np.float32)
            picture[rows][pixels[rows]] = np.rint(seen + COVER * (np.array(colour, np.float32) - seen)).astype(np.uint8)
    return picture


def with_legend(picture: RGB, entries: Sequence[Entry]) -> Image.Image:
    """*picture* and, on white below it, a patch of colour and a name for each of *entries*, in rows.

    A name that is wider than the picture goes on beyond its edge, and the page with it.

    >>> with_legend(np.zeros((40, 60, 3), np.uint8), []).size
    (60, 40)
    """
    height, width = picture.shape[:2]
    if not entries:
        return Image.fromarray(picture)
    side = int(np.clip(width // 50, LEAST, MOST))
    font, gap = letters(side), side // 2
    wide = [side + gap + round(font.getlength(name)) for name, _ in entries]
    places, across = _rows(wide, max(width, max(wide) + 2 * gap), gap)
    line = side + gap
    page = Image.new("RGB", (across, height + line * (places[-1][1] + 1) + gap), "white")
    page.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(page)
    for (name, colour), (left, row) in zip(entries, places, strict=True):
        top = height + gap + row * line
        draw.rectangle((left, top, left + side - 1, top + side - 1), fill=colour, outline="black")
        draw.text((left + side + gap // 2, top + side // 2), name, fill="black", font=font, anchor="lm")
    return page


def _rows(wide: Sequence[int], across: int, gap: int) -> tuple[list[tuple[int, int]], int]:
    """Where each entry begins, and in which row, on a page *across* pixels wide.

    >>> _rows([40, 40, 40], 100, 5)
    ([(5, 0), (50, 0), (5, 1)], 100)
    """
    left, row, places = gap, 0, []
    for one in wide:
        if left > gap and left + one + gap > across:
            left, row = gap, row + 1
        places.append((left, row))
        left += one + gap
    return places, across
