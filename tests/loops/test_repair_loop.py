"""The repair loop: what is new is a net beside a frozen base, and until it is trained the base's mask stays."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.errors import FeedbackError, InvalidInput, InvalidType, InvalidValue
from smp_feedback.loops.repair.masks import as_chances
from smp_feedback.loops.repair.net import believed
from smp_feedback.testing import check_loop
from smp_feedback.testing.promises import hearing

LOOP = smpf.Repair(steps=3, width=6, channels=2)
IMAGE = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(3))


class Base(nn.Module):
    """Two convolutions with a norm, and a head."""

    def __init__(self, classes=3):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.head = nn.Conv2d(6, classes, 1)

    def forward_features(self, image):
        return self.norm(self.conv(image)).tanh()

    def forward_head(self, features):
        return self.head(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def made(classes=3, config=LOOP, seed=0):
    torch.manual_seed(seed)
    base = Base(classes)
    for _ in range(3):
        base.train()(torch.rand(4, 3, 12, 10))
    return base.eval(), smpf.wrap(base, config).eval()


def labels(logits):
    return logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()


def test_it_keeps_every_promise_of_a_loop():
    check_loop("repair", torch.rand(2, 3, 32, 32), steps=2, width=6)


# --- before any training


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_before_training_every_look_gives_the_bases_labels(classes):
    base, model = made(classes)
    expected = base(IMAGE)
    assert torch.equal(model(IMAGE, steps=0), expected)  # the base's own answer, to the bit
    *steps, _ = model.iterate(IMAGE, 5)
    for step in steps:
        assert torch.equal(labels(step.logits), labels(expected))
        p = expected.sigmoid() if classes == 1 else expected.softmax(1)
        drawn = LOOP.confidence * p + (1 - LOOP.confidence) / max(2, classes)
        found = step.logits.sigmoid() if classes == 1 else step.logits.softmax(1)
        torch.testing.assert_close(found, drawn)


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=5), st.floats(0.01, 0.999))
def test_what_is_believed_is_a_mixture_with_the_even_chance(raw, confidence):
    total = sum(raw)
    chances = [1 / len(raw)] * len(raw) if not total else [x / total for x in raw]
    p = torch.tensor(chances, dtype=torch.float64)[None, :, None, None]
    q = believed(p, confidence).softmax(1).flatten()
    expected = [confidence * x + (1 - confidence) / len(raw) for x in p.flatten().tolist()]
    torch.testing.assert_close(q, torch.tensor(expected, dtype=torch.float64))
    one = believed(p[:, :1], confidence).sigmoid()  # a base of one class: background and foreground
    torch.testing.assert_close(one, confidence * p[:, :1] + (1 - confidence) / 2)


# --- what a look says


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 3])
def test_a_look_is_the_plain_net_written_out(classes):
    """A copy of the recurrence by hand: conv, the state's readout, a norm of each pixel; what is said is added."""
    _, model = made(classes)
    with hearing(model):
        net = model.feedback.net
        p = model.chances(IMAGE)
        shown, state = torch.cat([IMAGE, p], 1), None
        for step in model.iterate(IMAGE):
            fed = torch.zeros(2, 2, 12, 10) if state is None else state[:, 6:]
            first, *rest = net.convs
            x = F.conv2d(shown, first.weight, first.bias, padding=1)
            x = x + F.conv2d(fed, net.feedback.readers[0].weight, padding=1)
            for conv in rest:
                x = F.conv2d(x.relu(), conv.weight, conv.bias, padding=1)
            y = net.feedback.with_readout(x, x)
            state = net.feedback.normalise(y)
            said = F.conv2d(state[:, :6], net.head.weight, net.head.bias)
            torch.testing.assert_close(step.logits, believed(p, LOOP.confidence) + said, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5))
def test_as_many_looks_as_are_told_and_going_on_is_looking_longer(first, more):
    _, model = made()
    with hearing(model):
        steps = list(model.iterate(IMAGE, first))
        assert [step.index for step in steps] == [*range(first)]
        *_, last = model.iterate(IMAGE, more, before=steps[-1])
        assert torch.equal(last.logits, model(IMAGE, steps=first + more))
        assert last.looks.tolist() == [first + more] * 2


@torch.no_grad()
def test_the_next_frame_is_answered_by_what_the_base_says_of_it():
    base, model = made()
    step = model.look(IMAGE)
    later = IMAGE.flip(-1)
    assert torch.equal(labels(model.look(later, step).logits), labels(base(later)))
    small = torch.rand(2, 3, 8, 8)  # of another size the state is resized
    assert torch.equal(labels(model.look(small, step).logits), labels(base(small)))


