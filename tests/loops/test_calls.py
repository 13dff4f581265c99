"""What a call may be told: gradients of its own, a rule of stopping, and a look to go on from."""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.loops.recurrent.early_stop import AnswersAlike
from smp_feedback.ops.reading import labels_of
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
    if config.get("dynamics") == "residual":
        nn.init.normal_(model.feedback.dynamics.gamma)
    for _ in range(3):
        model.train()(torch.rand(4, 3, 12, 10).double())
    return model.eval()


def slow(dynamics, tau):
    """The settings under which a rule answers slowly, where it can be told so."""
    return {"dynamics": dynamics} if dynamics == "gated" else {"dynamics": dynamics, "tau": tau}


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


@pytest.mark.sweep
def test_a_compiled_model_takes_gradients_of_its_own():
    model = made(LOOPS["recurrent"])
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="eager")
    image = IMAGE[:2]
    ours = gradients(model, model(image, steps=3, grad_steps=1).square().mean())
    theirs = gradients(compiled, compiled(image, steps=3, grad_steps=1).square().mean())
    alike(ours, {name.removeprefix("_orig_mod."): gradient for name, gradient in theirs.items()})


# --- a rule of stopping


def stops(labels, looks, at_most):
    """Our own derivation: after how many looks the labels (T, ...) of one image have been alike *looks* times."""
    alike = 1
    for t in range(1, at_most):
        alike = alike + 1 if torch.equal(labels[t], labels[t - 1]) else 1
        if alike == looks:
            return t + 1
    return at_most


def settled(model, image, rule):
    for step in model.iterate(image, rule):  # noqa: B007
        pass
    return step


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("dynamics", ENDLESS)
def test_each_image_of_a_batch_stops_as_it_does_alone(dynamics, classes):
    """As many looks, the answer and the labels that it has alone, after a number of looks that is known before."""
    model = closed(**slow(dynamics, 4.0), classes=classes, hears=0.1 if dynamics == "gated" else 1.0)
    image, rule = (
        IMAGE * torch.tensor([0.0, 0.1, 0.5, 1.0, 2.0])[:, None, None, None],
        smpf.until_settled(3, at_most=40),
    )
    step = settled(model, image, rule)
    labels = labels_of(model.trajectory(image, 40).flatten(0, 1)).unflatten(0, (40, len(image)))
    assert step.looks.tolist() == [stops(labels[:, i], 3, 40) for i in range(len(image))]
    if catalogue().dynamics.entry(dynamics).is_ours:
        assert len(set(step.looks.tolist())) > 1, "all images stopped together: nothing was left out"
    answer = model(image, steps=rule)
    assert torch.equal(answer, step.logits)
    for i, looks in enumerate(step.looks.tolist()):
        alone = model(image[i : i + 1], steps=looks)
        torch.testing.assert_close(answer[i : i + 1], alone, rtol=1e-9, atol=1e-9)
        assert torch.equal(labels_of(answer[i : i + 1]), labels_of(alone))
        assert settled(model, image[i : i + 1], rule).looks.item() == looks


@torch.no_grad()
def test_what_has_stopped_is_left_out_of_the_work_and_keeps_its_state():
    model, sizes = closed(dynamics="leaky", tau=4.0, hears=3.0), []
    model.more.register_forward_hook(lambda *call: sizes.append(len(call[-1])))
    steps = list(model.iterate(IMAGE, smpf.until_settled(3, at_most=40)))
    at_work = [(steps[-1].looks > t).sum().item() for t in range(len(steps))]
    assert sizes == at_work
    assert sizes[-1] < len(IMAGE)
    assert len(steps) == steps[-1].looks.max()
    for t, step in enumerate(steps):
        assert torch.equal(step.looks, steps[-1].looks.clamp_max(t + 1))
        assert ((step.change == 0) == (steps[-1].looks <= t)).all()


@torch.no_grad()
def test_every_way_of_looking_keeps_the_rule():
    model, rule = closed(dynamics="leaky", tau=4.0, hears=3.0), smpf.until_settled(2, at_most=30)
    step = settled(model, IMAGE, rule)
    path = model.trajectory(IMAGE, rule)
    assert len(path) == step.index + 1 == step.looks.max()
    for answer in (model(IMAGE, steps=rule), model.predict(IMAGE, rule), path[-1]):
        assert torch.equal(answer, step.logits)
    assert torch.equal(model(IMAGE, smpf.until_settled(30, at_most=30)), model(IMAGE, steps=30))


