"""One look, as who iterates sees it; what costs is computed when it is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from smp_feedback.errors import InvalidValue
from smp_feedback.loops.beginnings import Beginnings, check_mask
from smp_feedback.loops.saved_look import check_saved
from smp_feedback.loops.step_words import in_notebook, in_words
from smp_feedback.loops.unroll import Turned
from smp_feedback.ops.maps import Size, resize, size_of

Answer = Callable[[Turned, Size], tuple[Tensor, Tensor | None]]
"""Computes the logits for an image of this size, and the labels of a model that has some."""


@dataclass(frozen=True, repr=False, eq=False)
class Step:
    """One look, as :meth:`FeedbackModel.iterate` yields it; what costs is computed when it is asked for.

    Attributes:
        index: The step, from 0; of a call that goes on from another, from where that one ended.
        size: Height and width of the image.
        beginnings: When each stream of the batch began, as its looks count it: later, of one that has stopped by
            itself; None where all did with the first look.
    """

    index: int
    size: Size
    _turned: Turned = field(repr=False)  # of a dataclass made from this one, too
    _before: Tensor | None = field(repr=False)
    _answer: Answer = field(repr=False)
    beginnings: Beginnings | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return in_words(self)

    def _repr_html_(self) -> str:
        return in_notebook(self)

    @property
    def state(self) -> Tensor:
        """What the model knows now (B, S + K, h, w)."""
        return self._turned.state

    @property
    def features(self) -> Tensor | None:
        """What the labels are made of, of a model that has some, else None."""
        return self._turned.features

    @functools.cached_property
    def _answers(self) -> tuple[Tensor, Tensor | None]:
        return self.answer()

    def answer(self) -> tuple[Tensor, Tensor | None]:
        """Logits and labels, computed with every call; the properties keep them."""
        return self._answer(self._turned, self.size)

    @property
    def logits(self) -> Tensor:
        """The prediction (B, classes, H, W)."""
        return self._answers[0]

    @property
    def labels(self) -> Tensor | None:
        """The image labels (B, classes) of a model with ``aux_params``, else None."""
        return self._answers[1]

    @property
    def looks(self) -> Tensor:
        """How many looks each image has had (B,), int64: ``index + 1`` of one that has not stopped by itself."""
        looks = self._turned.looks
        if looks is not None:
            return looks
        return torch.full((len(self.state),), self.index + 1, device=self.state.device)

    @functools.cached_property
    def change(self) -> Tensor:
        """How far this step moved each image's state, see :func:`relative_change` (B,)."""
        return relative_change(self._before, self.state)

    def detach(self) -> Self:
        """The same look without what led to it: no gradient goes through it, and no graph is kept for one."""
        return self._map(torch.Tensor.detach)

    def to(self, where: torch.device | str | torch.dtype) -> Self:
        """The same look on another device, or in another precision: the next one casts it to its image's.

        Its logits are the model's, so they are there for a model that is there, too.

        Raises:
            InvalidValue: If *where* is a dtype of whole numbers.
        """
        if not isinstance(where, torch.dtype):
            began = None if self.beginnings is None else self.beginnings.to(where)
            return replace(self._map(lambda x: x.to(where)), beginnings=began)
        if not where.is_floating_point:
            raise InvalidValue(f"{where}: a state holds real numbers; expected a floating-point dtype or a device.")
        return self._map(lambda x: x.to(where) if x.is_floating_point() else x)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same look with tensors of its own, in the same graph; the model that answers is no part of it."""
        alone = self._map(lambda x: memo.setdefault(id(x), x.clone()))
        began = self.beginnings
        return alone if began is None else replace(alone, beginnings=Beginnings(began.looks.clone()))

    def reset(self, mask: Tensor) -> Self:
        """The same look, after which some streams of the batch begin anew: as if the next one were their first.

        The others go on, and the look itself says what it said. Nothing waits for the device here; the next look does,
        once, where BatchNorm's statistics belong to the step.

        Args:
            mask: Which streams (B,), bool.

        Raises:
            InvalidType, InvalidInput: If *mask* is another thing, or of another shape.

        >>> import smp_feedback as smpf
        >>> model = smpf.create("PlainConv", feedback=smpf.Recurrent(dynamics="gated")).eval()
        >>> with torch.no_grad():
        ...     step = model.look(torch.rand(2, 3, 16, 16))
        ...     model.look(torch.rand(2, 3, 16, 16), step.reset(torch.tensor([True, False]))).looks
        tensor([1, 2])
        """
        check_mask(mask, len(self.state))
        mask = mask.to(self.state.device)
        began = torch.zeros_like(mask, dtype=torch.long) if self.beginnings is None else self.beginnings.looks
        return replace(self, beginnings=Beginnings(torch.where(mask, self.index + 1, began)))

    def resized(self, size: Size, grid: Size) -> Self:
        """The same look for an image of another *size*, whose state is a map on *grid*."""
        return replace(self, size=size, _turned=self._turned._replace(state=resize(self.state, grid)))

    def found(self) -> tuple[Tensor, Tensor]:
        """What the next look counts from: the state, zero where a stream begins anew, and how many looks each had."""
        if self.beginnings is None:
            return self.state, self.looks
        fresh = self.beginnings.at(self.index + 1)
        return self.state.masked_fill(fresh, 0.0), self.looks.masked_fill(fresh.flatten(), 0)

    def state_dict(self) -> dict[str, Tensor]:
        """The look as tensors, for ``torch.save`` or ``safetensors``; ``model.step_from`` makes it one again.

        Raises:
            InvalidValue: If it is of a loop that begins anew with every image.

        >>> import smp_feedback as smpf
        >>> model = smpf.create("PlainConv", feedback=smpf.Recurrent(dynamics="gated")).eval()
        >>> with torch.no_grad():
        ...     sorted(model.look(torch.rand(2, 3, 16, 16)).state_dict())
        ['index', 'looks', 'size', 'state']
        """
        if self._turned.more is not None:
            raise InvalidValue(f"A {type(self).__name__} is no look that another goes on from: there is none to save.")
        device = self.state.device
        parts = {
            "state": self.state,
            "before": self._before,
            "features": self._turned.features,
            "looks": self.looks,
            "began": None if self.beginnings is None else self.beginnings.looks,
            "index": torch.tensor(self.index, device=device),
            "size": torch.tensor(self.size, device=device),
        }
        return {name: x.detach().contiguous() for name, x in parts.items() if x is not None}

    @classmethod
    def from_state_dict(cls, saved: Mapping[str, Tensor], answer: Answer) -> Self:
        """The inverse of :meth:`state_dict`, answered by *answer*.

        Raises:
            InvalidType, InvalidInput: If *saved* is no saved look.
        """
        check_saved(saved)
        h, w = (int(side) for side in saved["size"])
        turned = Turned(saved["state"], saved.get("features"), looks=saved["looks"])
        began = None if "began" not in saved else Beginnings(saved["began"])
        return cls(int(saved["index"]), (h, w), turned, saved.get("before"), answer, began)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(
            self,
            _turned=self._turned.map(change),
            _before=None if self._before is None else change(self._before),
        )


def relative_change(old: Tensor | None, new: Tensor) -> Tensor:
    """``||new - old|| / ||new||`` per image (B,), dimensionless, without gradient; 0 at a fixed point.

    Args:
        old: State before (B, S, h, w); None is zero. Of another size, as the look resized it that made *new*.
        new: State after.

    >>> relative_change(torch.ones(2, 1, 4, 4), torch.full((2, 1, 4, 4), 2.0))
    tensor([0.5000, 0.5000])
    """
    if old is not None and old.ndim == 4:
        old = resize(old, size_of(new))
    new = new.detach().flatten(1)
    moved = new if old is None else new - old.detach().flatten(1)
    floor = torch.finfo(new.dtype).tiny
    change: Tensor = moved.norm(dim=1) / new.norm(dim=1).clamp_min(floor)
    return change
