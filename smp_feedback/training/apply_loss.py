"""A loss as training calls it: logits and targets are shaped as it takes them, and a batch of void costs nothing."""

from __future__ import annotations

from typing import Any, cast

import torch
from segmentation_models_pytorch.losses import FocalLoss, MCCLoss, SoftBCEWithLogitsLoss, SoftCrossEntropyLoss
from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.errors import InvalidInput
from smp_feedback.losses.mixture import LossMixture
from smp_feedback.losses.pixels import PixelLoss
from smp_feedback.ops.reading import MULTILABEL, per_class

OF_CHANCES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
"""Losses of how far numbers are from 0 and 1, as chances are: logits, which are read by their sign, are not."""
ELEMENTWISE = (SoftBCEWithLogitsLoss, *OF_CHANCES)
"""Losses of two tensors of one shape, floating point."""
EXCLUSIVE = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss, SoftCrossEntropyLoss, PixelLoss)
"""Losses of classes that exclude each other."""


def loss_of_look(
    loss: nn.Module,
    logits: Tensor,
    target: Tensor,
    look: int,
    *,
    ignore_index: int | None = None,
    named: bool = False,
) -> Tensor:
    """The loss of one look's logits, which is told which look it is if it asks: ``reads_steps = True``.

    One channel of logits x is given as [0, x] to losses of classes that exclude each other, whose cross-entropy then is
    the binary one; to binary losses it is given as it is. Losses of chances, or of their logarithms, are given those
    that the logits stand for. Where all of *target* is ignored the loss is 0, and so is its
    gradient, whatever the loss makes of no pixels; logits that are not finite stay so.

    Args:
        loss: Called as ``loss(logits, target)``, or as ``loss(logits, target, step=look)``.
        logits: (B, C, H, W), or (B, C).
        target: Class indices (B, H, W), or (B,); for ``multilabel`` (B, C, H, W) of 0 and 1.
        look: t, counted from 0.
        ignore_index: Label that does not count; None is the loss's own, if it has one.
        named: Whether *loss* came by its name: one of the user's own that is of neither smp nor torch, and of which we
            know nothing, is given one channel as it is.

    Returns:
        A scalar.

    Raises:
        InvalidInput: If the loss is one of single channels, and *logits* has several for one target; if what it gives
            is no number, or has no gradient where *logits* has one.

    >>> logits, target = torch.tensor([[2.0]]), torch.tensor([1])
    >>> [loss_of_look(loss(), logits, target, 0) for loss in (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss)]
    [tensor(0.1269), tensor(0.1269)]
    >>> loss_of_look(nn.CrossEntropyLoss(), logits, torch.tensor([255]), 0, ignore_index=255)
    tensor(0.)
    """
    void = getattr(loss, "ignore_index", None) if ignore_index is None else ignore_index
    if isinstance(loss, LossMixture):
        terms = (term.loss for term in loss.judging(look))
        values = [loss_of_look(one, logits, target, look, ignore_index=void, named=named) for one in terms]
        return loss.summed(logits, values, look)
    if isinstance(loss, nn.BCEWithLogitsLoss):
        return _binary_cross_entropy(loss, logits, target, void)
    target, counts = _spared(loss, target, void)
    value = checked_value(loss, _asked(loss, logits, target, look, named), logits)
    return value if counts is None else value * counts.to(value.dtype)


def checked_value(loss: object, value: Any, logits: Tensor) -> Tensor:
    """*value*, what *loss* gave for *logits*, is one number that can be descended; nothing waits for the device.

    Raises:
        InvalidInput: If it is not, with what it is.

    >>> checked_value(nn.MSELoss(), torch.ones(3), torch.ones(3))
    Traceback (most recent call last):
    smp_feedback.errors.InvalidInput: The loss MSELoss gave the shape (3,): expected one number, the mean over all...
    """
    name = type(loss).__name__
    if not isinstance(value, Tensor):
        raise InvalidInput(f"The loss {name} gave a {type(value).__name__}: expected a tensor of one number.")
    if value.ndim:
        shape = tuple(value.shape)
        raise InvalidInput(f"The loss {name} gave the shape {shape}: expected one number, the mean over all pixels.")
    if not value.is_floating_point():
        raise InvalidInput(f"The loss {name} gave {value.dtype}: expected a floating-point number.")
    if logits.requires_grad and torch.is_grad_enabled() and not value.requires_grad:
        raise InvalidInput(
            f"The loss {name} gave a number without a gradient: nothing would be learned; expected one that is "
            "computed from the logits, without detach(), item() or argmax()."
        )
    return value


def is_smps(make: object) -> bool:
    """Whether a loss, or what makes it, is of smp, or a subclass of one that is.

    >>> is_smps(FocalLoss), is_smps(nn.CrossEntropyLoss)
    (True, False)
    """
    kinds = (make if isinstance(make, type) else type(make)).__mro__
    return any(kind.__module__.startswith("segmentation_models_pytorch") for kind in kinds)


