"""One look a frame: the caller holds the state, streams begin anew one by one, and nothing else changes."""

from __future__ import annotations

import copy
import itertools
import subprocess
import sys

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from small_base import SmallBase
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import smp_feedback as smpf
from smp_feedback.config.recurrent import carrying
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, SurgeryError
from smp_feedback.loops.steps import relative_change
from smp_feedback.models.base_norm import NORMS as BASE_NORMS
from smp_feedback.registry.public import catalogue

FRAMES = torch.rand(9, 3, 3, 8, 6, generator=torch.Generator().manual_seed(3)).double()  # three streams
IMAGE = FRAMES[0]
FIRST = torch.tensor([True, False, False])
NORMS = {
    "a row a step": (nn.BatchNorm2d(6), {}),
    "one row": (nn.BatchNorm2d(6), {"statistics": "shared"}),
    "of the image": (nn.GroupNorm(2, 6), {}),
    "none": (nn.Identity(), {}),
}
KINDS = {
    "residual in name only": {"dynamics": "leaky", "tau": 3.0},
    "gated": {"dynamics": "gated"},
    "answer": {"dynamics": "gated", "projection": "answer+state"},
    "dirichlet": {"dynamics": "leaky", "tau": 2.0, "output": "dirichlet"},
    "pixel": {"dynamics": "leaky", "projection": "state", "norm_error": "pixel"},
}


def closed(norm="a row a step", **config):
    """A loop in float64 whose feedback is heard, with statistics of every step that differ."""
    torch.manual_seed(0)
    layer, more = NORMS[norm]
    told = {"steps": 4, "feedback_init": 1.0, "dynamics": "gated", **more, **config}
    model = smpf.wrap(SmallBase(copy.deepcopy(layer)), smpf.Recurrent(**told)).double()
    for _ in range(3):
        model.train()(torch.rand(4, 3, 8, 6).double())
    return model.eval()


def looked(model, frames, before=None):
    steps = []
    for frame in frames:
        before = model.look(frame, before)
        steps.append(before)
    return steps


def gradients(model, lost):
    model.zero_grad(set_to_none=True)
    lost.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def alike(one, other):
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], rtol=1e-9, atol=1e-12, msg=name)


# --- one look is one look of a call


@torch.no_grad()
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dynamics", carrying())
def test_looks_at_one_image_are_its_trajectory_to_the_bit(dynamics, norm):
    """Seven of them, where four have statistics of their own."""
    model = closed(norm, dynamics=dynamics)
    path = model.trajectory(IMAGE, 7)
    whole = list(model.iterate(IMAGE, 7))
    for t, step in enumerate(looked(model, [IMAGE] * 7)):
        assert torch.equal(step.logits, path[t])
        assert torch.equal(step.change, whole[t].change)
        assert (step.index, step.looks.tolist()) == (t, [t + 1] * 3)


@torch.no_grad()
def test_a_film_ends_on_the_row_of_the_last_step_that_has_one():
    model = closed(steps=2)
    own, later = model.norm._buffers["running_mean"], model.feedback.statistics[0].running_mean
    assert later.shape == (1, 6)
    assert not torch.equal(own, later[0])
    steps = looked(model, FRAMES)
    later += 1.0
    others = looked(model, FRAMES)
    assert torch.equal(steps[0].logits, others[0].logits)
    assert not any(torch.equal(a.logits, b.logits) for a, b in zip(steps[1:], others[1:], strict=True))


@torch.no_grad()
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dynamics", carrying())
def test_streams_in_turns_do_not_disturb_each_other(dynamics, norm):
    model = closed(norm, dynamics=dynamics)
    films = FRAMES, FRAMES.flip(-1)
    alone = [looked(model, film) for film in films]
    before = [None, None]
    for t in range(len(FRAMES)):
        for i, film in enumerate(films):
            before[i] = model.look(film[t], before[i])
            assert torch.equal(before[i].logits, alone[i][t].logits)


