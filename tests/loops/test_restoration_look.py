"""One look a frame through moving air: what is carried, from which frame to which, and where it ends."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from test_restoration_loop import Normed, Stub, counted
from torch import nn

import smp_feedback as smpf
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.loops.looking import carries
from smp_feedback.ops.warp import warp
from smp_feedback.restorers.base import Restored, Restorer, class_feedback

LOOP = smpf.Restoration(depth=2, filters=2, reach=2.0, weight=1.0, carry="feedback")
KINDS = {
    "feedback": LOOP,
    "absolute": replace(LOOP, absolute=True),
    "learnt weight": replace(LOOP, weight="learnt"),
    "mean": replace(LOOP, carry="mean"),
    "lowest rate": replace(LOOP, carry="mean", rate=0.4),
    "mean alone": replace(LOOP, carry="mean", weight=0, steps=1),
}
every_kind = pytest.mark.parametrize("loop", KINDS.values(), ids=KINDS)
FRAMES = torch.rand(5, 2, 3, 8, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def trained(loop=LOOP, base=Normed, seed=1):
    """As if trained: nothing of R begins at zero; in float64."""
    torch.manual_seed(seed)
    model = smpf.wrap(base(3, 4, 2), loop).double().train()
    for parameter in model.restorer.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        model(torch.rand(2, 3, 8, 12).double())  # statistics that are no ones and zeros
    return model.eval()


def followed(model, frames, before=None):
    steps = []
    for frame in frames:
        before = model.look(frame, before)
        steps.append(before)
    return steps


def by_hand(model, frames):
    """Every frame's restored image, what M is shown, and the logits: R's parts one by one, and no state."""
    restorer, config = model.restorer, model.loop_config
    weight = restorer.weight
    seen = []
    for t, x in enumerate(frames):
        fine = restorer.down[0](x)
        if t and config.carry == "mean":
            fine = fine + restorer.compare(torch.cat([x, seen[t - 1][1]], 1))
        deep = restorer.down[1](nn.functional.max_pool2d(fine, 2))
        if t and config.weight:
            change = seen[t - 1][2] - seen[max(0, t - 2)][2]
            deep = deep + weight * restorer.transfer(class_feedback(change, seen[t - 1][0], absolute=config.absolute))
        top = restorer.merge[0](torch.cat([restorer.up[0](deep), fine], 1))
        z = warp(x, config.reach * restorer.last(top).tanh())
        shown = z
        if config.carry == "mean" and t:
            if config.rate == "learnt":
                rate = 1 - restorer.keep(top).tanh() * t / (t + 1)
            else:
                rate = max(1 / (t + 1), config.rate)
            shown = seen[t - 1][1] + rate * (z - seen[t - 1][1])
        seen.append((z, shown, model.segment(shown)))
    return seen


@every_kind
@torch.no_grad()
def test_a_film_is_looked_at_as_it_is_written_down(loop):
    model = trained(loop)
    assert carries(model)
    for t, (step, (z, shown, logits)) in enumerate(zip(followed(model, FRAMES), by_hand(model, FRAMES), strict=True)):
        assert (step.index, step.looks.tolist()) == (t, [t + 1] * 2)
        torch.testing.assert_close(step.restored, z)
        torch.testing.assert_close(step.logits, logits)
        if loop.carry == "mean":
            torch.testing.assert_close(step.mean, shown)
        else:
            assert step.mean is None
    assert not torch.allclose(model.look(FRAMES[-1]).logits, step.logits, atol=1e-6), "nothing was carried"


@every_kind
@torch.no_grad()
def test_looks_at_one_image_are_the_published_passes_to_the_bit(loop):
    model, image = trained(loop), FRAMES[0]
    passes = list(model.passes(image, None if not loop.weight else 3))
    steps = followed(model, [image] * len(passes))
    for made, step in zip(passes, steps, strict=True):
        assert torch.equal(step.logits, made.logits)
        assert torch.equal(step.restored, made.restored)
    if loop.weight:
        seen = list(model.iterate(image, 3))
        assert [step.looks.tolist() for step in seen] == [[2] * 2, [3] * 2, [4] * 2]
        for one, other in zip(seen, model.iterate(image, 3, before=steps[0]), strict=True):
            assert torch.equal(one.logits, other.logits)
            assert torch.equal(one.looks, other.looks)
        assert torch.equal(model.look(image, seen[1]).logits, seen[2].logits)


@torch.no_grad()
def test_what_is_carried_changes_nothing_of_the_published_loop():
    published, carrying = trained(replace(LOOP, carry=None)), trained(LOOP)
    assert published.state_dict().keys() == carrying.state_dict().keys()
    assert torch.equal(published.trajectory(FRAMES[0]), carrying.trajectory(FRAMES[0]))
    assert not carries(published)
    for asked in (lambda: published.look(FRAMES[0]), lambda: smpf.Film(published), lambda: published.step_from({})):
        with pytest.raises(InvalidValue, match=r"begins anew with every image; .*carry='feedback' or carry='mean'"):
            asked()
    with pytest.raises(InvalidValue, match="is no look that another goes on from"):
        next(published.iterate(FRAMES[0])).state_dict()


@every_kind
@torch.no_grad()
def test_before_it_is_trained_it_answers_every_frame_as_its_base(loop):
    base = Stub(3, 4, 2).double().eval()
    model = smpf.wrap(base, replace(loop, rate="learnt")).double()
    for frame, step in zip(FRAMES, followed(model, FRAMES), strict=True):
        torch.testing.assert_close(step.logits, base(frame))
        torch.testing.assert_close(step.restored, frame)


@torch.no_grad()
def test_a_mean_at_its_lowest_rate_is_that_of_the_frames():
    model = smpf.wrap(Stub(3, 4, 2).double(), replace(LOOP, carry="mean", rate=0.3)).double().eval()
    steps = followed(model, FRAMES)
    for t in (0, 1, 2):
        torch.testing.assert_close(steps[t].mean, FRAMES[: t + 1].mean(0))
    for t in (3, 4):
        torch.testing.assert_close(steps[t].mean, 0.7 * steps[t - 1].mean + 0.3 * FRAMES[t])


# --- streams


@every_kind
@torch.no_grad()
def test_a_stream_that_begins_anew_is_a_new_one_and_its_neighbour_goes_on(loop):
    model = trained(loop)
    steps = followed(model, FRAMES[:3])
    mask = torch.tensor([True, False])
    step, after = followed(model, FRAMES[3:], steps[2].reset(mask))
    assert step.looks.tolist() == [1, 4]
    assert after.looks.tolist() == [2, 5]
    news, olds = followed(model, FRAMES[3:, :1]), followed(model, FRAMES[:, 1:])[3:]
    for one, new, old in zip((step, after), news, olds, strict=True):
        torch.testing.assert_close(one.logits, torch.cat([new.logits, old.logits]))
        torch.testing.assert_close(one.change, torch.cat([new.change, old.change]))
        torch.testing.assert_close(one.state[1:], old.state)
    assert step.change[0] == 1
    everyone = model.look(FRAMES[3], steps[2].reset(torch.tensor([True, True])))
    assert torch.equal(everyone.logits, model.look(FRAMES[3]).logits)
    further = list(model.iterate(FRAMES[3], 2, before=steps[2].reset(mask)))
    torch.testing.assert_close(further[1].logits, model.look(FRAMES[3], further[0]).logits)


@torch.no_grad()
def test_a_cut_that_the_model_finds_begins_anew_and_a_threshold_is_kept_with_it(tmp_path):
    model = trained()
    steps = followed(model, FRAMES[:3])
    assert steps[0].change.tolist() == [1, 1]
    logits = [step.logits.flatten(1) for step in steps]
    expected = (logits[2] - logits[1]).norm(dim=1) / logits[2].norm(dim=1)
    torch.testing.assert_close(steps[2].change, expected)
    again = model.look(FRAMES[2], steps[1], reset=float(expected.min() + expected.max()) / 2)
    first = int(expected.argmax())
    assert again.looks[first] == 1
    torch.testing.assert_close(again.logits[first], model.look(FRAMES[2]).logits[first])
    with pytest.raises(InvalidValue, match="has learned no threshold"):
        model.look(FRAMES[2], steps[1], reset="auto")
    assert model.choose_cut(0.5).loop_config.cut == 0.5


@every_kind
@torch.no_grad()
def test_a_saved_look_goes_on(loop, tmp_path):
    model = trained(loop)
    step = followed(model, FRAMES[:3])[-1].reset(torch.tensor([False, True]))
    torch.save(step.state_dict(), tmp_path / "step.pt")
    again = copy.deepcopy(model).step_from(torch.load(tmp_path / "step.pt", weights_only=True))
    for name in ("logits", "restored", "change", "looks", "state"):
        torch.testing.assert_close(getattr(again, name), getattr(step, name))
    if loop.weight:
        torch.testing.assert_close(again.fed_back, step.fed_back)
    assert again.displacement is None
    assert torch.equal(model.look(FRAMES[3], again).logits, model.look(FRAMES[3], step).logits)
    with pytest.raises(InvalidInput, match=r"A state of \d+ channels: this model's has"):
        trained(replace(LOOP, carry="mean") if loop.carry == "feedback" else LOOP).step_from(step.state_dict())


@every_kind
@torch.no_grad()
def test_what_does_not_fit_is_refused_and_another_size_is_resized(loop):
    model = trained(loop)
    step = model.look(FRAMES[0])
    with pytest.raises(InvalidInput, match="its state is of 2 images"):
        model.look(FRAMES[0, :1], step)
    with pytest.raises(InvalidType, match="expected a Step"):
        model.look(FRAMES[0], step.logits)
    with pytest.raises(InvalidInput, match="expected 3"):
        model.look(FRAMES[0, :, :2], step)
    larger = nn.functional.interpolate(FRAMES[1], (16, 24))
    assert model.look(larger, step).logits.shape == (2, 2, 16, 24)
    half = step.to(torch.float32)
    torch.testing.assert_close(
        model.look(FRAMES[1], half).logits, model.look(FRAMES[1], step).logits, atol=1e-4, rtol=1e-3
    )


# --- gradients and cost


def gradients(model, lost):
    model.zero_grad()
    lost.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loop", [KINDS["learnt weight"], KINDS["mean"]], ids=["learnt weight", "mean"])
def test_gradient_goes_through_all_frames_unless_a_look_is_detached(loop):
    model = trained(loop)

    def last(**told):
        film = smpf.Film(model)
        return gradients(model, film(FRAMES[:4].transpose(0, 1), **told)[:, -1].square().mean())

    whole, alone = last(), last(detach_every=1)
    expected = gradients(model, by_hand(model, FRAMES[:4])[-1][-1].square().mean())
    assert whole.keys() == expected.keys() == alone.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(whole[name], gradient, msg=name)
    assert "feedback.restorer.weight" in whole or loop.weight != "learnt"
    one, other = (found["feedback.restorer.last.weight"] for found in (whole, alone))
    assert not torch.allclose(one, other, rtol=1e-6, atol=0)
    model.feedback.config = replace(loop, detach=True)
    for name, gradient in last().items():
        torch.testing.assert_close(gradient, alone[name], msg=name)
    model.feedback.config = replace(loop, recompute=True, grad_steps=1)
    for name, gradient in last().items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_a_learnt_weight_begins_at_nothing_and_is_heard_once_it_is_trained():
    fresh = smpf.wrap(Stub(3, 4, 2), replace(LOOP, weight="learnt"))
    assert fresh.restorer.weight.tolist() == 0
    model = trained(replace(LOOP, weight="learnt"))
    silent, published = trained(replace(LOOP, weight=0, steps=1, carry=None)), trained(replace(LOOP, weight=1e-3))
    with torch.no_grad():
        model.restorer.weight.zero_()
    same = {name: value for name, value in model.state_dict().items() if name != "feedback.restorer.weight"}
    for other in (silent, published):
        other.load_state_dict(same)
    steps = followed(model, FRAMES[:3])
    for frame, step in zip(FRAMES, steps, strict=False):
        assert torch.equal(step.logits, silent(frame))
    found = gradients(model, steps[-1].logits.square().mean())
    assert found["feedback.restorer.weight"].abs() > 1e-9
    assert not found["feedback.restorer.transfer.main.0.weight"].any()
    with torch.no_grad():
        model.restorer.weight.fill_(1e-3)
        torch.testing.assert_close(model(FRAMES[0]), published(FRAMES[0]), atol=1e-12, rtol=0)


@torch.no_grad()
def test_a_frame_costs_one_restoration_and_one_segmentation():
    for loop in (LOOP, KINDS["mean"]):
        model = trained(loop)
        calls = counted(model, "feedback.restorer.down.0", "feedback.restorer.last", "c1")
        followed(model, FRAMES)
        assert [*calls.values()] == [len(FRAMES)] * 3


# --- what may be told


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"carry": "state"}, "carry='state'"),
        ({"weight": "learned"}, "weight='learned': expected a number >= 0, or 'learnt'"),
        ({"carry": "feedback", "weight": 0, "steps": 1}, "carry='feedback' with weight=0"),
        ({"rate": 0.5}, "rate=0.5 with carry=None"),
        ({"carry": "mean", "rate": 1.5}, r"rate=1.5: expected a number in \(0, 1\]"),
        ({"carry": "mean", "rate": "slow"}, r"rate='slow': expected a number in \(0, 1\], or 'learnt'"),
        ({"cut": 0.5}, "cut=0.5 with carry=None"),
    ],
)
def test_what_does_not_go_together_is_refused_at_birth(told, said):
    with pytest.raises(InvalidValue, match=said):
        smpf.Restoration(**told)


def test_a_restorer_that_is_not_shown_a_mean_is_refused_with_the_one_that_is(restored):
    restored.restorers.register("painter", lambda config, channels, classes: nn.Conv2d(channels, channels, 1))
    told = replace(LOOP, restorer="painter")
    assert carries(smpf.wrap(Stub(3, 4, 2), replace(told, weight="learnt")))
    with pytest.raises(InvalidValue, match="restorer='painter', which is not shown the mean"):
        smpf.wrap(Stub(3, 4, 2), replace(told, carry="mean"))


def test_a_restorer_whose_weight_is_a_number_is_not_told_to_learn_it(restored):
    class Weighs(Restorer):
        def __init__(self, config, channels, classes):
            super().__init__()
            self.loudness = config.weight

        def restore(self, image, begun, feedback):
            return Restored(image if feedback is None else image + self.loudness * feedback[:, :3])

    restored.restorers.register("weighs", Weighs)
    assert carries(smpf.wrap(Stub(3, 4, 2), replace(LOOP, restorer="weighs")))
    with pytest.raises(InvalidValue, match="weight='learnt' with restorer='weighs', which takes a number"):
        smpf.wrap(Stub(3, 4, 2), replace(LOOP, restorer="weighs", weight="learnt"))


@torch.no_grad()
def test_a_loop_of_the_base_begins_anew_with_each_restored_image():
    small = {"encoder_weights": None, "encoder_depth": 3, "decoder_channels": (16, 8, 8), "classes": 2}
    inner = smpf.Recurrent(steps=2, dynamics="gated", feedback_init=0.3)
    model = smpf.create("Unet", "tu-test_resnet.r160_in1k", feedback=replace(LOOP, base=inner), **small).eval()
    frames = torch.rand(3, 1, 3, 16, 16)
    steps = followed(model, frames)
    torch.testing.assert_close(steps[-1].logits, model.segment(steps[-1].restored))
    pytest.importorskip("onnxscript")
    with pytest.raises(InvalidValue, match="feedback='recurrent' alone is a graph of two inputs"):
        smpf.export(model, "unused.onnx", look=True)


@torch.no_grad()
def test_it_goes_to_disk_and_back(tmp_path):
    small = {"encoder_weights": None, "encoder_depth": 3, "decoder_channels": (16, 8, 8), "classes": 2}
    told = replace(KINDS["mean"], weight="learnt", cut=0.25)
    model = smpf.create("Unet", "tu-test_resnet.r160_in1k", feedback=told, **small).eval()
    for parameter in model.restorer.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.5)
    again = smpf.from_pretrained(model.save_pretrained(tmp_path)).eval()
    assert again.loop_config == told
    frames = torch.rand(3, 1, 3, 16, 16)
    assert torch.equal(followed(again, frames)[-1].logits, followed(model, frames)[-1].logits)
