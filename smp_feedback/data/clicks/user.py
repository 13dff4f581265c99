"""A simulated user, who looks at an answer and clicks where it is most wrong."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from smp_feedback.data.clicks.depth import depth
from smp_feedback.data.clicks.discs import NEGATIVE, POSITIVE


class Errors(NamedTuple):
    """How deep each pixel lies in what is wrong, (B, H, W); 0 where nothing is, or where there was a click before.

    Attributes:
        missed: In the object, and not in the answer.
        false: In the answer, and not in the object.
    """

    missed: Tensor
    false: Tensor


def errors(truth: Tensor, answer: Tensor, clicks: Tensor) -> Errors:
    """What is wrong with *answer*.

    Args:
        truth: (B, H, W): 1 is the object, 0 is not, any other label counts for nothing.
        answer: bool (B, H, W).
        clicks: Those that there were, (B, N, 3).
    """
    free = torch.ones_like(answer).flatten(1)
    row, column, sign = clicks.long().unbind(-1)
    free.scatter_reduce_(1, row * answer.shape[-1] + column, sign == 0, "prod")
    wrong = torch.stack([(truth == 1) & ~answer, (truth == 0) & answer])
    return Errors(*(depth(wrong) * free.view_as(answer)))


def next_clicks(truth: Tensor, answer: Tensor, clicks: Tensor, *, sampled: bool = False) -> Tensor:
    """The next click on each image, by the rule that NoBRS and RITM are scored with.

    It falls into the centre of the largest error: on the pixel that lies deepest in what is missed or in what is false,
    the first in reading order of several; never twice on one pixel. Nothing is drawn. To train with, it falls anywhere
    that lies more than half as deep as that (RITM, arXiv 2102.06583), drawn by torch.

    Args:
        truth: (B, H, W): 1 is the object, 0 is not, any other label counts for nothing.
        answer: bool (B, H, W); none of it before the first click.
        clicks: Those that there were, (B, N, 3) of row, column, sign.
        sampled: Whether it is drawn.

    Returns:
        (B, N + 1, 3), int64; the last has the sign 0 where nothing is wrong.

    >>> truth = torch.zeros(1, 5, 7, dtype=torch.long)
    >>> truth[:, 1:4, 1:4] = 1
    >>> next_clicks(truth, torch.zeros(1, 5, 7, dtype=torch.bool), no_clicks(1))
    tensor([[[2, 2, 1]]])
    """
    found = errors(truth, answer, clicks)
    missed, false = (one.flatten(1) for one in found)
    positive = missed.amax(1) > false.amax(1)
    depths = torch.where(positive[:, None], missed, false)
    deepest, place = depths.max(1)
    if sampled:
        inner = (depths > deepest[:, None] / 2) | (deepest == 0)[:, None]
        place = torch.multinomial(inner.float(), 1)[:, 0]
    sign = torch.where(positive, POSITIVE, NEGATIVE) * (deepest > 0)
    width = truth.shape[-1]
    one = torch.stack([place // width, place % width, sign], -1)
    return torch.cat([clicks.long(), one[:, None]], 1)


def no_clicks(count: int, device: torch.device | None = None) -> Tensor:
    """Those on *count* images that nobody has clicked on, (count, 0, 3)."""
    return torch.zeros(count, 0, 3, dtype=torch.long, device=device)
