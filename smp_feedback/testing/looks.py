"""One look a frame: what a model whose state goes on from call to call promises of its looks."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from smp_feedback.loops.base import FeedbackModel, Step
from smp_feedback.testing.promises import check_close, hearing

MORE = 2  # looks beyond those of the config, which have no statistics of their own


@torch.no_grad()
def check_looks(model: FeedbackModel, image: Tensor) -> None:
    """Looks at one image are its trajectory to the bit, for two streams in turns too, and saved between any two.

    A stream that is reset answers as a new one, and its neighbours as if nothing had been.

    Args:
        model: A looping model whose dynamics carry their state; left in evaluation mode.
        image: (B, C, H, W), B >= 2, of a size it takes.

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", classes=3, feedback=smpf.Recurrent(dynamics="gated", steps=2))
    >>> check_looks(model, torch.rand(2, 3, 16, 16))
    """
    with hearing(model.eval()):
        count = model._count(None) + MORE
        check_one_call(model, image, count)
        check_in_turns(model, image, image.flip(-1), count)
        check_saved_look(model, image)
        check_reset(model, image)


def looked(model: FeedbackModel, frames: list[Tensor], before: Step | None = None) -> list[Step]:
    """One look at each of *frames*."""
    steps = []
    for frame in frames:
        before = model.look(frame, before)
        steps.append(before)
    return steps


def check_one_call(model: FeedbackModel, image: Tensor, count: int) -> None:
    """T looks are the trajectory of T, and so are those of a call that goes on from any of them."""
    path = model.trajectory(image, count)
    steps = looked(model, [image] * count)
    for t, step in enumerate(steps):
        assert torch.equal(step.logits, path[t]), f"look {t} is not that of the trajectory"
    for first in range(1, count):
        *_, last = model.iterate(image, count - first, before=steps[first - 1])
        assert torch.equal(last.logits, path[-1]), f"{first} looks and {count - first} are not {count}"


def check_in_turns(model: FeedbackModel, one: Tensor, other: Tensor, count: int) -> None:
    """Two streams looked at in turns answer as each alone: nothing is left on the model."""
    alone = looked(model, [one] * count), looked(model, [other] * count)
    before: list[Step | None] = [None, None]
    for t in range(count):
        for i, image in enumerate((one, other)):
            before[i] = step = model.look(image, before[i])
            assert torch.equal(step.logits, alone[i][t].logits), f"look {t} hears of another stream"


def check_saved_look(model: FeedbackModel, image: Tensor) -> None:
    """A saved look is the look, and a copy of the model goes on from it, to rounding: what is saved is contiguous."""
    first, expected = looked(model, [image, image.flip(-2)])
    saved = {name: x.clone() for name, x in first.state_dict().items()}
    twin = copy.deepcopy(model)
    step = twin.step_from(saved)
    for name in ("state", "looks"):
        assert torch.equal(getattr(step, name), getattr(first, name)), f"saved, its {name} is another"
    again = twin.look(image.flip(-2), step)
    for name, found, meant in (
        ("logits are others", step.logits, first.logits),
        ("change is another", step.change, first.change),
        ("next look is another", again.logits, expected.logits),
    ):
        assert torch.allclose(found, meant, rtol=1e-4, atol=1e-5), f"saved, its {name}"


def check_reset(model: FeedbackModel, image: Tensor) -> None:
    """The first stream of a batch begins anew, and the others go on."""
    mask = torch.arange(len(image), device=image.device) == 0
    frames = [image, image.flip(-1), image.flip(-2), image]
    going = looked(model, frames)
    anew = looked(model, frames[2:])
    reset = looked(model, frames[2:], going[1].reset(mask))
    for step, new, old in zip(reset, anew, going[2:], strict=True):
        check_close(step.logits[mask], new.logits[mask], "a stream that was reset answers otherwise than a new one")
        check_close(step.logits[~mask], old.logits[~mask], "a stream hears that another was reset")
        assert torch.equal(step.looks, torch.where(mask, new.looks, old.looks)), "looks are counted otherwise"
