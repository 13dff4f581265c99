"""Ways of closing the loop: what a loop is told, and what a call of it is told, is kept."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from smp_feedback.config.base import GradientFlow, LoopConfig
from smp_feedback.config.parse import as_config
from smp_feedback.config.stopping import until_settled
from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.factory import create
from smp_feedback.loops.base import FeedbackModel, Step
from smp_feedback.loops.call import Told
from smp_feedback.loops.looking import carries
from smp_feedback.ops.maps import masks_of, size_of
from smp_feedback.registry.public import catalogue
from smp_feedback.testing.architectures import SMALL, check_model
from smp_feedback.testing.looks import check_looks
from smp_feedback.testing.promises import hearing

STEPS = 3
ROUNDING = 1e-3, 1e-5  # of the largest of a parameter's gradient, and of the largest of all


def check_loop(name: str, image: Tensor | None = None, **settings: Any) -> None:
    """The loop *name* closes a small U-Net, and keeps what a model that looks again promises.

    Its config is a value that goes through JSON. A call is told how often to look, and how gradients flow; each look
    may have a backward pass of its own, unless the loop refuses that (``check_per_step``). Nothing is left behind,
    and a loop whose state goes on from call to call looks at films (:func:`check_looks`).

    Args:
        name: A registered name.
        image: (B, 3, H, W), B >= 2; None is two random images of 64 x 64.
        **settings: Fields of its config.

    >>> check_loop("recurrent", steps=2)
    """
    loop = catalogue().loops[name]
    assert isinstance(loop, type), f"{loop!r} is no class"
    assert issubclass(loop, FeedbackModel), f"{loop.__name__} is no subclass of FeedbackModel"
    config = as_config({"loop": name, **settings})
    assert config is not None
    check_config(config)
    model: FeedbackModel = create(**SMALL, feedback=config)
    assert isinstance(model, loop), f"close() gives a {type(model).__name__}, no {loop.__name__}"
    shown = torch.rand(2, 3, 64, 64) if image is None else image
    check_model(model, shown)
    check_told(model, shown)
    check_flow(model, shown)
    if carries(model):
        check_looks(model, shown)


def check_config(config: LoopConfig) -> None:
    """A frozen dataclass that goes to a dict, through JSON, and back, and refuses what is no field."""
    kind = type(config)
    assert dataclasses.is_dataclass(config), f"{kind.__name__} is no dataclass"
    assert cast(Any, kind).__dataclass_params__.frozen, f"{kind.__name__} is not frozen"
    written = json.loads(json.dumps(config.to_dict()))
    assert kind.from_dict(written) == config, f"from_dict(to_dict()) is another {kind.__name__}"
    try:
        kind.from_dict({**written, "no_such_field": 1})
    except FeedbackError:
        return
    raise AssertionError(f"{kind.__name__} takes a field that it does not have")


@torch.no_grad()
def check_told(model: FeedbackModel, image: Tensor) -> None:
    """A call looks as often as it is told, ``forward`` and ``iterate`` alike; a rule is kept, or refused."""
    with hearing(model.eval()):
        stops = model.loop_config.is_data_dependent
        for count in (1, model._count(None) + 1):
            steps = list(model.iterate(image, count))
            found = [step.index for step in steps]
            assert found == [*range(len(found))], f"steps={count}: its looks are numbered {found}"
            assert len(found) == count or (stops and 0 < len(found) < count), f"steps={count}: {len(found)} looks"
            answer = masks_of(model(image, steps=count))
            assert torch.equal(answer, steps[-1].logits), f"steps={count}: forward is not the last look of iterate"
        try:
            model(image, steps=-1)
        except FeedbackError:
            pass
        else:
            raise AssertionError("steps=-1 is not refused")
        _check_rule(model, image)


def _check_rule(model: FeedbackModel, image: Tensor) -> None:
    rule = until_settled(2, at_most=STEPS)
    try:
        model._check_stops(rule)
    except InvalidValue:
        return
    steps = list(model.iterate(image, rule))
    assert 0 < len(steps) <= STEPS, f"steps={rule}: {len(steps)} looks"
    assert torch.equal(masks_of(model(image, steps=rule)), steps[-1].logits), f"steps={rule}: forward is not iterate"


def check_flow(model: FeedbackModel, image: Tensor) -> None:
    """Gradients flow through time as a call is told: through its last looks alone, or through each on its own.

    A backward pass for each look is then that of all losses together, in less memory.
    """
    with hearing(model.eval()):
        last = _gradients(model, lambda: _loss([*model.iterate(image, STEPS, grad_steps=1)][-1]))
        for step in list(model.iterate(image, STEPS, grad_steps=1))[: STEPS - 1]:
            if step.index < STEPS - 1:
                assert not step.state.requires_grad, f"grad_steps=1: look {step.index} of {STEPS} carries gradient"
        try:
            model.check_per_step("backward_per_step:")
        except InvalidValue:
            return
        alone = _gradients(model, lambda: _loss([*_detached(model, image)][-1]))
        _check_same(alone, last, "with flow.detach gradient crosses from a look to the one before")
        together = _gradients(model, lambda: torch.stack([*map(_loss, _detached(model, image))]).sum())
        each = _gradients(model, functools.partial(_sent_back, model, image))
        _check_same(each, together, "backward_per_step is not the gradient of the sum of the losses")
        _sent_back(model.train(), image)
        model.eval().zero_grad(set_to_none=True)


def _loss(step: Step) -> Tensor:
    return (step.index + 1) * step.logits.square().mean()


def _detached(model: FeedbackModel, image: Tensor) -> Iterator[Step]:
    """Its looks, each on its own, of which one backward pass goes through all."""
    return model._as_steps(model._turns(image, Told(STEPS, GradientFlow(detach=True))), size_of(image))


def _sent_back(model: FeedbackModel, image: Tensor) -> None:
    try:
        losses = model.backward_per_step(image, _loss, STEPS)
    except RuntimeError as error:
        raise AssertionError(f"a backward pass for each look fails: {error}") from error
    except InvalidValue as error:
        raise AssertionError(f"{error} A loop that cannot refuses it beforehand, in check_per_step.") from error
    assert losses.isfinite().all(), "a backward pass for each look: a loss is not finite"


def _gradients(model: FeedbackModel, run: Callable[[], Tensor | None]) -> dict[str, Tensor]:
    """The gradient of every parameter that gets one, under the same dice for all: of what *run* gives, if anything."""
    model.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loss = run()
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _check_same(found: dict[str, Tensor], expected: dict[str, Tensor], words: str) -> None:
    largest = max((float(x.abs().max()) for x in expected.values()), default=0.0)
    for name in found.keys() | expected.keys():
        mine, its = (each.get(name, torch.zeros(())) for each in (found, expected))
        allowed = ROUNDING[0] * float(its.abs().max()) + ROUNDING[1] * largest
        off = float((mine - its).abs().max())
        assert off <= allowed, f"{words}: the gradient of {name} is off by {off:.1e}"
