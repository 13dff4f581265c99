"""Dynamics that cut the gradient are refused before anything is learnt, and those that do not are let be."""

from __future__ import annotations

import pytest
import torch

import smp_feedback as smpf
from smp_feedback.dynamics import Dynamics
from smp_feedback.dynamics.gradient_probe import check_lets_through
from smp_feedback.errors import InvalidValue
from smp_feedback.registry.public import catalogue


@pytest.mark.parametrize("name", catalogue().dynamics)
def test_every_dynamics_lets_gradients_through(name):
    config = smpf.Recurrent(dynamics=name, steps=2)
    check_lets_through(catalogue().dynamics[name](4, config))


def ruled(rule):
    return type("Mine", (Dynamics,), {"begin": lambda self, steps: rule})


def made(rule):
    return ruled(rule)(4, smpf.Recurrent())


CUT = {
    "state": (lambda h, e, t: 0.5 * h.detach() + e, "depends on the state before"),
    "correction": (lambda h, e, t: h + e.detach(), "depends on the correction"),
    "no_grad": (torch.no_grad()(lambda h, e, t: h + e), "depends on the state before"),
}


@pytest.mark.parametrize("fault", CUT)
def test_one_that_cuts_them_is_named_with_what_it_cuts(fault):
    rule, words = CUT[fault]
    with pytest.raises(InvalidValue, match=rf"\(Mine\) {words}, and no gradient comes back"):
        check_lets_through(made(rule))


@pytest.mark.parametrize("rule", [lambda h, e, t: e, lambda h, e, t: h])
def test_what_does_not_depend_on_something_needs_no_gradient_from_there(rule):
    check_lets_through(made(rule))


def test_fit_refuses_it_before_its_first_step(restored):
    pytest.importorskip("lightning")
    from smp_feedback.data import Shapes
    from smp_feedback.training import FeedbackModule, PairsModule, fit

    restored.dynamics.register("mine", ruled(CUT["state"][0]))
    model = smpf.create("PlainConv", classes=3, width=4, feedback={"dynamics": "mine", "steps": 2})
    assert model(torch.rand(1, 3, 8, 8)).shape == (1, 3, 8, 8), "it may look; it cannot learn"
    module = FeedbackModule(model, classes=3)
    module.training_step = lambda *_: pytest.fail("trained")
    with pytest.raises(InvalidValue, match=r"'mine' .*detach\(\)"):
        fit(module, PairsModule(Shapes(2, 32), batch_size=2), steps=1, progress=False, accelerator="cpu")
