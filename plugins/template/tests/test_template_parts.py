"""Every part keeps its promises, and is what it says."""

from __future__ import annotations

import pytest
import smp_feedback as smpf
import torch
from smp_feedback.testing import check_dynamics, check_loss, check_plugin

from smp_feedback_template.gate import Gate
from smp_feedback_template.margin import Margin
from smp_feedback_template.net import TemplateNet

IMAGE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_every_part_keeps_its_promises():
    check_plugin("template", {"TemplateNet": {"image": IMAGE, "classes": 3, "exports": True}})


def test_other_settings_keep_them_too():
    check_dynamics("template_gate", norm_error="layer", projection="probabilities")
    check_loss("template_margin", margin=0.1)


def test_the_net_is_made_by_its_name_with_its_own_keywords():
    net = smpf.create("TemplateNet", in_channels=2, classes=5, width=8, feedback=False)
    assert isinstance(net, TemplateNet)
    assert net.first.weight.shape == (8, 2, 3, 3)
    assert net(torch.rand(1, 2, 16, 24)).shape == (1, 5, 16, 24)


def test_the_gate_halves_the_distance_until_it_is_trained():
    gate = Gate(4, smpf.Recurrent(dynamics="template_gate"))
    state, drive = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)
    for t in range(3):
        state = gate.begin(3)(state, drive, t)
    torch.testing.assert_close(state, torch.full_like(state, 1 - 0.5**3))
    assert gate.tail(3) == 0.5**3


def test_the_margin_is_that_of_the_definition():
    logits = torch.tensor([[3.0, 0.0, -1.0], [0.0, 0.0, 0.5], [9.0, 9.0, 9.0]])
    target = torch.tensor([0, 1, 255])
    assert Margin(255)(logits, target).item() == pytest.approx((0.0 + 1.5) / 2)


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    target = (IMAGE.mean(1) > 0.5).long()
    model = smpf.create("TemplateNet", classes=2, feedback={"dynamics": "template_gate", "steps": 3})
    optimizer, loss, values = torch.optim.Adam(model.parameters(), 0.01), Margin(), []
    for _ in range(60):
        optimizer.zero_grad()
        values.append(loss(model(IMAGE), target))
        values[-1].backward()
        optimizer.step()
    assert values[-1] < 0.8 * values[0]
    assert model.feedback.dynamics.gate != 0
