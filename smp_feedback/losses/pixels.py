"""What our losses share: logits and class indices become pixels in a row, and ignored ones weigh nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.errors import InvalidInput, InvalidType


class Pixels(NamedTuple):
    """A batch as rows of N pixels (N = 1 for labels of whole images), in float32 or better.

    Attributes:
        logits: (B, C, N).
        one_hot: (B, C, N), 0 or 1; all 0 at an ignored pixel.
        counted: (B, N), 0 at an ignored pixel and else 1.
    """

    logits: Tensor
    one_hot: Tensor
    counted: Tensor


class PixelLoss(nn.Module):
    """A loss ``(logits, target) -> scalar`` over the pixels that are not ignored; subclasses define :meth:`of`.

    Computed in float32 or better, under autocast too. A batch whose pixels are all ignored has the loss 0.

    Args:
        ignore_index: Label that does not count; None counts all.
    """

    def __init__(self, ignore_index: int | None = None) -> None:
        super().__init__()
        if ignore_index is not None and (isinstance(ignore_index, bool) or not isinstance(ignore_index, int)):
            raise InvalidType(f"ignore_index={ignore_index!r}: expected a whole number, or None.")
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor, *more: Any, **told: Any) -> Tensor:
        """The loss.

        Args:
            logits: (B, C, H, W), or (B, C) for whole images; C >= 2.
            target: Class indices (B, H, W), or (B,).
            *more: What else :meth:`of` takes.
            **told: The same, by name: ``step=t`` where each look is judged in its own way.

        Returns:
            A scalar.

        Raises:
            InvalidInput: If the shapes do not fit, or *target* holds no whole numbers.
        """
        check_pair(logits, target)
        with torch.autocast(logits.device.type, enabled=False):
            return self.of(in_a_row(logits, target, self.ignore_index), *more, **told)

    def of(self, pixels: Pixels) -> Tensor:
        """The loss of *pixels*, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} defines no of(pixels).")


def check_pair(logits: Tensor, target: Tensor) -> None:
    """*target* holds one class index for each place of *logits*."""
    shapes = f"logits of shape {tuple(logits.shape)} and target of shape {tuple(target.shape)}"
    if logits.ndim < 2 or logits.shape[1] < 2:
        raise InvalidInput(f"{shapes}: expected logits (B, C, H, W) or (B, C), with C >= 2.")
    if target.shape != (len(logits), *logits.shape[2:]):
        raise InvalidInput(f"{shapes}: expected a target of shape {(len(logits), *logits.shape[2:])}.")
    if target.is_floating_point() or target.is_complex():
        raise InvalidInput(f"target of dtype {target.dtype}: expected class indices (int64).")


def in_a_row(logits: Tensor, target: Tensor, ignore_index: int | None) -> Pixels:
    """The pixels of a batch; see :class:`Pixels`.

    >>> in_a_row(torch.zeros(1, 2, 1, 3), torch.tensor([[[0, 255, 1]]]), 255).one_hot
    tensor([[[1., 0., 0.],
             [0., 0., 1.]]])
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    logits = logits.reshape(len(logits), logits.shape[1], -1)
    target = target.long().reshape(len(target), -1)
    counts = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    one_hot = F.one_hot(target.where(counts, 0), logits.shape[1]).mT * counts[:, None]
    return Pixels(logits, one_hot.to(logits.dtype), counts.to(logits.dtype))