@torch.no_grad()
def test_both_rules_are_kept_together():
    """An image stops by the first of them: tau 4 moves a state by less than .3 after three looks or four."""
    config = {"dynamics": "leaky", "tau": 4.0, "hears": 3.0}
    rests, waits = closed(**config, tolerance=0.3), closed(**config)
    rule = smpf.until_settled(5, at_most=40)
    at_rest, alike, both = settled(rests, IMAGE, 40), settled(waits, IMAGE, rule), settled(rests, IMAGE, rule)
    assert torch.equal(both.looks, torch.minimum(at_rest.looks, alike.looks))


def test_gradients_of_a_rule_are_those_of_as_many_looks():
    model = closed(dynamics="leaky", tau=4.0, hears=3.0, grad_steps=1, recompute=True)
    step = settled(model, IMAGE, smpf.until_settled(3, at_most=40))
    ours = gradients(model, step.logits.square().sum())
    alone = sum(
        model(IMAGE[i : i + 1], steps=t, grad_steps=t).square().sum() for i, t in enumerate(step.looks.tolist())
    )
    alike(ours, gradients(model, alone))


def test_it_waits_for_the_device_once_a_look_and_never_without_a_rule(monkeypatch):
    waits = []
    for name in ("nonzero", "item", "__bool__", "__int__", "__float__", "tolist", "cpu"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda x, *a, _real=real, _name=name: waits.append(_name) or _real(x, *a)
        )
    model = closed(dynamics="leaky", tau=4.0, hears=3.0)
    with torch.no_grad():
        waits.clear()
        looks = len(list(model.iterate(IMAGE, smpf.until_settled(3, at_most=40))))
        assert waits == ["nonzero"] * looks
        waits.clear()
        model(IMAGE, steps=9)
    assert not waits


@torch.no_grad()
def test_a_model_of_several_labels_a_pixel_settles_when_all_of_them_do():
    states = torch.tensor([[[2.0, 1.0]], [[3.0, -1.0]], [[3.0, -2.0]]])  # the largest stays, a sign does not
    for task, expected in (("segmentation", [True, False, False]), ("multilabel", [True, True, False])):
        rule = AnswersAlike(lambda state, task=task: labels_of(state, task), 2)
        assert [rule(None, state[..., None]).item() for state in states] == expected
    model = closed(dynamics="leaky", tau=4.0, hears=3.0)
    model.data_config = smpf.DataConfig(classes=("a", "b", "c"), task="multilabel")
    signs = (model.trajectory(IMAGE, 40) > 0).long()
    step = settled(model, IMAGE, smpf.until_settled(3, at_most=40))
    assert step.looks.tolist() == [stops(signs[:, i], 3, 40) for i in range(len(IMAGE))]


@torch.no_grad()
def test_a_classifier_settles_on_its_label():
    model = smpf.create("timm/test_resnet", None, None, classes=5, feedback=smpf.Recurrent(feedback_init=0.5)).eval()
    step = settled(model, torch.rand(2, 3, 32, 32), smpf.until_settled(2, at_most=6))
    assert step.looks.max() <= 6
    assert step.logits.shape == (2, 5)


