"""A loop's check finds what its author forgot; one written from the documents alone passes it, trains and is saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import smp_feedback as smpf
from smp_feedback import testing
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.recurrent.model import RecurrentModel
from smp_feedback.testing.loops import check_flow, check_told
from smp_feedback.training import FeedbackModule

IMAGE = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True, kw_only=True)
class Mean(smpf.Recurrent):
    loop: ClassVar[str] = "mean"


class MeanOfLooks(RecurrentModel):
    """The state is the mean of those of all looks, which are detached if it is told to be."""

    config_class = Mean
    detaches = True

    def _turns(self, image, told, share=None):
        total = 0
        for t, turned in super()._turns(image, told, share):
            before = total.detach() if self.detaches and told.flow.detach and t else total
            total = before + turned.state
            yield t, turned._replace(state=total / (t + 1))


class Forgets(MeanOfLooks):
    detaches = False


class Declines(Forgets):
    def check_per_step(self, asked):
        raise InvalidValue(f"{asked} the mean of all looks needs all of them.")


class Deaf(RecurrentModel):
    """Carries gradient through all looks, whatever a call says."""

    def _turns(self, image, told, share=None):
        return super()._turns(image, told._replace(flow=told.flow._replace(steps=None)), share)


class Once(RecurrentModel):
    """Looks as often as its config says, whatever a call says."""

    def _turns(self, image, told, share=None):
        return super()._turns(image, told._replace(steps=2), share)


class KeepsNoShare(RecurrentModel):
    """Computes something with gradient for all looks, and does not share it."""

    def _turns(self, image, told, share=None):
        gain = self.feedback.readers[0].weight.exp().sum().log()
        for t, turned in super()._turns(image, told, share):
            free = told.flow.steps is not None and t < told.steps - told.flow.steps
            yield t, turned._replace(state=turned.state * (gain.detach() if free else gain).exp())


@pytest.fixture
def model(restored):
    def make(loop):
        restored.loops.register("mean", loop)
        return smpf.create("PlainConv", classes=3, feedback=Mean(steps=2, feedback_init=0.1))

    return make


@pytest.mark.parametrize(
    ("loop", "check", "words"),
    [
        (Forgets, check_flow, "with flow.detach gradient crosses from a look to the one before"),
        (Deaf, check_flow, "grad_steps=1: look 0 of 3 carries gradient"),
        (KeepsNoShare, check_flow, r"look 1 of feedback='mean' reaches back.*hand what its looks share through share"),
        (Once, check_told, "steps=1: 2 looks"),
    ],
)
def test_a_loop_that_does_not_do_as_it_is_told_fails(model, loop, check, words):
    with pytest.raises(AssertionError, match=words):
        check(model(loop), IMAGE)


@pytest.mark.parametrize("loop", [MeanOfLooks, Declines])
def test_a_loop_that_detaches_or_refuses_to_passes(model, loop):
    check_told(made := model(loop), IMAGE)
    check_flow(made, IMAGE)


def test_a_loop_that_reaches_back_says_so_instead_of_torch(model):
    with pytest.raises(InvalidValue, match=r"look 1 of feedback='mean' reaches back .* backward='together'") as caught:
        model(Forgets).backward_per_step(IMAGE, lambda step: step.logits.square().mean())
    assert "second time" in str(caught.value.__cause__)


def test_an_error_of_the_loss_is_its_own(model):
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        model(MeanOfLooks).backward_per_step(IMAGE, lambda step: step.logits)


def test_a_loop_that_refuses_is_refused_before_any_work(model):
    made = model(Declines)
    with pytest.raises(InvalidValue, match="backward_per_step: the mean of all looks needs"):
        made.backward_per_step(IMAGE, lambda step: step.logits.mean())
    with pytest.raises(InvalidValue, match="backward='per_step': the mean of all looks needs"):
        FeedbackModule(made, classes=3, backward="per_step")


def test_the_check_of_a_loop_asks_all_of_it(model, monkeypatch):
    asked = []
    for name in ("check_model", "check_told", "check_flow", "check_looks"):
        monkeypatch.setattr(f"smp_feedback.testing.loops.{name}", lambda *_, name=name: asked.append(name))
    testing.check_loop("recurrent", steps=2, dynamics="gated")
    assert asked == ["check_model", "check_told", "check_flow", "check_looks"]
