"""The optimiser: AdamW, or what is asked for, over groups of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from torch import nn
from torch.optim import AdamW, Optimizer

from smp_feedback.checks import check_number
from smp_feedback.errors import InvalidValue
from smp_feedback.saving.weights import PREFIX
from smp_feedback.surgery.extension import ClosedLoop

OptimizerCallable = Callable[[Iterable[nn.Parameter]], Optimizer]


def make_optimizer(
    model: nn.Module,
    make: OptimizerCallable | None,
    lr: float,
    weight_decay: float,
    feedback_lr: float | None = None,
) -> Optimizer:
    """The optimiser over all parameters; norms, biases and the residual's gamma (all of one dimension) do not decay.

    Args:
        model: Whose parameters.
        make: Called with parameter groups; None is AdamW.
        lr: AdamW's peak learning rate.
        weight_decay: AdamW's; another optimiser brings its own.
        feedback_lr: The peak learning rate of what a loop added, in groups of its own; None is that of the base.

    Raises:
        InvalidValue: If the optimiser refuses its arguments, or groups of parameters (L-BFGS).
    """
    groups = groups_of(model, feedback_lr)
    if make is None:
        optimizer: Optimizer = AdamW(groups, lr=lr, weight_decay=weight_decay)
    else:
        try:
            optimizer = make(cast("Iterable[nn.Parameter]", groups))
        except (TypeError, ValueError) as error:
            many = f"{len(groups)} groups of parameters"
            raise InvalidValue(f"optimizer={make!r:.60} does not take {many}: {error}") from error
    for group in optimizer.param_groups:
        if "weight_decay" in group and all(p.ndim <= 1 for p in group["params"]):
            group["weight_decay"] = 0.0
    return optimizer


def groups_of(model: nn.Module, feedback_lr: float | None) -> list[dict[str, Any]]:
    """What decays and what does not, of all parameters in their order; with a *feedback_lr* those of the base first.

    >>> net = nn.ModuleDict({"encoder": nn.Linear(2, 3), "feedback": nn.Linear(2, 3)})
    >>> [len(group["params"]) for group in groups_of(net, None)], [group.get("lr") for group in groups_of(net, 0.1)]
    ([2, 2], [None, None, 0.1, 0.1])
    """
    named = [(is_new(name), p) for name, p in model.named_parameters() if p.requires_grad]
    every = [p for _, p in named]
    rated: list[tuple[list[nn.Parameter], dict[str, Any]]] = [(every, {})]
    if feedback_lr is not None:
        rated = [([p for new, p in named if not new], {}), ([p for new, p in named if new], {"lr": feedback_lr})]
    sides = [(side, rate, decays) for side, rate in rated for decays in (True, False)]
    groups = [{"params": [p for p in side if (p.ndim > 1) == decays], **rate} for side, rate, decays in sides]
    return [group for group in groups if group["params"]]


def is_new(name: str) -> bool:
    """Whether the parameter *name* is one that a loop added to a base: all that stands under ``feedback``.

    >>> is_new("model.feedback.dynamics.gamma"), is_new("model.encoder.conv1.weight")
    (True, False)
    """
    return name.removeprefix("model.").startswith(PREFIX)


def check_feedback_lr(model: nn.Module, feedback_lr: float | None) -> None:
    """*feedback_lr* is None, or a learning rate that something in *model* has.

    Raises:
        InvalidValue, InvalidType: If it is none, or *model* has one look.
    """
    if feedback_lr is None:
        return
    check_number("feedback_lr", feedback_lr, above=0)
    if not isinstance(model, ClosedLoop):
        raise InvalidValue(
            f"feedback_lr={feedback_lr} is the learning rate of what a loop adds, and this {type(model).__name__} has "
            "none (feedback=false): leave it null."
        )
