"""Normalisation without parameters: what bounds every correction, whatever the weights."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from smp_feedback.errors import InvalidValue
from smp_feedback.ops.maps import laid_out_as

Normalise = Callable[[Tensor], Tensor]


def normaliser(norm: str | int, channels: int, field: str = "norm") -> Normalise:
    """The normalisation called *norm*, for states of *channels* channels.

    ``layer`` is one group over channels and space, ``instance`` one group per channel (the LayerNorm over
    space of arXiv 2507.10143, without its per-pixel affine maps, is the same), a number that many groups,
    ``none`` the identity. Biased variance, eps 1e-5 (arXiv 2509.15905 uses the instance form). ``pixel`` alone sees
    no space (:func:`per_pixel`): what it makes of a pixel depends neither on the others nor on how many there are.

    Raises:
        InvalidValue: If the groups do not divide the channels.

    >>> import torch
    >>> x = torch.randn(2, 3, 8, 8)
    >>> bool(normaliser("layer", 3)(x).square().mean((1, 2, 3)).sub(1).abs().max() < 1e-4)
    True
    """
    if norm == "none":
        return _identity
    if norm == "pixel":
        return per_pixel
    groups = {"layer": 1, "instance": channels}.get(norm, norm) if isinstance(norm, str) else norm
    if not isinstance(groups, int) or channels % groups:
        raise InvalidValue(f"{field}={norm!r}: expected groups that divide the {channels} channels of this state.")
    return functools.partial(_group_norm, groups=groups)


def _group_norm(x: Tensor, groups: int) -> Tensor:
    """Over channels and space of each group, laid out as *x*.

    Computed channels first: of channels-last maps, as transformers make them, torch computes the
    variance on a CPU as the mean of squares less the squared mean, of which little is left where a map is nearly even.
    ``functional.group_norm`` refuses a group of one value, in batches of one image alone.
    """
    return laid_out_as(torch.group_norm(x.contiguous(), groups), x)


def per_pixel(x: Tensor, eps: float = 1e-5, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """``x / sqrt(mean over channels of x^2 + eps)`` at each pixel, then times *weight* plus *bias*.

    No mean is taken out. Half precision, in which squares overflow from 256 on, is computed in float32.

    Args:
        x: (B, C, ...).
        eps: What keeps a pixel of zeros at zero.
        weight: (C,); None is 1.
        bias: (C,); None is 0.

    Returns:
        As *x*: without *weight* of rms 1 over the channels of each pixel, or below where x is small.

    >>> per_pixel(torch.tensor([[3.0, -4.0]])).square().mean().round(decimals=4)
    tensor(1.)
    """
    precise = x if x.dtype in (torch.float32, torch.float64) else x.float()
    y = precise * precise.square().mean(1, keepdim=True).add(eps).rsqrt()
    each = (-1, *[1] * (x.ndim - 2))
    if weight is not None:
        y = y * weight.view(each)
    if bias is not None:
        y = y + bias.view(each)
    return y.to(x.dtype)


def most_groups(channels: int, most: int = 8) -> int:
    """The largest number of groups up to *most* that divides *channels*.

    >>> most_groups(512 + 16), most_groups(512 + 10)
    (8, 6)
    """
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


def _identity(x: Tensor) -> Tensor:
    return x
