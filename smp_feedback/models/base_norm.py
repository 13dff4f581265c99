"""Another norm in place of a base's BatchNorm, so that a loop and its feed-forward twin differ in the loop alone.

BatchNorm sees several looks where its twin sees one, and small batches hurt both unequally: much of what looks like
the gain of feedback is then the gain of another normalisation (``docs/comparison.md``). GroupNorm in turn averages over
the image, so that what a model learned of images of one size does not carry over to another: ``pixel`` does not, and
takes the place of every norm that does (the decoder of FPN has GroupNorms of its own).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from timm.layers import GroupNorm, GroupNorm1
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from smp_feedback.checks import check_choice
from smp_feedback.errors import InvalidValue, SurgeryError
from smp_feedback.ops.normalise import most_groups, per_pixel

GROUPS = 8
"""Most groups of one normalisation, as in Deep Feedback Models (arXiv 2509.15905)."""

PLAIN = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.GroupNorm, GroupNorm, GroupNorm1),
)


class GroupForBatch(nn.GroupNorm):
    """The GroupNorm that took a BatchNorm's place, with what timm's BatchNorm does after normalising."""

    def __init__(self, norm: _BatchNorm) -> None:
        groups = most_groups(norm.num_features, GROUPS)
        super().__init__(groups, norm.num_features, norm.eps, norm.affine, **_place(norm))
        if norm.affine:
            self.weight, self.bias = norm.weight, norm.bias
        self.after = _after(norm)

    def forward(self, x: Any) -> Any:
        """(B, C, ...) -> (B, C, ...)."""
        # functional.group_norm refuses a group of one value, in batches of one image alone (in PAN)
        return self.after(torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps))


class PixelForSpace(nn.Module):
    """The norm of each pixel (:func:`per_pixel`) that took the place of one over space, with what timm's does after it.

    What it makes of a pixel depends on no other, nor on the size of the image.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.num_features = norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features
        self.eps = norm.eps
        self.register_parameter("weight", norm.weight)
        self.register_parameter("bias", norm.bias)
        self.after = _after(norm)

    def forward(self, x: Any) -> Any:
        """(B, C, ...) -> (B, C, ...)."""
        return self.after(per_pixel(x, self.eps, self.weight, self.bias))

    def extra_repr(self) -> str:
        """As BatchNorm shows itself."""
        return f"{self.num_features}, eps={self.eps}, affine={self.weight is not None}"


NORMS: dict[str, Callable[[Any], nn.Module]] = {"group": GroupForBatch, "pixel": PixelForSpace}
"""What ``base_norm=`` may put in a norm's place."""

REPLACED = {"group": (_BatchNorm,), "pixel": (_BatchNorm, nn.GroupNorm, _InstanceNorm)}
"""In whose place each is put."""


def with_base_norm(model: nn.Module, base_norm: str) -> nn.Module:
    """Put another normalisation in the place of every BatchNorm of *model*, ``pixel`` of every norm over space.

    In place; returns the model.

    Scales and shifts are kept, running statistics are not. Whatever was learned with another norm has to be trained
    again.

    Args:
        model: Any model.
        base_norm: ``group``, up to 8 groups, as many as divide the channels; or ``pixel``, over the channels of each
            pixel on its own, in the place of GroupNorm and InstanceNorm, too. LayerNorm stays.

    Raises:
        InvalidValue: If there is no such normalisation.
        SurgeryError: If a norm is of an unknown kind; nothing has been changed then.

    >>> net = with_base_norm(nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12)), "group")
    >>> net[1].num_groups
    6
    >>> with_base_norm(nn.BatchNorm2d(12), "pixel")(torch.ones(1, 12, 1, 1)).mean().round(decimals=4).item()
    1.0
    """
    check_choice("base_norm", base_norm, tuple(NORMS))
    norms = {name: norm for name, norm in model.named_modules() if isinstance(norm, REPLACED[base_norm])}
    for name, norm in norms.items():
        if type(norm) not in PLAIN and not {"drop", "act"} <= dict(norm.named_children()).keys():
            raise SurgeryError(f"{name} is a {type(norm).__name__}, a norm of a kind that is not known here.")
    # by identity, so that one that is used twice stays one
    made = {id(norm): NORMS[base_norm](norm).train(norm.training) for norm in norms.values()}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and id(child) in made:
                setattr(parent, name, made[id(child)])
    return made.get(id(model), model)


def check_base_norm(base_norm: str | None, encoder_weights: object) -> None:
    """*base_norm* is None or one of :data:`NORMS`, and is not asked of weights that were learned with BatchNorm."""
    if base_norm is None:
        return
    check_choice("base_norm", base_norm, tuple(NORMS))
    if encoder_weights is not None:
        raise InvalidValue(
            f"base_norm={base_norm!r} with encoder_weights={encoder_weights!r}: pretrained weights were learned with "
            "BatchNorm. Give encoder_weights=None, or convert the model yourself with "
            "smp_feedback.models.base_norm.with_base_norm, and train it again."
        )


def base_norm_of(model: nn.Module) -> str | None:
    """What ``create`` was told, read from the model."""
    parts = [type(part) for part in model.modules()]
    return next((name for name, norm in NORMS.items() if norm in parts), None)


def _after(norm: nn.Module) -> nn.Sequential:
    """What timm's norms do after normalising."""
    return nn.Sequential(*(part for name, part in norm.named_children() if name in ("drop", "act")))


def _place(norm: _BatchNorm) -> dict[str, Any]:
    """Where the tensors of *norm* are, and of which type."""
    like = next(norm.parameters(), norm.running_mean)
    return {} if like is None else cast(dict[str, Any], {"device": like.device, "dtype": like.dtype})
