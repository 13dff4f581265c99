"""What a call may be told: gradients of its own, a rule of stopping, and a look to go on from."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import smp_feedback as smpf
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.registry.public import catalogue

# dynamo asks every tensor it is given for its gradient, and hides the warning in a way that an error escapes
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
GENERATOR = torch.Generator().manual_seed(3)
IMAGE = torch.rand(5, 3, 12, 10, generator=GENERATOR).double()
CARRYING = [name for name in catalogue().dynamics if catalogue().dynamics[name].carries]
ENDLESS = [name for name in catalogue().dynamics if not catalogue().dynamics[name].knows_the_end]


class Base(nn.Module):
    """Two convolutions with a norm, and a head: what a loop needs, and no more."""

    def __init__(self, classes=3):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.more, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, classes, 1)

    def forward_features(self, image):
        return self.more(self.norm(self.conv(image)).tanh())

    def forward_head(self, features):
        return self.head(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def closed(seed=0, classes=3, hears=1.0, **config):
    """A loop in float64 whose feedback is heard, with statistics of every step that differ."""
    torch.manual_seed(seed)
    model = smpf.wrap(Base(classes), smpf.Recurrent(**{"steps": 4, "feedback_init": hears, **config})).double()
    for _ in range(3):
        model.train()(torch.rand(4, 3, 12, 10).double())
    return model.eval()


def gradients(model, lost):
    model.zero_grad(set_to_none=True)
    lost.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def alike(one, other):
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], rtol=1e-9, atol=1e-12, msg=name)


# --- the gradient of one call


LOOPS = {
    "recurrent": smpf.Recurrent(steps=5, feedback_init=0.5),
    "score": smpf.Score(steps=5, filters=4, additional_pools=1, noise="none", tolerance=None, freeze=False),
    "restoration": smpf.Restoration(steps=5, depth=2, filters=2, weight=1.0),
    "around": smpf.Restoration(steps=5, depth=2, filters=2, weight=1.0, base=smpf.Recurrent(steps=2)),
}


def made(config, base=Base):
    torch.manual_seed(1)
    model = smpf.wrap(base(), config).double()
    for name, weight in model.named_parameters():
        if "restorer.last" in name:
            nn.init.normal_(weight, std=0.5)
    return model.eval()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("k", [1, 3, 5, 9])
def test_the_last_looks_of_a_call_carry_gradient_as_if_the_config_had_said_so(loop, k):
    config = LOOPS[loop]
    said, told = made(replace(config, grad_steps=k)), made(config)
    image = IMAGE[:2]
    ours = gradients(told, told(image, grad_steps=k).square().mean())
    alike(ours, gradients(said, said(image).square().mean()))
    alike(ours, gradients(told, told.trajectory(image, grad_steps=k)[-1].square().mean()))
    *_, last = told.iterate(image, grad_steps=k)
    alike(ours, gradients(told, last.logits.square().mean()))
    fresh = made(config)
    alike(gradients(told, told(image).square().mean()), gradients(fresh, fresh(image).square().mean()))


@pytest.mark.parametrize(("loop", "reached"), [("recurrent", [0, 0, 1, 1]), ("restoration", [0, 0, 0, 1, 1])])
def test_no_graph_is_made_of_the_looks_before(loop, reached):
    model, graphs = made(LOOPS[loop]), []
    model.more.register_forward_hook(lambda *call: graphs.append(call[-1].requires_grad))
    model(IMAGE[:1], steps=4, grad_steps=2)
    assert graphs == list(map(bool, reached))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_backward_pass_a_look_may_begin_late(loop):
    """Looks without gradient, then two each on its own: as one pass over both losses of a loop that detaches."""
    config, weigh = LOOPS[loop], lambda step: (1 + step.index) * step.logits.square().mean()
    late, together = made(config), made(replace(config, detach=True))
    seen, image = [], IMAGE[:2]
    late.zero_grad(set_to_none=True)
    losses = late.backward_per_step(image, lambda step: seen.append(step.index) or weigh(step), 5, grad_steps=2)
    steps = list(together.iterate(image, 5, grad_steps=2))
    assert seen == [3, 4]
    torch.testing.assert_close(losses, torch.stack([weigh(step) for step in steps[3:]]).detach())
    found = {name: p.grad for name, p in late.named_parameters() if p.grad is not None}
    alike(found, gradients(together, sum(map(weigh, steps[3:]))))


WAYS = {
    "forward": lambda model, **told: model(IMAGE[:1], **told),
    "iterate": lambda model, **told: model.iterate(IMAGE[:1], **told),
    "trajectory": lambda model, **told: model.trajectory(IMAGE[:1], **told),
    "backward_per_step": lambda model, **told: model.backward_per_step(IMAGE[:1], lambda s: s.logits.sum(), **told),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("wrong", "kind"), [(0, InvalidValue), (-2, InvalidValue), (1.5, InvalidType), (True, InvalidType)]
)
def test_grad_steps_are_checked_before_any_work(way, wrong, kind):
    model, worked = made(LOOPS["recurrent"]), []
    model.conv.register_forward_pre_hook(lambda *call: worked.append(call))
    with pytest.raises(kind, match=rf"grad_steps={wrong!r}.*whole number >= 1; torch.no_grad\(\) for none"):
        WAYS[way](model, grad_steps=wrong)
    assert not worked


def test_a_compiled_model_takes_gradients_of_its_own():
    model = made(LOOPS["recurrent"])
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    image = IMAGE[:2]
    ours = gradients(model, model(image, steps=3, grad_steps=1).square().mean())
    theirs = gradients(compiled, compiled(image, steps=3, grad_steps=1).square().mean())
    alike(ours, {name.removeprefix("_orig_mod."): gradient for name, gradient in theirs.items()})
