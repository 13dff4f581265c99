"""Streams of one batch that began at different looks."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from smp_feedback.errors import InvalidInput, InvalidType


@dataclass(frozen=True, eq=False)
class Beginnings:
    """The look at which each stream of a batch began.

    Attributes:
        looks: Numbers of looks (B,), int64.
    """

    looks: Tensor

    @functools.cached_property
    def known(self) -> tuple[int, ...]:
        """The same as numbers: waits for the device, once, however many looks read it."""
        return tuple(int(look) for look in self.looks.tolist())

    def at(self, look: int) -> Tensor:
        """Which streams begin with *look*, for maps (B, 1, 1, 1)."""
        return (self.looks == look)[:, None, None, None]

    def to(self, device: torch.device | str) -> Beginnings:
        """The same on another device."""
        return Beginnings(self.looks.to(device))

    def among(self, places: Tensor) -> Beginnings:
        """Those of the streams at *places*."""
        return Beginnings(self.looks[places])

    def by_row(self, look: int, rows: int) -> dict[int, list[int]]:
        """The streams of each age at *look*; those of *rows* looks and more are one.

        >>> Beginnings(torch.tensor([0, 5, 4, 1])).by_row(look=5, rows=3)
        {3: [0, 3], 0: [1], 1: [2]}
        """
        places: dict[int, list[int]] = {}
        for place, began in enumerate(self.known):
            places.setdefault(min(look - began, rows), []).append(place)
        return places


def check_mask(mask: object, streams: int) -> Tensor:
    """*mask* says yes or no of each of so many *streams*."""
    if not isinstance(mask, Tensor):
        raise InvalidType(f"mask={mask!r:.80} ({type(mask).__name__}): expected a bool tensor ({streams},).")
    if mask.dtype != torch.bool:
        raise InvalidType(f"mask of dtype {mask.dtype}: expected torch.bool, True for a stream that begins anew.")
    if mask.shape != (streams,):
        raise InvalidInput(f"mask of shape {tuple(mask.shape)}: expected ({streams},), one for each stream.")
    return mask
