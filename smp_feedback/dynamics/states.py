"""A state of one map or of several, as the one tensor that a loop carries from look to look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from smp_feedback.errors import InvalidType, InvalidValue

AnyRule = Callable[[Any, Tensor, int], Any]
"""A rule as its author writes it: of a map, or of a named tuple of maps."""


def check_state_class(of: object, widths: Sequence[int], channels: int, who: str) -> None:
    """*of* is a named tuple with a map for each of *widths*, of which the first is what head and projection read.

    Raises:
        InvalidType: If it is no named tuple of one map or more.
        InvalidValue: If its widths are not those of its fields, or the first is not that of the state.
    """
    names = getattr(of, "_fields", ())
    if not (isinstance(of, type) and issubclass(of, tuple) and names):
        raise InvalidType(f"{who}: state_class is {of!r:.80}; expected a NamedTuple of maps, one field for each.")
    whole = all(isinstance(width, int) and not isinstance(width, bool) and width >= 1 for width in widths)
    if len(widths) != len(names) or not whole:
        raise InvalidValue(
            f"{who}: widths() gives {tuple(widths)}; expected channels >= 1 for each of {', '.join(names)}."
        )
    if widths[0] != channels:
        raise InvalidValue(
            f"{who}: its first map, {names[0]!r}, has {widths[0]} channels; expected {channels}: it is what the "
            "head reads and of which is fed back."
        )


def unpacked(state: Tensor, of: type[tuple[Any, ...]], widths: Sequence[int]) -> Any:
    """The maps of a *state* (B, sum of widths, h, w), as a named tuple *of* them.

    >>> from typing import NamedTuple
    >>> class Two(NamedTuple):
    ...     hidden: Tensor
    ...     cell: Tensor
    >>> unpacked(torch.ones(1, 5, 2, 2), Two, (2, 3)).cell.shape
    torch.Size([1, 3, 2, 2])
    """
    return of(*torch.split(state, list(widths), 1))


def over_several(rule: AnyRule, of: type[tuple[Any, ...]], widths: Sequence[int], who: str) -> AnyRule:
    """A *rule* of a named tuple of maps as one of the maps side by side."""

    def turned(state: Tensor, correction: Tensor, t: int) -> Tensor:
        maps = unpacked(state, of, widths)
        new = rule(maps, correction, t)
        if not isinstance(new, tuple) or len(new) != len(maps):
            raise InvalidType(
                f"{who}: its rule gave {_said(new)}; expected a {of.__name__} of {', '.join(cast(Any, of)._fields)}."
            )
        return torch.cat(
            [
                _alike(one, old, f"{who}: its rule, of {name!r},")
                for one, old, name in zip(new, maps, cast(Any, of)._fields, strict=True)
            ],
            1,
        )

    return turned


def over_one(rule: AnyRule, who: str) -> AnyRule:
    """A *rule* of one map, held to what it is given."""

    def turned(state: Tensor, correction: Tensor, t: int) -> Tensor:
        return _alike(rule(state, correction, t), state, f"{who}: its rule")

    return turned


def _alike(new: object, old: Tensor, who: str) -> Tensor:
    """*new* is a map like *old*. Costs nothing on a device; while a graph is recorded, nothing is asked."""
    if torch.compiler.is_compiling():
        return cast(Tensor, new)
    if not isinstance(new, Tensor) or (new.shape, new.dtype, new.device) != (old.shape, old.dtype, old.device):
        raise InvalidValue(
            f"{who} gave {_said(new)} for a state {_said(old)}: the next state is of the same shape, dtype and device. "
            "smp_feedback.testing.check_dynamics finds such faults."
        )
    return new


def _said(x: object) -> str:
    if isinstance(x, Tensor):
        place = "" if x.device.type == "cpu" else f" on {x.device}"
        return f"{tuple(x.shape)} of {x.dtype}{place}"
    if isinstance(x, tuple):
        return f"a {type(x).__name__} of {len(x)}"
    return f"{x!r:.40} ({type(x).__name__})"