@torch.no_grad()
def test_a_look_asks_no_rule_of_stopping(monkeypatch):
    model, plain = closed(tolerance=0.9), closed()
    for step, other in zip(looked(model, FRAMES), looked(plain, FRAMES), strict=True):
        assert torch.equal(step.logits, other.logits)


@torch.no_grad()
def test_a_map_is_resized_to_another_image_and_its_change_is_counted_from_there():
    model = closed()
    first = model.look(IMAGE)
    larger = torch.rand(3, 3, 16, 12).double()
    step = model.look(larger, first)
    found = F.interpolate(first.state, (16, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(step.change, relative_change(found, step.state))
    assert step.logits.shape[-2:] == (16, 12)


class NoPadding(SmallBase):
    """Of h pixels it makes (h - 1) // 2: as many as no share of h, rounded, says."""

    def __init__(self, norm):
        super().__init__(norm)
        self.conv = nn.Conv2d(3, 6, 3, stride=2)

    def forward_head(self, features):
        return F.interpolate(super().forward_head(features), scale_factor=3.0)  # as large as the image, or larger


@torch.no_grad()
@pytest.mark.parametrize("norm", ["a row a step", "of the image"])
@pytest.mark.parametrize("drawn", [0.0, 0.5])
def test_a_state_whose_size_is_known_to_rounding_is_judged_on_the_grid_that_the_look_finds(norm, drawn):
    told = {"steps": 4, "feedback_init": 1.0, "dynamics": "gated", "tolerance": 1e-3, "init_std": drawn}
    model = smpf.wrap(NoPadding(copy.deepcopy(NORMS[norm][0])), smpf.Recurrent(**told)).double().eval()
    frame = torch.rand(3, 3, 17, 23).double()
    before = model.look(torch.rand(3, 3, 32, 32).double())
    step = model.look(frame, before)
    assert step.state.shape[-2:] == (8, 11) != model.recurrent.state_size(frame)
    found = F.interpolate(before.state, (9, 12), mode="bilinear", align_corners=False)
    found = F.interpolate(found, (8, 11), mode="bilinear", align_corners=False)
    torch.testing.assert_close(step.change, relative_change(found, step.state))
    assert model.look(frame, step, reset=1e-9).looks.tolist() == [1, 1, 1]
    assert len(list(model.iterate(frame, 3, before=before))) == 3
    assert model.look(frame, step.reset(FIRST)).looks.tolist() == [1, 3, 3]


@torch.no_grad()
def test_a_frame_costs_one_plain_forward_and_what_is_new():
    """Eight channels into the 7 x 7 stem of 64, a read-out of the decoder's 16, and a gate of all 24 (64 px)."""
    plain = smp.Unet("resnet18", encoder_weights=None).eval()
    model = smpf.wrap(plain, smpf.Recurrent(dynamics="gated", projection="state", channels=8)).eval()
    image = torch.rand(1, 3, 64, 64)
    before, counted = model.look(image), []
    for run in (lambda: plain(image), lambda: model.look(image, before).logits):
        with FlopCounterMode(display=False) as flops:
            run()
        counted.append(flops.get_total_flops())
    stem, readout, gate = 7 * 7 * 8 * 64 * 32**2, 16 * 8 * 64**2, 2 * 24 * 24 * 64**2
    assert counted[1] - counted[0] == 2 * (stem + readout + gate)
    assert counted[1] <= 1.10 * counted[0]


# --- what cannot look


OTHERS = {
    "score": smpf.Score(filters=4, additional_pools=1),
    "restoration": smpf.Restoration(depth=2, filters=2),
    "restoration around": smpf.Restoration(depth=2, filters=2, base=smpf.Recurrent(steps=2, dynamics="gated")),
}


@pytest.mark.parametrize("loop", OTHERS)
def test_another_loop_refuses_by_name_with_the_one_that_looks(loop):
    model = smpf.wrap(SmallBase(nn.Identity()), OTHERS[loop])
    name = loop.partition(" ")[0]
    for ways in (lambda: model.look(torch.rand(1, 3, 8, 8)), lambda: model.step_from({}), lambda: smpf.Film(model)):
        with pytest.raises(InvalidValue, match=f"feedback='{name}' begins anew with every image; feedback='recurrent'"):
            ways()


@pytest.mark.parametrize("dynamics", [name for name in catalogue().dynamics if name not in carrying()])
def test_dynamics_that_do_not_carry_are_refused_at_the_first_look_with_those_that_do(dynamics):
    model, worked = closed(dynamics=dynamics), []
    model.conv.register_forward_pre_hook(lambda *call: worked.append(call))
    with pytest.raises(InvalidValue, match=f"look: dynamics='{dynamics}' weighs.*'gated' or 'leaky'"):
        model.look(IMAGE)
    with pytest.raises(InvalidValue, match=f"Film: dynamics='{dynamics}'"):
        smpf.Film(model)
    with pytest.raises(InvalidValue, match=f"cut=0.5: dynamics='{dynamics}' carries no state.*'gated' or 'leaky'"):
        smpf.Recurrent(dynamics=dynamics, cut=0.5)
    assert not worked


def test_what_does_not_fit_is_refused_before_any_work():
    model, worked = closed(), []
    step = model.look(IMAGE)
    model.conv.register_forward_pre_hook(lambda *call: worked.append(call))
    for kind, words, call in (
        (InvalidInput, "of 3 images and 8 channels; expected 2 and 8", lambda: model.look(IMAGE[:2], step)),
        (InvalidType, r"before=2 \(int\): expected a Step that look", lambda: model.look(IMAGE, 2)),
        (InvalidInput, "rank 4", lambda: model.look(FRAMES, step)),
        (InvalidValue, "reset='auto': this model has learned no threshold", lambda: model.look(IMAGE, reset="auto")),
        (InvalidValue, "reset='always': expected 'auto'", lambda: model.look(IMAGE, reset="always")),
        (InvalidValue, "reset=0: expected a number > 0", lambda: model.look(IMAGE, reset=0)),
        (InvalidType, "reset=True", lambda: model.look(IMAGE, reset=True)),
        (InvalidValue, "reset=0.5 in training", lambda: model.train().look(IMAGE, reset=0.5)),
        (InvalidType, r"mask=\[True\]", lambda: step.reset([True])),
        (InvalidType, "mask of dtype torch.int64", lambda: step.reset(torch.tensor([0, 1, 1]))),
        (InvalidInput, r"mask of shape \(2,\): expected \(3,\)", lambda: step.reset(torch.tensor([True, False]))),
        (InvalidValue, "torch.int64: a state holds real numbers", lambda: step.to(torch.int64)),
        (InvalidValue, "cut=0", lambda: model.choose_cut(0)),
    ):
        with pytest.raises(kind, match=words):
            call()
    assert not worked


def test_a_hook_of_the_model_itself_is_not_gone_past():
    model = closed()
    model.register_forward_hook(lambda *call: None)
    with pytest.raises(SurgeryError, match=r"look opens this .* without its forward hook"):
        model.look(IMAGE)


# --- streams that begin anew


@torch.no_grad()
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_is_reset_is_a_new_one_and_its_neighbours_go_on(kind, norm):
    model = closed(norm, **KINDS[kind])
    going = looked(model, FRAMES)
    anew = looked(model, FRAMES[4:])
    reset = looked(model, FRAMES[4:], going[3].reset(FIRST))
    for step, new, old in zip(reset, anew, going[4:], strict=True):
        for name in ("logits", "state", "change", "looks"):
            expected = torch.cat([getattr(new, name)[:1], getattr(old, name)[1:]])
            torch.testing.assert_close(getattr(step, name), expected, rtol=1e-10, atol=1e-12, msg=name)
    assert not torch.allclose(anew[0].logits, going[4].logits), "what was fed back is not heard"


SCHEDULE = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=9)


@settings(max_examples=12, deadline=None)
@given(SCHEDULE)
def test_whoever_begins_when_each_stream_answers_as_alone(schedule):
    for norm in ("a row a step", "of the image"):
        model, before, alone = MODELS[norm], None, [None, None, None]
        with torch.no_grad():
            for frame, anew in zip(FRAMES, schedule, strict=False):
                before = model.look(frame, before if before is None else before.reset(torch.tensor(anew)))
                for i, begins in enumerate(anew):
                    alone[i] = model.look(frame[i : i + 1], None if begins else alone[i])
                    torch.testing.assert_close(before.logits[i], alone[i].logits[0], rtol=1e-9, atol=1e-10)
                    assert before.looks[i] == alone[i].looks[0]


MODELS = {norm: closed(norm, dynamics="leaky", tau=2.0) for norm in ("a row a step", "of the image")}


@torch.no_grad()
def test_a_reset_between_looks_of_one_call_is_kept_through_it_and_with_a_rule_of_stopping():
    for rule in (5, smpf.until_settled(2, at_most=5)):
        model = closed(hears := "a row a step", dynamics="leaky", tau=3.0)
        before = model.look(IMAGE).reset(FIRST)
        *_, last = model.iterate(IMAGE, rule, before=before)
        for i in range(3):
            *_, alone = model.iterate(IMAGE[i : i + 1], rule, before=None if i == 0 else model.look(IMAGE[i : i + 1]))
            torch.testing.assert_close(last.logits[i], alone.logits[0], rtol=1e-9, atol=1e-10, msg=hears)
            assert last.looks[i] == alone.looks[0]


@torch.no_grad()
@pytest.mark.parametrize(("norm", "tau"), [("a row a step", 2.0), ("of the image", 3.0)])
@pytest.mark.parametrize("tolerance", [None, 0.06])
def test_images_that_stopped_after_looks_of_their_own_go_on_as_each_would_alone(norm, tau, tolerance):
    """By the statistics of its own next look, however many the slowest of the batch has had."""
    model = closed(norm, steps=12, dynamics="leaky", tau=tau, tolerance=tolerance)
    rule = smpf.until_settled(2, at_most=12) if tolerance is None else 12
    *_, together = model.iterate(IMAGE, rule)
    assert len(set(together.looks.tolist())) > 1, "nothing was tested"
    before, alone = together, []
    for i in range(3):
        *_, one = model.iterate(IMAGE[i : i + 1], rule)
        alone.append(one)
    for frame in FRAMES[1:4]:
        before = model.look(frame, before)
        alone = [model.look(frame[i : i + 1], one) for i, one in enumerate(alone)]
        for name in ("logits", "looks", "change"):
            expected = torch.cat([getattr(one, name) for one in alone])
            torch.testing.assert_close(getattr(before, name), expected, rtol=1e-9, atol=1e-10, msg=name)


@torch.no_grad()
@pytest.mark.parametrize("norm", ["a row a step", "one row"])
def test_a_drawn_first_state_is_drawn_for_who_begins(norm):
    model = closed(norm, init_std=0.5)
    before = model.look(IMAGE)
    torch.manual_seed(5)
    new = model.look(FRAMES[1] if norm == "one row" else FRAMES[1][:1])
    torch.manual_seed(5)
    step = model.look(FRAMES[1], before.reset(FIRST))
    torch.testing.assert_close(step.logits[:1], new.logits[:1])
    torch.testing.assert_close(step.logits[1:], model.look(FRAMES[1], before).logits[1:])


def test_in_training_who_begins_is_counted_in_the_statistics_of_the_first_look():
    model = closed(steps=2).train()
    before = model.look(IMAGE)
    later = model.feedback.statistics[0]
    counts = [model.norm._buffers["num_batches_tracked"].item(), later.num_batches_tracked.item()]
    model.look(IMAGE, before)
    model.look(IMAGE, before.reset(FIRST))
    model.look(IMAGE, before.reset(FIRST | True))
    found = [model.norm._buffers["num_batches_tracked"].item(), later.num_batches_tracked.item()]
    assert [b - a for a, b in zip(counts, found, strict=True)] == [2, 2]


def test_it_waits_for_the_device_once_a_reset_and_never_without(monkeypatch):
    waits = []
    for name in ("nonzero", "item", "__bool__", "__int__", "__float__", "tolist", "cpu"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda x, *a, _real=real, _name=name: waits.append(_name) or _real(x, *a)
        )
    for norm, expected in (("a row a step", ["tolist"]), ("of the image", []), ("one row", [])):
        model = closed(norm)
        with torch.no_grad():
            waits.clear()
            step = looked(model, FRAMES)[-1].detach()
            assert not waits
            looked(model, FRAMES, step.reset(FIRST))
        assert waits == expected


# --- cuts


@torch.no_grad()
@pytest.mark.parametrize("norm", ["a row a step", "of the image"])
def test_a_cut_is_told_by_the_change_and_the_frame_is_a_first_one(norm):
    """The first stream's film is cut at the fifth frame; the others stand still."""
    model = closed(norm, feedback_init=0.1)
    film = IMAGE.expand(8, *IMAGE.shape).clone()
    film[4:, 0] = 1 - FRAMES[1, 0]
    plain = looked(model, film)
    still = max(step.change.max().item() for step in plain[2:4])
    threshold = (plain[4].change[0].item() + still) / 2
    assert still < threshold < plain[4].change[0], "the film is no film with a cut"
    model.choose_cut(threshold)
    before, by_hand = None, None
    for t, frame in enumerate(film):
        before = model.look(frame, before, reset="auto")
        by_hand = model.look(frame, by_hand.reset(FIRST) if t == 4 else by_hand)
        assert torch.equal(before.logits, by_hand.logits)
        assert before.looks.tolist() == [t - 3 if t > 3 else t + 1, t + 1, t + 1]
    assert model.look(film[5], plain[3], reset=1e9).looks.tolist() == [5, 5, 5]
    assert smpf.Recurrent.from_dict(model.config["feedback"]).cut == threshold


@torch.no_grad()
def test_the_first_two_looks_are_no_cuts_so_a_threshold_that_is_too_low_does_not_keep_a_stream_at_its_beginning():
    model, before, found = closed(), None, []
    for frame in FRAMES[:7]:
        before = model.look(frame, before, reset=1e-9)
        found.append(before.looks.tolist())
    assert found == [[1] * 3, [2] * 3, [1] * 3, [2] * 3, [1] * 3, [2] * 3, [1] * 3]


@torch.no_grad()
def test_a_stream_that_is_no_number_any_more_begins_anew_where_resets_are_asked_for():
    """A frame of NaN, which the state would keep for ever; the streams beside it go on."""
    model, before, found = closed(), None, []
    film = FRAMES.clone()
    film[2, 0] = torch.nan
    for frame in film[:5]:
        before = model.look(frame, before, reset=1e9)
        found.append((before.looks.tolist(), before.logits.isnan().flatten(1).any(1).tolist()))
    assert found[2:] == [([1, 3, 3], [True, False, False]), ([1, 4, 4], [False] * 3), ([2, 5, 5], [False] * 3)]
    torch.testing.assert_close(before.logits[:1], looked(model, film[3:5, :1])[-1].logits)


# --- a look that is moved, and one that is saved


@torch.no_grad()
def test_a_look_moves_with_all_that_it_holds():
    model = closed()
    step = looked(model, FRAMES[:3])[-1].reset(FIRST)
    there = step.to("meta")
    assert {x.device.type for x in (there.state, there.change, there.looks, there.beginnings.looks)} == {"meta"}
    half = step.to(torch.float32)
    assert (half.state.dtype, half.looks.dtype) == (torch.float32, torch.int64)
    torch.testing.assert_close(
        model.look(FRAMES[3], half).logits, model.look(FRAMES[3], step).logits, rtol=1e-4, atol=1e-4
    )


def test_a_look_is_itself_and_no_other_and_one_of_no_image_can_be_printed():
    model = closed()
    step = model.look(IMAGE)
    assert step == step
    assert step != model.look(IMAGE)
    assert len({step, model.look(IMAGE)}) == 2
    assert repr(model.look(IMAGE[:0], model.look(IMAGE[:0]))).startswith("Step(index=1, state=(0, ")


def test_a_copied_look_has_tensors_of_its_own_and_the_model_of_the_first():
    model = closed()
    step = looked(model, FRAMES[:3])[-1].reset(FIRST)
    copied, again = copy.deepcopy([step, step])
    assert copied is again
    assert copied._answer.__self__ is model
    for ours, theirs in ((copied.state, step.state), (copied.looks, step.looks)):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()
    assert copied.beginnings.looks.tolist() == step.beginnings.looks.tolist()
    expected = model.look(FRAMES[3], step)
    for name in ("logits", "state", "change", "looks"):
        assert torch.equal(getattr(model.look(FRAMES[3], copied), name), getattr(expected, name))
    with torch.no_grad():
        copied.state.zero_()
    assert torch.equal(model.look(FRAMES[3], step).logits, expected.logits)
    assert step.state.grad_fn is not None, "a look in a graph is copied, too"


@torch.no_grad()
@pytest.mark.parametrize("file", ["torch", "safetensors"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dynamics", carrying())
def test_a_saved_look_goes_on_to_the_bit(dynamics, norm, file, tmp_path):
    model = closed(norm, dynamics=dynamics)
    step = looked(model, FRAMES[:3])[-1].reset(FIRST)
    path = tmp_path / "look"
    if file == "torch":
        torch.save(step.state_dict(), path)
        saved = torch.load(path, weights_only=True)
    else:
        save_file(step.state_dict(), path)
        saved = load_file(path)
    found = copy.deepcopy(model).step_from(saved)
    for name in ("logits", "change", "looks", "index", "size"):
        ours, theirs = getattr(found, name), getattr(step, name)
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
    for ours, theirs in zip(looked(model, FRAMES[3:], found), looked(model, FRAMES[3:], step), strict=True):
        assert torch.equal(ours.logits, theirs.logits)


FRESH = """
import sys, pathlib, torch, smp_feedback as smpf
torch.set_num_threads(1)
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    model = smpf.from_pretrained(folder / "model").eval()
    saved, frame = torch.load(folder / "look", weights_only=True)
    with torch.no_grad():
        torch.save(model.look(frame, model.step_from(saved)).logits, folder / "logits")
"""
EVERY_NORM = [
    *({"base_norm": norm} for norm in (None, *BASE_NORMS)),
    *({"norm_error": norm} for norm in ("instance", "layer", 2, "pixel", "none")),
    {"statistics": "shared"},
]


@pytest.mark.sweep
@torch.no_grad()
def test_a_look_goes_on_in_a_fresh_process_whatever_carries_and_normalises(tmp_path):
    frames, expected = torch.rand(2, 2, 3, 32, 32), {}
    for k, (dynamics, norm) in enumerate(itertools.product(carrying(), EVERY_NORM)):
        loop = {name: value for name, value in norm.items() if name != "base_norm"}
        config = smpf.Recurrent(dynamics=dynamics, feedback_init=0.5, steps=3, channels=2, **loop)
        base = {"encoder_depth": 3, "decoder_channels": (16, 8, 8), "base_norm": norm.get("base_norm")}
        model = smpf.create("Unet", "tu-test_resnet.r160_in1k", None, classes=2, feedback=config, **base).eval()
        step = model.look(frames[0])
        model.save_pretrained(tmp_path / f"{k:02d}" / "model")
        torch.save((step.state_dict(), frames[1]), tmp_path / f"{k:02d}" / "look")
        expected[k, dynamics, str(norm)] = model.look(frames[1], step).logits
    subprocess.run([sys.executable, "-c", FRESH, str(tmp_path)], check=True)
    for (k, *which), logits in expected.items():
        found = torch.load(tmp_path / f"{k:02d}" / "logits", weights_only=True)
        assert torch.equal(found, logits), which


def test_what_is_no_saved_look_is_refused():
    model, other = closed(), closed(channels=4)
    saved = model.look(IMAGE).state_dict()
    for kind, words, wrong in (
        (InvalidType, "list: expected the tensors by name", [saved]),
        (InvalidType, "dict: expected the tensors by name", {**saved, "index": 3}),
        (InvalidInput, "has no 'looks'", {k: v for k, v in saved.items() if k != "looks"}),
        (InvalidInput, "has 'weight'", {**saved, "weight": saved["state"]}),
        (InvalidInput, r"state \(8, 8, 6\)", {**saved, "state": saved["state"][0]}),
        (InvalidInput, r"began \(1,\)", {**saved, "began": torch.tensor([0])}),
        (InvalidInput, r"before \(1, 8, 8, 6\)", {**saved, "before": saved["state"][:1]}),
        (InvalidInput, r"index \(2,\)", {**saved, "index": torch.tensor([0, 0])}),
        (InvalidInput, "index is -1: expected int64, 0 or more", {**saved, "index": torch.tensor(-1)}),
        (InvalidInput, r"size is \[0, 6\]: expected int64, 1 or more", {**saved, "size": torch.tensor([0, 6])}),
        (InvalidInput, "looks is .*: expected int64", {**saved, "looks": saved["looks"] / 2}),
        (InvalidInput, "state is torch.int64: expected floating", {**saved, "state": saved["state"].long()}),
    ):
        with pytest.raises(kind, match=words):
            model.step_from(wrong)
    with pytest.raises(InvalidInput, match="A state of 8 channels: this model's has 10"):
        other.step_from(saved)


@torch.no_grad()
def test_a_saved_look_of_a_model_with_labels_is_none_of_one_without():
    told = {"encoder_depth": 3, "decoder_channels": (16, 8, 8), "feedback": smpf.Recurrent(dynamics="gated", steps=2)}
    plain, labelled = (
        smpf.create("Unet", "tu-test_resnet.r160_in1k", None, aux_params=aux, **told).eval()
        for aux in (None, {"classes": 4})
    )
    image = torch.rand(1, 3, 16, 16)
    step = labelled.look(image)
    assert torch.equal(labelled.step_from(step.state_dict()).labels, step.labels)
    with pytest.raises(InvalidInput, match="with features, of which no labels are made"):
        plain.step_from(step.state_dict())
    with pytest.raises(InvalidInput, match="with no features, which this model's labels are made of"):
        labelled.step_from(plain.look(image).state_dict())


# --- gradients


FLOWS = {"all": {}, "grad_steps": {"grad_steps": 1}, "recompute": {"recompute": True}}


@pytest.mark.parametrize("flow", FLOWS)
def test_gradient_goes_through_all_frames_whatever_a_call_lets_through(flow):
    """grad_steps counts the looks of one call, of which a look has one."""
    model, whole = closed(**FLOWS[flow]), closed()
    ours = gradients(model, sum(step.logits.square().mean() for step in looked(model, [IMAGE] * 4)))
    alike(ours, gradients(whole, whole.trajectory(IMAGE, 4).square().mean((1, 2, 3, 4)).sum()))


@pytest.mark.parametrize("told", ["config", "detach()"])
def test_no_gradient_crosses_a_look_that_is_detached(told):
    model, each = closed(detach=told == "config"), closed(detach=True)
    steps, before = [], None
    for _ in range(4):
        before = model.look(IMAGE, before.detach() if before is not None and told == "detach()" else before)
        steps.append(before)
    ours = gradients(model, sum(step.logits.square().mean() for step in steps))
    alike(ours, gradients(each, sum(step.logits.square().mean() for step in each.iterate(IMAGE, 4))))
    through = closed()
    every = gradients(through, sum(step.logits.square().mean() for step in looked(through, [IMAGE] * 4)))
    assert not torch.allclose(ours["conv.weight"], every["conv.weight"])


def test_no_gradient_reaches_what_was_before_a_reset():
    model = closed()
    before = model.look(IMAGE)
    before.state.retain_grad()
    model.look(IMAGE, before.reset(FIRST)).logits.sum().backward()
    assert not before.state.grad[0].any()
    assert before.state.grad[1:].flatten(1).any(1).all()
