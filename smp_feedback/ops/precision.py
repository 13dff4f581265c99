"""Modules whose weights are as precise as what they are applied to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from smp_feedback.errors import InvalidType


class SinglePrecision(nn.Module):
    """A module whose weights stay in float32, or better, when the model that it is part of goes to half precision.

    A state accumulates in float32 whatever the model computes in, so what is applied to it has to be as precise.

    >>> part = SinglePrecision()
    >>> part.mix = nn.Linear(1, 1)
    >>> part.half().mix.weight.dtype, part.double().mix.weight.dtype
    (torch.float32, torch.float64)
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """As ``nn.Module``, of which ``.to()``, ``.half()`` and ``.cuda()`` are made; half precision is left out."""

        def moved(x: Tensor) -> Tensor:
            new = fn(x)
            if not new.is_floating_point() or new.dtype in (torch.float32, torch.float64):
                return new
            return (x if x.dtype in (torch.float32, torch.float64) else x.float()).to(new.device)

        apply: Any = super()._apply
        apply(moved, recurse)
        return self


def check_registered(part: nn.Module, who: str) -> None:
    """Every weight that *part* keeps is one that torch knows of: trained, moved and saved with it.

    Raises:
        InvalidType: If one stands in a list, a tuple, a dict or another object, or is no ``nn.Parameter``.

    >>> part = nn.Module()
    >>> part.convs = [nn.Linear(1, 1)]
    >>> check_registered(part, "projection='mine'")
    Traceback (most recent call last):
    smp_feedback.errors.InvalidType: projection='mine': 'convs' holds weights that are neither trained nor saved: ...
    """
    known = {id(x) for x in (*part.modules(), *part.parameters(), *part.buffers())}
    for module in part.modules():
        for name, value in vars(module).items():
            if name not in TORCHS and any(id(x) not in known for x in _kept_in(value)):
                raise InvalidType(
                    f"{who}: {name!r} holds weights that are neither trained nor saved: make it an nn.Module, "
                    "nn.ModuleList, nn.ModuleDict or nn.Parameter, and set it as an attribute."
                )


TORCHS = {"_parameters", "_modules", "_buffers"}


def _kept_in(value: Any) -> list[Any]:
    """What would be trained: modules with parameters, and tensors that require gradient, in rows of any depth."""
    if isinstance(value, nn.Module):
        return [value] if any(True for _ in value.parameters()) else []
    if isinstance(value, Tensor):
        return [value] if value.requires_grad else []
    if isinstance(value, Mapping):
        value = list(value.values())
    return [x for one in value for x in _kept_in(one)] if isinstance(value, list | tuple | set) else []
