"""Losses of logits and class indices."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.ops.reading import labels_of
from smp_feedback.registry.public import catalogue
from smp_feedback.training.build_loss import build_loss

CLASSES = 3
IGNORED = (255, -1)


def check_loss(name: str, **arguments: Any) -> None:
    """The loss *name* is a pure function that judges: a finite number, lower for the right answer, with a gradient.

    The order of the batch does not matter, extreme logits are survived, descending it leads to the right answer; and
    where it takes an ``ignore_index``, what is ignored changes neither value nor gradient.

    Args:
        name: A registered name.
        **arguments: Its own.

    >>> check_loss("focal", gamma=1.0)
    """
    make = catalogue().losses[name]
    loss = build_loss(name, arguments=arguments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        check_scalar(loss)
        check_judges(loss)
        check_order(loss)
        check_extremes(loss)
        check_descends(loss)
        for index in IGNORED if "ignore_index" in inspect.signature(make).parameters else ():
            check_ignores(build_loss(name, index, arguments), index)


def batch() -> tuple[Tensor, Tensor]:
    """Logits (2, 3, 8, 8) and class indices (2, 8, 8), of which each class has some."""
    return torch.randn(2, CLASSES, 8, 8), torch.arange(128).remainder(CLASSES).reshape(2, 8, 8).flip(1)


def certain(target: Tensor, by: float = 10.0) -> Tensor:
    """Logits that are sure of *target*, by a distance of *by*."""
    return by * F.one_hot(target, CLASSES).permute(0, 3, 1, 2).float()


def check_scalar(loss: nn.Module) -> None:
    """A finite number of no dimensions, the same each time; its arguments are left as they were; a finite gradient."""
    logits, target = batch()
    given = (logits.clone(), target.clone())
    logits.requires_grad_()
    value = loss(logits, target)
    assert isinstance(value, Tensor), f"it is a {type(value).__name__}: expected a tensor"
    assert value.ndim == 0, f"it has the shape {tuple(value.shape)}: expected a number, ()"
    assert value.dtype == logits.dtype, f"it is {value.dtype}, of logits of {logits.dtype}"
    assert value.isfinite(), f"it is {value.item()}"
    assert value.requires_grad, "it has no gradient: it is not computed from the logits"
    assert torch.equal(loss(logits, target), value), "computed twice, it is another"
    assert torch.equal(logits, given[0]), "it wrote into the logits"
    assert torch.equal(target, given[1]), "it wrote into the target"
    value.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None, "it has no gradient"
    assert logits.grad.isfinite().all(), "its gradient is not finite"
    assert logits.grad.any(), "its gradient is zero"


def check_judges(loss: nn.Module) -> None:
    """Lower for the right answer than for none, and for none than for a wrong one."""
    _, target = batch()
    right, wrong = (float(loss(certain(t), target)) for t in (target, (target + 1) % CLASSES))
    none = float(loss(torch.zeros(2, CLASSES, 8, 8), target))
    assert right < none, f"the right answer costs {right:.4g}, no answer {none:.4g}"
    assert right < wrong, f"the right answer costs {right:.4g}, a wrong one {wrong:.4g}"


def check_order(loss: nn.Module) -> None:
    """The order of the images does not matter, nor that of the pixels' rows; an image alone has a loss, too."""
    logits, target = batch()
    value = loss(logits, target)
    for axis in (0, 2):
        turned = loss(logits.flip(axis), target.flip(axis - 1 if axis else 0))
        torch.testing.assert_close(turned, value, msg="it depends on the order of the images or pixels")
    assert loss(logits[:1], target[:1]).isfinite(), "of a single image it is not finite"


def check_extremes(loss: nn.Module) -> None:
    """Logits of +-50, right and wrong, have a finite loss and a finite gradient."""
    _, target = batch()
    for said in (target, (target + 1) % CLASSES):
        logits = (certain(said, 100.0) - 50).requires_grad_()
        value = loss(logits, target)
        value.backward()
        assert value.isfinite(), f"of logits of 50 it is {value.item()}"
        assert logits.grad is not None
        assert logits.grad.isfinite().all(), "of logits of 50 its gradient is not finite"


def check_descends(loss: nn.Module) -> None:
    """Forty steps along its gradient make the answer right at more pixels, and the loss lower."""
    logits, target = batch()
    logits.requires_grad_()
    start, values = (labels_of(logits) == target).float().mean(), []
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        values.append(loss(logits, target))
        values[-1].backward()
        optimizer.step()
    assert values[-1] < values[0], f"after 40 steps along its gradient it is {values[-1]:.4g}, before {values[0]:.4g}"
    assert (labels_of(logits) == target).float().mean() > start, "after 40 steps along its gradient no more is right"


def check_ignores(loss: nn.Module, index: int) -> None:
    """Where the target is *index*, nothing that is said changes the loss, and no gradient arrives."""
    logits, target = batch()
    target[:, 2] = index
    other = logits.clone()
    other[:, :, 2] = 7 * other[:, :, 2].flip(1)
    logits.requires_grad_()
    value = loss(logits, target)
    torch.testing.assert_close(loss(other, target), value, msg=f"ignore_index={index}: what is ignored counts")
    value.backward()
    assert logits.grad is not None
    assert logits.grad.any(), f"ignore_index={index}: nothing counts any more"
    assert not logits.grad[:, :, 2].any(), f"ignore_index={index}: what is ignored has a gradient"
    target[:, 2] = 1  # the first class may be a background that costs nothing
    assert not torch.equal(loss(logits, target), value), f"ignore_index={index}: it ignores what is not ignored, too"