@pytest.mark.sweep
@torch.no_grad()
def test_a_compiled_look_serves_a_rule():
    model, rule = closed(dynamics="leaky", tau=4.0, hears=3.0), smpf.until_settled(3, at_most=40)
    expected = model(IMAGE, steps=rule)
    torch._dynamo.reset()
    torch.testing.assert_close(model.compile_step(backend="eager")(IMAGE, steps=rule), expected)


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        ((1,), InvalidValue, "looks=1: expected a whole number >= 2; an answer alone equals nothing"),
        ((2.0,), InvalidType, "looks=2.0 .float."),
        ((3, 2), InvalidValue, "at_most=2: expected at least looks=3"),
        ((3, None), InvalidType, "at_most=None"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_at_birth(told, kind, words):
    with pytest.raises(kind, match=words):
        smpf.until_settled(*told)


RULE = smpf.until_settled(3, at_most=40)


@pytest.mark.parametrize(
    ("config", "told", "words"),
    [
        (smpf.Recurrent(dynamics="fractional"), {}, "dynamics='fractional' weighs each look by how many.*steps=4"),
        (smpf.Recurrent(), {"grad_steps": 2}, r"grad_steps=2 with steps=until_settled\(3, at_most=40\)"),
        (LOOPS["score"], {}, "feedback='score' does not stop by its answer.*steps=5"),
        (LOOPS["restoration"], {}, "feedback='restoration' does not stop by its answer"),
        (LOOPS["around"], {}, "feedback='restoration' does not stop by its answer"),
    ],
)
def test_a_rule_that_a_loop_cannot_keep_is_refused_before_any_work(config, told, words):
    model, worked = made(config), []
    model.conv.register_forward_pre_hook(lambda *call: worked.append(call))
    for way in (model, model.iterate, model.trajectory):
        with pytest.raises(InvalidValue, match=words):
            way(IMAGE, RULE, **told)
    assert not worked


def test_a_rule_is_refused_in_training_and_by_passes_of_their_own():
    model = closed().train()
    with pytest.raises(InvalidValue, match=r"steps=until_settled\(3, at_most=40\) in training.*steps=40"):
        model(IMAGE, steps=RULE)
    with pytest.raises(InvalidValue, match=r"until_settled\(3, at_most=40\): backward_per_step trains.*as steps=4"):
        model.backward_per_step(IMAGE, lambda step: step.logits.sum(), RULE)


@torch.no_grad()
def test_a_batch_without_images_settles_at_once():
    (only,) = closed().iterate(IMAGE[:0], RULE)
    assert only.logits.shape == (0, 3, 12, 10)
    assert only.looks.shape == (0,)


# --- a look to go on from


@torch.no_grad()
@pytest.mark.parametrize("dynamics", CARRYING)
@pytest.mark.parametrize("first", [1, 2, 5])
def test_looks_that_go_on_are_those_of_one_call_to_the_bit(dynamics, first):
    """With statistics of every step, of which there are four; later steps take the last."""
    model = closed(**slow(dynamics, 3.0))
    whole = list(model.iterate(IMAGE, 7))
    *_, before = model.iterate(IMAGE, first)
    later = list(model.iterate(IMAGE, 7 - first, before=before))
    assert [step.index for step in later] == list(range(first, 7))
    for one, other in zip(later, whole[first:], strict=True):
        assert torch.equal(one.state, other.state)
        assert torch.equal(one.logits, other.logits)
        assert torch.equal(one.change, other.change)
        assert torch.equal(one.looks, other.looks)


def test_the_statistics_of_a_step_are_found_by_its_number_whoever_took_the_first():
    model = closed(dynamics="leaky", tau=3.0, statistics="per_step").train()
    *_, before = model.iterate(IMAGE, 3)
    counted = model.feedback.statistics[0].num_batches_tracked.clone()
    list(model.iterate(IMAGE, 2, before=before))
    assert (model.feedback.statistics[0].num_batches_tracked - counted).tolist() == [0, 0, 2]


def test_gradient_goes_through_the_look_before_unless_it_is_detached():
    model = closed(dynamics="leaky", tau=3.0)
    whole = gradients(model, model(IMAGE, steps=4).square().mean())

    def two_calls(cut):
        *_, before = model.iterate(IMAGE, 2)
        *_, last = model.iterate(IMAGE, 2, before=before.detach() if cut else before)
        return gradients(model, last.logits.square().mean())

    alike(whole, two_calls(False))
    alike(gradients(model, model(IMAGE, steps=4, grad_steps=2).square().mean()), two_calls(True))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_detached_look_says_the_same_and_keeps_no_graph(loop):
    *_, step = made(LOOPS[loop]).iterate(IMAGE[:2], 2)
    cut = step.detach()
    assert step.state.requires_grad
    assert not cut.state.requires_grad
    assert torch.equal(cut.logits, step.logits)
    assert torch.equal(cut.change, step.change)
    assert (cut.index, cut.looks.tolist()) == (1, [2, 2])
    kept = weakref.ref(step.state)  # with its graph
    del step
    assert kept() is None


@torch.no_grad()
def test_images_that_stopped_go_on_with_the_next_image_and_are_counted_on():
    model = closed(dynamics="leaky", tau=4.0, hears=3.0)
    first = settled(model, IMAGE, smpf.until_settled(3, at_most=40))
    more = list(model.iterate(IMAGE.flip(-1), 2, before=first))
    assert [step.index for step in more] == [first.index + 1, first.index + 2]
    assert torch.equal(more[-1].looks, first.looks + 2)
    again = list(model.iterate(IMAGE.flip(-1), smpf.until_settled(2, at_most=9), before=more[-1]))
    assert ((again[-1].looks - more[-1].looks) >= 2).all()


@torch.no_grad()
def test_a_map_is_resized_to_another_image():
    model = closed(dynamics="leaky", tau=3.0)
    *_, before = model.iterate(IMAGE, 2)
    larger = torch.rand(5, 3, 16, 20).double()
    (step,) = model.iterate(larger, 1, before=before)
    resized = F.interpolate(before.state, (16, 20), mode="bilinear", align_corners=False)
    turn = model._recurrence(larger, model._once(larger, model.loop_config.flow), 1, model.loop_config.flow)
    assert torch.equal(step.state, turn(resized, 2).state)
    assert step.logits.shape[-2:] == (16, 20)


@pytest.mark.parametrize(
    ("config", "before", "kind", "words"),
    [
        ({"dynamics": "decay"}, None, InvalidValue, "dynamics='decay' weighs.*'leaky'"),
        ({"dynamics": "residual"}, None, InvalidValue, "dynamics='residual' weighs"),
        ({"dynamics": "fractional"}, None, InvalidValue, "dynamics='fractional' weighs"),
        ({"dynamics": "leaky"}, 3, InvalidType, r"before=3 \(int\): expected a Step"),
        ({"dynamics": "leaky"}, 2, InvalidType, "expected a Step"),
    ],
)
def test_what_cannot_go_on_is_refused_with_what_can(config, before, kind, words):
    model = closed(**config)
    step = next(model.iterate(IMAGE)) if before is None else before
    with pytest.raises(kind, match=words):
        model.iterate(IMAGE, before=step)


def test_a_look_of_another_batch_model_or_grid_is_refused():
    model, other = closed(dynamics="leaky"), closed(dynamics="leaky", channels=4)
    step = next(model.iterate(IMAGE))
    with pytest.raises(InvalidInput, match=r"of 5 images and 8 channels; expected 4 and 8.*before=None"):
        model.iterate(IMAGE[:4], before=step)
    with pytest.raises(InvalidInput, match="expected 5 and 10"):
        other.iterate(IMAGE, before=step)
    for loop in ("score", "restoration", "around"):
        with pytest.raises(InvalidValue, match="begins anew with every image"):
            made(LOOPS[loop]).iterate(IMAGE, before=step)


@torch.no_grad()
def test_a_look_is_carried_on_in_the_precision_of_the_image():
    model = closed(dynamics="leaky")
    *_, whole = model.iterate(IMAGE, 3)
    step = next(copy.deepcopy(model).float().iterate(IMAGE.float()))
    *_, last = model.iterate(IMAGE, 2, before=step)
    torch.testing.assert_close(last.logits, whole.logits, atol=1e-4, rtol=1e-4)


def test_a_look_to_go_on_from_draws_no_first_state():
    model = closed(dynamics="leaky", init_std=0.5)
    torch.manual_seed(0)
    step = next(model.iterate(IMAGE))
    drawn = torch.get_rng_state()
    list(model.iterate(IMAGE, 2, before=step))
    assert torch.equal(torch.get_rng_state(), drawn)


def test_a_state_of_tokens_is_not_resized():
    feedback = smpf.Recurrent(dynamics="leaky", insert="after:patch_embed")
    model = smpf.create("timm/test_vit", None, None, classes=3, feedback=feedback, dynamic_img_size=True).eval()
    step = next(model.iterate(torch.rand(1, 3, 32, 32)))
    next(model.iterate(torch.rand(1, 3, 32, 32), before=step))
    with pytest.raises(InvalidInput, match="a state of tokens is no map"):
        model.iterate(torch.rand(1, 3, 64, 32), before=step)


# --- memory


@pytest.mark.parametrize("rule", [12, smpf.until_settled(12, at_most=12)])
def test_nothing_is_kept_of_a_look_but_what_the_next_one_reads(rule):
    model, alive, most = closed(dynamics="leaky"), [], 0
    with torch.inference_mode():
        for step in model.iterate(IMAGE, rule):
            alive.append(weakref.ref(step.state))
            most = max(most, sum(state() is not None for state in alive))
    assert len(alive) == 12
    assert most <= 3
