"""GroupNorm in place of a base's BatchNorm, so that a loop and its feed-forward twin differ in the loop alone.

BatchNorm sees several looks where its twin sees one, and small batches hurt both unequally: much of what looks like
the gain of feedback is then the gain of another normalisation (``docs/comparison.md``).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from smp_feedback.checks import check_choice
from smp_feedback.errors import InvalidValue, SurgeryError
from smp_feedback.ops.normalise import most_groups

GROUPS = 8
"""Most groups of one normalisation, as in Deep Feedback Models (arXiv 2509.15905)."""

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class GroupForBatch(nn.GroupNorm):
    """The GroupNorm that took a BatchNorm's place, with what timm's BatchNorm does after normalising."""

    def __init__(self, norm: _BatchNorm) -> None:
        groups = most_groups(norm.num_features, GROUPS)
        like = next(norm.parameters(), norm.running_mean)
        place = {} if like is None else {"device": like.device, "dtype": like.dtype}
        super().__init__(groups, norm.num_features, norm.eps, norm.affine, **cast(Any, place))
        if norm.affine:
            self.weight, self.bias = norm.weight, norm.bias
        self.after = nn.Sequential(*(part for name, part in norm.named_children() if name in ("drop", "act")))

    def forward(self, x: Any) -> Any:
        """(B, C, ...) -> (B, C, ...)."""
        # functional.group_norm refuses a group of one value, in batches of one image alone (in PAN)
        return self.after(torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps))


def with_group_norm(model: nn.Module) -> nn.Module:
    """Put GroupNorm in the place of every BatchNorm of *model*, in place; returns it.

    Up to 8 groups, as many as divide the channels; scales and shifts are kept, running statistics are not. Whatever
    was learned with BatchNorm has to be trained again.

    Raises:
        SurgeryError: If a part is a BatchNorm of an unknown kind; nothing has been changed then.

    >>> import torch
    >>> net = with_group_norm(nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12)))
    >>> net[1].num_groups
    6
    """
    norms = {name: norm for name, norm in model.named_modules() if isinstance(norm, _BatchNorm)}
    for name, norm in norms.items():
        if type(norm) not in PLAIN and not {"drop", "act"} <= dict(norm.named_children()).keys():
            raise SurgeryError(f"{name} is a {type(norm).__name__}, a BatchNorm of a kind that is not known here.")
    made = {id(norm): GroupForBatch(norm) for norm in norms.values()}  # one that is used twice stays one
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and id(child) in made:
                setattr(parent, name, made[id(child)].train(child.training))
    return made.get(id(model), model)


def check_base_norm(base_norm: str | None, encoder_weights: object) -> None:
    """*base_norm* is None or ``group``, and ``group`` is not asked of weights that were learned with BatchNorm."""
    if base_norm is None:
        return
    check_choice("base_norm", base_norm, ("group",))
    if encoder_weights is not None:
        raise InvalidValue(
            f"base_norm='group' with encoder_weights={encoder_weights!r}: pretrained weights were learned with "
            "BatchNorm. Give encoder_weights=None, or convert the model yourself with "
            "smp_feedback.models.group_norm.with_group_norm, and train it again."
        )


def base_norm_of(model: nn.Module) -> str | None:
    """What ``create`` was told, read from the model."""
    return "group" if any(isinstance(part, GroupForBatch) for part in model.modules()) else None
