"""A pool of states that went on: what a rule that is to be repeated often begins with in training, besides nothing.

As in *rNCA* (arXiv 2512.13397), which has it from *Growing Neural Cellular Automata*: a share of each batch is taken
from the pool and goes on from the state that it had reached, the rest begins anew, and all are put back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smp_feedback.checks import check_whole
from smp_feedback.errors import InvalidInput, InvalidValue


class Kept(NamedTuple):
    """What a slot holds.

    Attributes:
        shown: What the net reads (C, H, W).
        target: Labels (H, W).
        state: The state reached (S, H, W), in half precision: it is of norm 1.
    """

    shown: Tensor
    target: Tensor
    state: Tensor


class StatePool:
    """Slots for states, by number; no part of any model.

    Which slots a batch has is drawn by who asks, so that a run is a function of its seed.

    Args:
        size: Slots, >= 0; none keeps nothing.

    >>> pool = StatePool(4)
    >>> pool.put([2], [Kept(torch.zeros(3, 2, 2), torch.zeros(2, 2).long(), torch.ones(5, 2, 2))])
    >>> slots = pool.slots(batch=4, draw=Random(0))
    >>> sorted(slots), [slots[row] for row in pool.rows(slots, share=0.5, shape=(3, 2, 2))]
    ([0, 1, 2, 3], [2])
    """

    def __init__(self, size: int) -> None:
        self.size = check_whole("pool", size, least=0)
        self._kept: dict[int, Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def slots(self, batch: int, draw: Random) -> list[int]:
        """A slot for each row of a *batch*, all different.

        Raises:
            InvalidValue: If there are fewer.
        """
        if batch > self.size:
            raise InvalidValue(
                f"pool={self.size}: expected at least a slot for each image of a batch of {batch}, or 0."
            )
        return draw.sample(range(self.size), batch)

    def rows(self, slots: Sequence[int], share: float, shape: Sequence[int]) -> list[int]:
        """The rows that go on from their slots: a *share* of the batch at most, whose slots hold what fits *shape*."""
        most = round(share * len(slots))
        fit = [k for k, slot in enumerate(slots) if slot in self._kept and self._kept[slot].shown.shape == tuple(shape)]
        return fit[:most]

    def take(self, slots: Sequence[int]) -> list[Kept]:
        """What these slots hold; the state in single precision."""
        return [kept._replace(state=kept.state.float()) for kept in (self._kept[slot] for slot in slots)]

    def put(self, slots: Sequence[int], kept: Sequence[Kept]) -> None:
        """Hold what was reached, in place of what these slots held."""
        for slot, one in zip(slots, kept, strict=True):
            parts = (one.shown, one.target, one.state.half())
            self._kept[slot] = Kept(*(part.detach().clone() for part in parts))

    def state_dict(self) -> dict[str, Any]:
        """As a checkpoint keeps it."""
        return {"size": self.size, "slots": {slot: list(kept) for slot, kept in self._kept.items()}}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse.

        Raises:
            InvalidInput: If it was of another size.
        """
        if saved.get("size") != self.size:
            raise InvalidInput(f"pool={self.size}: the run to resume has pool={saved.get('size')}; it takes the same.")
        self._kept = {int(slot): Kept(*kept) for slot, kept in saved["slots"].items()}


def stacked(kept: Sequence[Kept], like: Tensor) -> Kept:
    """Several as one batch, on the device of *like*."""
    return Kept(*(torch.stack(parts).to(like.device) for parts in zip(*kept, strict=True)))
