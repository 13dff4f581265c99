"""What losses of structures share: chances and labels as maps, in which a pixel has neighbours."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from smp_feedback.errors import InvalidInput
from smp_feedback.losses.pixels import PixelLoss, check_pair, in_a_row


class Maps(NamedTuple):
    """A batch as maps of its foreground classes, all but the first; what is ignored is background, in both.

    Attributes:
        chances: Softmax of the logits (B, C - 1, H, W), 0 at an ignored pixel; float32 or better.
        truth: 0 or 1 (B, C - 1, H, W).
    """

    chances: Tensor
    truth: Tensor


class MapLoss(PixelLoss):
    """A loss ``(logits, target) -> scalar`` of maps; subclasses define :meth:`of_maps`.

    Class 0 is the background, and carries no term of its own. Computed in float32 or better, under autocast too.

    Args:
        ignore_index: Label that does not count; None counts all.
    """

    def forward(self, logits: Tensor, target: Tensor, *more: Any, **told: Any) -> Tensor:
        """The loss.

        Args:
            logits: (B, C, H, W), C >= 2.
            target: Class indices (B, H, W).
            *more: What else :meth:`of_maps` takes.
            **told: The same, by name.

        Returns:
            A scalar.

        Raises:
            InvalidInput: If the shapes do not fit, *target* holds no whole numbers, or these are no maps.
        """
        check_pair(logits, target)
        if logits.ndim != 4:
            shape = tuple(logits.shape)
            raise InvalidInput(f"logits of shape {shape}: {type(self).__name__} is of maps; expected (B, C, H, W).")
        with torch.autocast(logits.device.type, enabled=False):
            return self.of_maps(maps_of(logits, target, self.ignore_index), *more, **told)

    def of_maps(self, maps: Maps) -> Tensor:
        """The loss of *maps*, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} defines no of_maps(maps).")


def maps_of(logits: Tensor, target: Tensor, ignore_index: int | None) -> Maps:
    """The maps of a batch; see :class:`Maps`.

    >>> maps_of(torch.zeros(1, 2, 1, 3), torch.tensor([[[0, 255, 1]]]), 255)
    Maps(chances=tensor([[[[0.5000, 0.0000, 0.5000]]]]), truth=tensor([[[[0., 0., 1.]]]]))
    """
    pixels = in_a_row(logits, target, ignore_index)
    chances = pixels.logits.softmax(1) * pixels.counted[:, None]
    size = len(logits), logits.shape[1] - 1, *logits.shape[2:]
    return Maps(chances[:, 1:].reshape(size), pixels.one_hot[:, 1:].reshape(size))