@torch.no_grad()
def test_an_image_stops_when_its_mended_labels_stay():
    _, model = made()
    with hearing(model):
        path = model.trajectory(IMAGE, 12)
        rule = smpf.until_settled(3, at_most=12)
        *_, last = model.iterate(IMAGE, rule)
        for i, looks in enumerate(last.looks.tolist()):
            given = [labels(path[t, i : i + 1]) for t in range(looks)]
            assert looks == 12 or all(torch.equal(given[-1], one) for one in given[-3:])
            torch.testing.assert_close(last.logits[i], path[looks - 1, i])


# --- a mask of any origin


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 3])
def test_the_bases_own_probabilities_are_mended_as_the_model_mends_them(classes):
    _, model = made(classes)
    with hearing(model):
        assert torch.equal(model.repair(IMAGE, model.chances(IMAGE)), model(IMAGE))
        assert torch.equal(model.repair(IMAGE, model.chances(IMAGE), steps=7), model(IMAGE, steps=7))
        mask = labels(model(IMAGE, steps=0))
        hard = mask[:, None].float() if classes == 1 else F.one_hot(mask, 3).movedim(-1, 1).float()
        assert torch.equal(model.repair(IMAGE, mask), model.repair(IMAGE, hard))
        assert torch.equal(model.repair(IMAGE, mask.byte()), model.repair(IMAGE, hard))


@pytest.mark.parametrize(
    ("mask", "kind", "words"),
    [
        ([[0]], InvalidType, "mask is a list"),
        (torch.zeros(2, 12, 10), InvalidInput, r"expected labels \(2, 12, 10\).*probabilities \(2, 3, 12, 10\)"),
        (torch.zeros(1, 12, 10).long(), InvalidInput, r"mask of shape \(1, 12, 10\)"),
        (torch.full((2, 12, 10), 3), InvalidInput, "labels 3 to 3; expected 0 to 2"),
        (torch.full((2, 3, 12, 10), 1.5), InvalidInput, r"outside \[0, 1\]"),
        (torch.full((2, 3, 12, 10), float("nan")), InvalidInput, r"outside \[0, 1\]"),
        (torch.zeros(2, 3, 12, 10), InvalidInput, "add up to 0 to 0; expected 1"),
    ],
)
def test_a_mask_that_is_none_is_refused(mask, kind, words):
    with pytest.raises(kind, match=words):
        as_chances(mask, IMAGE, 3)


# --- the base is left alone


def test_gradient_reaches_the_net_alone_and_the_base_stays_as_it_was():
    base, model = made()
    before = {key: value.clone() for key, value in base.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        loss = F.cross_entropy(model.train()(IMAGE), torch.zeros(2, 12, 10).long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in model.named_parameters() if name.startswith("feedback.net.")}
    for key, value in model.feedforward_state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not model.norm.training
    assert model.feedback.net.training


def test_a_base_that_looks_again_is_mended_after_its_last_look():
    torch.manual_seed(0)
    own = smpf.wrap(Base(), smpf.Recurrent(steps=2, dynamics="leaky", feedback_init=0.5)).eval()
    plain = copy.deepcopy(own)
    model = smpf.wrap(own, "repair").eval()
    assert model.loop_config.base == plain.loop_config
    with torch.no_grad():
        assert torch.equal(model(IMAGE, steps=0), plain(IMAGE))
        assert torch.equal(labels(model(IMAGE)), labels(plain(IMAGE)))
    assert all(not p.requires_grad for name, p in model.named_parameters() if "feedback.net." not in name)
    assert not model.train().feedback.inner.training


def test_several_labels_a_pixel_are_refused():
    _, model = made()
    model.data_config = smpf.DataConfig(task="multilabel", classes=("a", "b", "c"))
    for asked in (model, model.chances):
        with pytest.raises(InvalidValue, match="one label a pixel"):
            asked(IMAGE)


@pytest.mark.parametrize("told", [{"steps": -1}, {"width": 0}, {"confidence": 0}, {"confidence": 1}, {"cut": 0}])
def test_a_setting_out_of_its_range_is_refused_by_name(told):
    with pytest.raises(FeedbackError, match=next(iter(told))):
        smpf.Repair(**told)


@pytest.mark.sweep
def test_its_file_answers_as_it_does(tmp_path):
    model = smpf.create("PlainConv", classes=2, feedback=LOOP).eval()
    with hearing(model):
        found = smpf.export(model, tmp_path / "model.pt2", image=torch.rand(1, 3, 16, 16), dynamic="batch")
    assert found.difference is not None  # it was opened again and compared
