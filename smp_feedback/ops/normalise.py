"""Normalisation without parameters: what bounds every correction, whatever the weights."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from smp_feedback.errors import InvalidValue

Normalise = Callable[[Tensor], Tensor]


def normaliser(norm: str | int, channels: int, field: str = "norm") -> Normalise:
    """The normalisation called *norm*, for states of *channels* channels.

    ``layer`` is one group over channels and space, ``instance`` one group per channel (the LayerNorm over
    space of arXiv 2507.10143, without its per-pixel affine maps, is the same), a number that many groups,
    ``none`` the identity. Biased variance, eps 1e-5 (arXiv 2509.15905 uses the instance form).

    Raises:
        InvalidValue: If the groups do not divide the channels.

    >>> import torch
    >>> x = torch.randn(2, 3, 8, 8)
    >>> bool(normaliser("layer", 3)(x).square().mean((1, 2, 3)).sub(1).abs().max() < 1e-4)
    True
    """
    if norm == "none":
        return _identity
    groups = {"layer": 1, "instance": channels}.get(norm, norm) if isinstance(norm, str) else norm
    if not isinstance(groups, int) or channels % groups:
        raise InvalidValue(f"{field}={norm!r}: expected groups that divide the {channels} channels of this state.")
    return functools.partial(F.group_norm, num_groups=groups)


def most_groups(channels: int, most: int = 8) -> int:
    """The largest number of groups up to *most* that divides *channels*.

    >>> most_groups(512 + 16), most_groups(512 + 10)
    (8, 6)
    """
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


def _identity(x: Tensor) -> Tensor:
    return x
