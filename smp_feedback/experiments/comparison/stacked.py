"""Copies of a base one behind the other: what a loop is without sharing its weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.ops.maps import masks_of, size_of

Answer = Tensor | tuple[Tensor, Tensor]


class Stacked(nn.Module):
    """Untied copies of a base: each is shown the image and the probabilities so far, and adds to the logits.

    The first is shown the image alone. Where there is one answer an image, its probabilities fill a map; of (masks,
    labels) both are added up, and the masks are shown.

    Args:
        copies: The first reads C channels, each other one C and as many as there are classes.

    >>> stack = Stacked([nn.Conv2d(3, 2, 1), nn.Conv2d(5, 2, 1), nn.Conv2d(5, 2, 1)])
    >>> stack(torch.zeros(1, 3, 4, 4)).shape
    torch.Size([1, 2, 4, 4])
    """

    def __init__(self, copies: Iterable[nn.Module]) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copies)

    def forward(self, image: Tensor) -> Answer:
        """(B, C, H, W) -> logits, or (masks, labels)."""
        first, *rest = self.copies
        total: Answer = first(image)
        for copy in rest:
            total = _added(total, copy(torch.cat([image, _shown(total, image)], 1)))
        return total


def _shown(answer: Answer, image: Tensor) -> Tensor:
    """The probabilities of *answer*, a map of the image's size."""
    logits = masks_of(answer)
    chances = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
    return chances if chances.ndim == 4 else chances[:, :, None, None].expand(-1, -1, *size_of(image))


def _added(total: Any, more: Any) -> Answer:
    if isinstance(total, tuple):
        return total[0] + more[0], total[1] + more[1]
    return cast(Tensor, total + more)