def _spared(loss: nn.Module, target: Tensor, void: int | None) -> tuple[Tensor, Tensor | None]:
    """*target*, one of void alone as if all were one class that counts; and whether anything does, ().

    So every loss is finite, and times 0 its gradient is, too; nothing leaves the device. A class of weight 0 is void.
    """
    weight = loss.weight if isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss)) else None
    if void is None and weight is None:
        return target, None
    counts = torch.ones_like(target, dtype=torch.bool) if void is None else target != void
    label = target.new_full((), 1 if void == 0 else 0)
    if weight is not None:
        known = torch.arange(len(weight), device=weight.device) != (-1 if void is None else void)
        counts &= weight[target.clamp(0, len(weight) - 1)] > 0
        label = weight.where(known, -1.0).argmax()
    there = counts.any()
    return torch.where(there, target, label), there


def _asked(loss: nn.Module, logits: Tensor, target: Tensor, look: int, named: bool) -> Tensor:
    told: dict[str, Any] = {"step": look} if getattr(loss, "reads_steps", False) else {}
    if isinstance(loss, ELEMENTWISE):
        return _elementwise(loss, logits.sigmoid() if isinstance(loss, OF_CHANCES) else logits, target)
    if isinstance(loss, nn.NLLLoss):  # of logarithms of chances
        return cast(Tensor, loss(per_class(logits).log_softmax(1), target))
    if isinstance(loss, MCCLoss):  # of chances, not of logits
        return cast(Tensor, loss(logits.sigmoid(), _in_channels(loss, logits, target).to(logits)))
    mode = getattr(loss, "mode", None) if is_smps(loss) else None
    if mode in ("binary", MULTILABEL):
        return _by_channel(loss, logits, _in_channels(loss, logits, target), mode)
    known = named or mode is not None or isinstance(loss, EXCLUSIVE)
    return cast(Tensor, loss(per_class(logits) if known else logits, target, **told))


def _in_channels(loss: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """*target* in the shape of *logits*."""
    if target.ndim == logits.ndim - 1 and logits.shape[1] == 1:
        return target[:, None]
    if target.shape != logits.shape:
        raise InvalidInput(
            f"logits of shape {tuple(logits.shape)} and target of shape {tuple(target.shape)}: "
            f"{type(loss).__name__} judges each channel on its own; expected a model of one channel (classes=1), "
            "multilabel masks of logits' shape, or another loss, such as cross_entropy."
        )
    return target


def _elementwise(loss: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    target = _in_channels(loss, logits, target).to(logits)
    weights = (getattr(loss, name, None) for name in ("weight", "pos_weight"))
    if any(weight is not None and weight.ndim == 1 for weight in weights):  # of channels, which come last then
        logits, target = logits.movedim(1, -1), target.movedim(1, -1)
    return cast(Tensor, loss(logits, target))


def _binary_cross_entropy(loss: nn.BCEWithLogitsLoss, logits: Tensor, target: Tensor, void: int | None) -> Tensor:
    """As *loss* has it, over what is not *void*; weights in one dimension are those of channels."""
    target = _in_channels(loss, logits, target)
    counts = torch.ones_like(target, dtype=torch.bool) if void is None else target != void
    weight, positive = (_by_channels(one, logits) for one in (loss.weight, loss.pos_weight))
    each = F.binary_cross_entropy_with_logits(
        logits, target.where(counts, 0).to(logits), weight, pos_weight=positive, reduction="none"
    )
    lost = (each * counts).sum()
    return lost / counts.sum().clamp_min(1) if loss.reduction == "mean" else lost


def _by_channels(weight: Tensor | None, logits: Tensor) -> Tensor | None:
    return weight.view(-1, *(1,) * (logits.ndim - 2)) if weight is not None and weight.ndim == 1 else weight


def _by_channel(loss: nn.Module, logits: Tensor, target: Tensor, mode: str) -> Tensor:
    """Of smp's binary and multilabel losses."""
    if isinstance(loss, FocalLoss) and mode == MULTILABEL and loss.ignore_index is not None:
        return _focal(loss, logits, target)
    return cast(Tensor, loss(logits, target))


def _focal(loss: FocalLoss, logits: Tensor, target: Tensor) -> Tensor:
    """smp's focal loss of several labels, of which it cannot leave out void: each channel's pixels that count."""
    counts = target != loss.ignore_index
    sure = logits.where(counts, -100.0)  # of "no", which costs nothing where that is right
    yes = target.where(counts, 0)
    each = [loss.focal_loss_fn(x, y, reduction="sum") for x, y in zip(sure.unbind(1), yes.unbind(1), strict=True)]
    lost = torch.stack(each)
    if loss.reduction == "mean":
        lost = lost / counts.transpose(0, 1).flatten(1).sum(1).clamp_min(1)
    weight = torch.ones_like(lost) if loss.class_weights is None else loss.class_weights.to(lost)
    return (lost * weight).sum() / weight.sum()
