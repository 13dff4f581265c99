"""An answer laid over its image, in pixels large enough to be counted; what is wrong in it is vermilion."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from smp_feedback.errors import InvalidInput, InvalidType
from smp_feedback.plotting.pictures import photo
from smp_feedback.plotting.style import PALETTE

WRONG = "#D55E00"
CLASSES = ("#0072B2", *(colour for colour in PALETTE[1:] if colour not in ("#0072B2", WRONG)))  # of class 1, 2, ...
COVER = 0.8  # of the image's own colour so much is hidden: marks below an answer stay visible
MARGIN, TOP, LEAST, LETTERS = 8, 25, 140, 14  # pixels: around a picture, for its title, the narrowest column, letters
RGB = NDArray[np.uint8]


def laid_over(image: Tensor, answer: Tensor, truth: Tensor | None = None) -> RGB:
    """*image* (C, H, W) in [0, 1] with the labels *answer* (H, W) over it, as RGB (H, W, 3).

    Class 0 is the background and shows the image. Where *truth* (H, W) is known, a pixel of another class that is not
    its own is vermilion; where truth is no class (below 0, or 255), nothing is wrong.

    Raises:
        InvalidType: If labels are no tensor.
        InvalidInput: If the image has another rank, or their sizes differ.

    >>> white, answer = torch.ones(1, 1, 3), torch.tensor([[0, 1, 1]])
    >>> laid_over(white, answer, torch.tensor([[1, 1, 0]])).tolist()
    [[[255, 255, 255], [51, 142, 193], [221, 126, 51]]]
    """
    if image.ndim != 3:
        raise InvalidInput(f"image of shape {tuple(image.shape)}: expected one (C, H, W).")
    for name, labels in (("answer", answer), ("truth", truth)):
        if not isinstance(labels, Tensor | None):
            raise InvalidType(f"{name} is a {type(labels).__name__}: expected a tensor (H, W), a label a pixel.")
        if labels is not None and labels.shape != image.shape[1:]:
            size = tuple(image.shape[1:])
            raise InvalidInput(f"{name} of shape {tuple(labels.shape)}: expected the image's {size}, a label a pixel.")
    table = torch.tensor([_rgb(colour) for colour in CLASSES])
    seen = torch.from_numpy(photo(image)).expand(-1, -1, 3)
    labels = answer.cpu().long()
    colour = table[(labels - 1).clamp_min(0) % len(table)]
    if truth is not None:
        colour = torch.where(wrong(labels, truth.cpu())[..., None], torch.tensor(_rgb(WRONG)), colour)
    mixed = torch.where(labels[..., None] > 0, seen + COVER * (colour - seen), seen)
    painted: RGB = mixed.mul(255).round().byte().numpy()
    return painted


def wrong(answer: Tensor, truth: Tensor) -> Tensor:
    """Where *answer* is not *truth* (H, W), and truth is a class.

    >>> wrong(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 255, -100]))
    tensor([False,  True, False, False])
    """
    return (answer != truth) & (truth >= 0) & (truth != 255)


def enlarged(picture: RGB, side: int) -> RGB:
    """Every pixel as a square, so many times as wide that the picture is at most *side* long, and once at least.

    >>> enlarged(np.zeros((3, 5, 3), np.uint8), 100).shape, enlarged(np.zeros((300, 500, 3), np.uint8), 100).shape
    ((60, 100, 3), (300, 500, 3))
    """
    times = max(1, side // max(picture.shape[:2]))
    return picture.repeat(times, 0).repeat(times, 1)


def side_by_side(panels: Sequence[tuple[str, RGB]]) -> RGB:
    """Pictures beside each other on white, each below its title, and with room for it.

    >>> side_by_side([("a", np.zeros((20, 30, 3), np.uint8)), ("b", np.zeros((20, 300, 3), np.uint8))]).shape
    (53, 464, 3)
    """
    blank = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    needed = [max(LEAST, round(blank.textlength(title, font=letters(LETTERS)))) for title, _ in panels]
    widths = [max(least, picture.shape[1]) for least, (_, picture) in zip(needed, panels, strict=True)]
    height = max(picture.shape[0] for _, picture in panels)
    page = Image.new("RGB", (MARGIN + sum(width + MARGIN for width in widths), TOP + height + MARGIN), "white")
    draw, left = ImageDraw.Draw(page), MARGIN
    for width, (title, picture) in zip(widths, panels, strict=True):
        draw.text((left, TOP - 8), title, fill="black", font=letters(LETTERS), anchor="ls")
        page.paste(Image.fromarray(picture), (left, TOP))
        left += width + MARGIN
    return np.asarray(page)


def sheet(panels: Sequence[tuple[str, RGB]], across: int) -> RGB:
    """Pictures with their titles, *across* in a row.

    >>> sheet([("a", np.zeros((20, 300, 3), np.uint8))] * 3, across=2).shape
    (106, 624, 3)
    """
    rows = [side_by_side(panels[i : i + across]) for i in range(0, len(panels), across)]
    widest = max(row.shape[1] for row in rows)
    whole = [np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(whole)


def titled(image: Tensor, name: str, answer: Tensor, truth: Tensor | None = None, *, side: int) -> tuple[str, RGB]:
    """*answer* over *image*, enlarged, and its *name*, which says where it is right in every pixel of *truth*.

    Arguments are those of `laid_over` and `enlarged`.
    """
    picture = enlarged(laid_over(image, answer, truth), side)
    solved = truth is not None and answer is not truth and not wrong(answer.cpu(), truth.cpu()).any()
    return f"{name}, solved" if solved else name, picture


@cache
def letters(side: int) -> ImageFont.FreeTypeFont:
    """Letters of *side* pixels, those that matplotlib brings: the same on every machine, and more than Latin's."""
    return ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/DejaVuSans.ttf", side)


def _rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
