"""Dynamics and projections of strangers: settings of their own, states of several maps, weights that learn."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import NamedTuple

import pytest
import torch
from own_parts import ConvLSTM, LSTMOptions, Memory, Mixed
from torch import Tensor, nn

import smp_feedback as smpf
from smp_feedback.dynamics import Dynamics
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, UnknownKeyword
from smp_feedback.ops.maps import resize
from smp_feedback.projections import Projection
from smp_feedback.registry.public import catalogue
from smp_feedback.testing import check_dynamics, check_looks, check_projection
from smp_feedback.testing import dynamics as of_dynamics
from smp_feedback.testing import projections as of_projections
from smp_feedback.training.optim import groups_of

OPTIONS = {"dynamics": {"kernel": 3}, "projection": {"width": 3}}
LSTM = {"dynamics": "convlstm", "projection": "mixed", "options": OPTIONS, "steps": 3}


@pytest.fixture(autouse=True)
def _ours(monkeypatch):
    """A catalogue with both, whose changes are forgotten."""
    for registry in (catalogue().dynamics, catalogue().projections):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    smpf.register_dynamics("convlstm", ConvLSTM)
    smpf.register_projection("mixed", Mixed)


def plain_conv(**feedback):
    """A small model with weights as if trained."""
    torch.manual_seed(0)
    model = smpf.create("PlainConv", classes=3, feedback=smpf.Recurrent(**{**LSTM, **feedback}))
    for parameter in model.feedback.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


# --- settings of their own


def test_settings_are_whole_in_the_config_and_come_back_from_a_file():
    config = smpf.Recurrent(**LSTM)
    assert config.options["dynamics"] == {"kernel": 3, "forget": 1.0, "squash": "tanh", "widths": ()}
    assert smpf.Recurrent.from_dict(config.to_dict()) == config
    assert config.options_of("dynamics") == LSTMOptions(kernel=3)
    assert hash(config) == hash(smpf.Recurrent(**LSTM))


def test_settings_are_taken_as_their_dataclass_and_as_yaml_has_them():
    given = {**LSTM, "options": {**OPTIONS, "dynamics": LSTMOptions(forget=2.0, widths=(1, 2))}}
    said = {**LSTM, "options": {**OPTIONS, "dynamics": {"forget": 2, "widths": [1, 2]}}}
    assert smpf.Recurrent(**given) == smpf.Recurrent(**said)
    endless = smpf.Recurrent(**{**LSTM, "options": {**OPTIONS, "dynamics": {"forget": math.inf}}})
    assert endless.to_dict()["options"]["dynamics"]["forget"] == "inf"
    assert smpf.Recurrent.from_dict(endless.to_dict()) == endless


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (UnknownKeyword, {"dynamics": {"kernal": 3}}, "has no field 'kernal'. Did you mean 'kernel'?"),
        (InvalidType, {"dynamics": {"kernel": 3.5}}, "kernel=3.5 (float): expected int"),
        (InvalidType, {"dynamics": {"kernel": True}}, "kernel=True (bool): expected int"),
        (InvalidType, {"dynamics": {"forget": "much"}}, "expected float"),
        (InvalidType, {"dynamics": {"squash": "relu"}}, "expected Literal['tanh', 'none']"),
        (InvalidType, {"dynamics": {"widths": [1, "2"]}}, "expected tuple[int, ...]"),
        (InvalidType, {"dynamics": 3}, "expected the fields of a LSTMOptions"),
        (InvalidValue, {"dynamics": {"kernel": 2}}, "expected an odd number"),
        (InvalidValue, {"projection": {}}, "needs 'width' (int)"),
        (UnknownKeyword, {"kernel": 3}, "options={'dynamics': {'kernel': ...}}"),
    ],
)
def test_settings_that_are_none_are_refused_in_words(kind, options, words):
    with pytest.raises(kind) as caught:
        smpf.Recurrent(**{**LSTM, "options": {"projection": {"width": 3}, **options}})
    assert words in str(caught.value)


def test_a_type_that_no_config_can_hold_is_refused():
    @dataclasses.dataclass
    class Odd:
        where: nn.Module = None

    class Told(ConvLSTM):
        options_class = Odd

    smpf.register_dynamics("odd", Told)
    with pytest.raises(InvalidType, match=r"NameError|cannot be kept|not to be found"):
        smpf.Recurrent(dynamics="odd", options={"dynamics": {"where": nn.Identity()}})


def test_a_preset_keeps_the_settings_that_a_change_leaves_alone():
    smpf.register_preset("remembering", LSTM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue().presets, "_entries", dict(catalogue().presets._entries))
        changed = smpf.create(
            "PlainConv", feedback={"preset": "remembering", "options": {"dynamics": {"forget": 2.0}}}
        ).loop_config
    assert (changed.options["dynamics"]["kernel"], changed.options["dynamics"]["forget"]) == (3, 2.0)
    assert changed.options["projection"] == {"width": 3}
    del catalogue().presets._entries["remembering"]


# --- a state of several maps


def by_hand(model, image, steps):
    """The hidden map after each of *steps* of an LSTM written out with torch's own cell for one pixel's channels."""
    ours = model.recurrent
    cell = nn.LSTMCell(ours.dynamics.channels, ours.dynamics.channels)
    size = ours.dynamics.channels
    weight, bias = ours.dynamics.gates.weight[:, :, 0, 0], ours.dynamics.gates.bias.clone()
    order = torch.cat([torch.arange(size) + size * gate for gate in (0, 1, 3, 2)])  # torch's are i, f, g, o
    bias[size : 2 * size] += ours.dynamics.options.forget
    cell.weight_ih.data, cell.weight_hh.data = weight[order, :size].clone(), weight[order, size:].clone()
    cell.bias_ih.data, cell.bias_hh.data = bias[order].clone(), torch.zeros(4 * size)
    return cell


def test_an_lstm_of_one_pixel_is_torchs_own():
    model = plain_conv(options={**OPTIONS, "dynamics": {"kernel": 1}})
    dynamics, drives = model.recurrent.dynamics, torch.randn(4, 5, model.recurrent.dynamics.channels, 1, 1)
    with torch.no_grad():
        cell, known = by_hand(model, None, 4), None
        state = torch.zeros(5, dynamics.width, 1, 1)
        for t, drive in enumerate(drives):
            state = dynamics.rule(4)(state, drive, t)
            known = cell(drive[:, :, 0, 0], known)
            maps = dynamics.maps(state)
            torch.testing.assert_close(maps.hidden[:, :, 0, 0], known[0])
            torch.testing.assert_close(maps.cell[:, :, 0, 0], known[1])


@torch.no_grad()
def test_head_and_projection_read_the_first_map_alone():
    model, image = plain_conv(), torch.rand(2, 3, 12, 20)
    *_, step = model.iterate(image)
    c = model.recurrent.dynamics.channels
    assert step.state.shape[1] == 2 * c == model.recurrent.dynamics.width
    assert isinstance(model.recurrent.dynamics.maps(step.state), Memory)
    other = torch.cat([step.state[:, :c], torch.full_like(step.state[:, c:], 7.0)], 1)
    assert torch.equal(model._logits(other, (12, 20)), step.logits)
    assert torch.equal(model._project(other, image, (12, 20)), model._project(step.state, image, (12, 20)))


def test_it_is_carried_from_frame_to_frame_saved_and_begun_anew():
    check_looks(plain_conv(), torch.rand(2, 3, 12, 16))


@torch.no_grad()
def test_a_state_of_another_size_or_another_model_is_resized_or_refused():
    model = plain_conv()
    step = model.look(torch.rand(1, 3, 12, 16))
    larger = model.look(torch.rand(1, 3, 24, 16), step)
    assert larger.state.shape[1:] == (model.recurrent.dynamics.width, 24, 16)
    other = plain_conv(dynamics="gated", options={"projection": {"width": 3}})
    with pytest.raises(InvalidInput, match="channels"):
        other.look(torch.rand(1, 3, 12, 16), step)


@torch.no_grad()
def test_images_stop_by_themselves_with_the_answer_they_have_alone():
    model, images = plain_conv().double(), torch.rand(3, 3, 12, 12, dtype=torch.float64)
    steps = [*model.iterate(images, smpf.until_settled(2, at_most=7))]
    for image, looks, logits in zip(images, steps[-1].looks.tolist(), steps[-1].logits, strict=True):
        torch.testing.assert_close(model(image[None], steps=looks)[0], logits)


def test_steps_run_again_have_the_same_gradients():
    found = []
    for recompute in (False, True):
        model = plain_conv(recompute=recompute)
        model(torch.ones(1, 3, 8, 8)).square().mean().backward()
        found.append({name: p.grad for name, p in model.feedback.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert {"dynamics.gates.weight", "projection.mix.weight", "projection.mix.bias"} <= found[0].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


@torch.no_grad()
def test_windows_that_share_a_state_see_all_of_its_maps():
    model, image = plain_conv(), torch.rand(1, 3, 16, 16)
    tiled = smpf.tiled(model, window=16, stitch="state")
    torch.testing.assert_close(tiled(image), model(image), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_it_is_one_exported_graph():
    model, image = plain_conv(), torch.rand(1, 3, 8, 8)
    program = torch.export.export(model, (image,))
    torch.testing.assert_close(program.module()(image), model(image))


def test_a_first_state_may_be_drawn_or_the_output_itself():
    class FromOutput(ConvLSTM):
        starts_from_output = True

    smpf.register_dynamics("from-output", FromOutput)
    for feedback in ({"init_std": 0.1}, {"dynamics": "from-output"}, {"output": "dirichlet"}):
        model = plain_conv(**feedback)
        with torch.no_grad():
            first, *_ = model.iterate(torch.rand(1, 3, 8, 8))
        assert first.state.shape[1] == model.recurrent.dynamics.width


# --- what learns is trained, moved and saved


def test_what_learns_is_in_the_groups_of_the_optimiser_and_saved(tmp_path):
    model = plain_conv()
    learns = {name: p for name, p in model.named_parameters() if "projection" in name or "dynamics" in name}
    assert sorted(learns) == sorted(f"feedback.{name}" for name in (
        "dynamics.gates.bias", "dynamics.gates.weight", "projection.mix.bias", "projection.mix.weight",
    ))  # fmt: skip
    rated = {id(p) for group in groups_of(model, 0.1) if group.get("lr") == 0.1 for p in group["params"]}
    assert {id(p) for p in learns.values()} <= rated
    model.save_pretrained(tmp_path)
    again, image = smpf.from_pretrained(tmp_path), torch.rand(1, 3, 8, 8)
    assert again.loop_config == model.loop_config
    with torch.no_grad():
        assert torch.equal(again(image), model(image))


@torch.no_grad()
def test_in_half_precision_the_weights_stay_as_precise_as_the_state():
    model, image = plain_conv(), torch.rand(1, 3, 8, 8)
    half = copy.deepcopy(model).to(torch.bfloat16)
    assert {p.dtype for p in half.recurrent.dynamics.parameters()} == {torch.float32}
    assert torch.equal(half.recurrent.dynamics.gates.weight, model.recurrent.dynamics.gates.weight)
    assert half(image.bfloat16()).dtype == torch.bfloat16
    assert {p.dtype for p in copy.deepcopy(model).double().recurrent.dynamics.parameters()} == {torch.float64}


def test_asking_what_a_projection_reads_moves_no_random_numbers():
    config = smpf.Recurrent(**LSTM)
    before = torch.get_rng_state()
    assert config.state_channels_fed_back == 2
    assert torch.equal(before, torch.get_rng_state())


class Called(Projection):
    """As it was written before projections were modules: all of its own, and ``__call__``."""

    def __init__(self, config, classes):
        self.readout, self.channels = config.channels, 2
        self.mix = nn.Conv2d(self.readout, 2, 1, bias=False)

    def __call__(self, view):
        return resize(self.mix(view.readout), view.size)

    def before(self):
        return 0.0


def test_a_projection_that_defines_call_and_no_init_of_ours_learns_too():
    smpf.register_projection("called", Called)
    model = plain_conv(projection="called", options=None)
    assert "feedback.projection.mix.weight" in model.state_dict()
    model(torch.rand(1, 3, 8, 8)).sum().backward()
    assert model.recurrent.projection.mix.weight.grad.any()
    copy.deepcopy(model)


class Hidden(Called):
    """Its weights stand in a list."""

    def __init__(self, config, classes):
        super().__init__(config, classes)
        self.more = [nn.Conv2d(2, 2, 1)]


class Frozen(Mixed):
    """What it says of a state of zeros is another's as soon as it has learned."""

    def before(self):
        return 0.0


def test_weights_that_would_be_neither_trained_nor_saved_are_found_and_refused():
    smpf.register_projection("hidden", Hidden)
    with pytest.raises(InvalidType, match="'more' holds weights that are neither trained nor saved"):
        plain_conv(projection="hidden", options=None)
    with pytest.raises(AssertionError, match="'more' holds weights"):
        check_projection("hidden")
    smpf.register_projection("frozen", Frozen)
    with pytest.raises(AssertionError, match=r"does not give before\(\) = 0.0"):
        check_projection("frozen", options={"projection": {"width": 2}})


# --- dynamics that give what is no next state


def ruled(rule, **members):
    """Dynamics of a *rule*."""
    return type("Ruled", (Dynamics,), {"begin": lambda self, steps: rule, **members})


class Other(NamedTuple):
    """One map too many."""

    hidden: Tensor
    cell: Tensor
    more: Tensor


WRONG = {
    "another width": ruled(lambda h, e, t: torch.cat([h + e, e], 1)),
    "another size": ruled(lambda h, e, t: (h + e)[..., :1]),
    "another dtype": ruled(lambda h, e, t: (h + e).half()),
    "no tensor": ruled(lambda h, e, t: None),
    "a map for several": ruled(lambda s, e, t: s.hidden + e, state_class=Memory),
    "one map too many": ruled(lambda s, e, t: Other(e, e, e), state_class=Memory),
    "a map of another width": ruled(lambda s, e, t: Memory(e, s.cell[:, :1]), state_class=Memory),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_no_next_state_is_found_and_refused_at_use(fault):
    smpf.register_dynamics("wrong", WRONG[fault])
    with pytest.raises((InvalidType, InvalidValue), match=r"dynamics='wrong' \(Ruled of test_own_parts\).*gave"):
        plain_conv(dynamics="wrong", options={"projection": {"width": 3}})(torch.rand(1, 3, 8, 8))
    with pytest.raises(AssertionError, match="gave"):
        check_dynamics("wrong")


@pytest.mark.parametrize(
    "rule",
    [
        lambda h, e, t: h / h.square().mean().sqrt() + e,
        lambda h, e, t: h + e / e.square().sum((1, 2, 3), keepdim=True).sqrt(),
        lambda h, e, t: h * h * 9 + e,
    ],
    ids=["at the first state", "where nothing is corrected", "after many steps"],
)
def test_what_becomes_no_number_is_found(rule):
    smpf.register_dynamics("wrong", ruled(rule))
    with pytest.raises(AssertionError, match=r"finite|NaN|batch"):
        check_dynamics("wrong")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"state_class": dict}, "expected a NamedTuple of maps"),
        ({"state_class": Memory, "widths": lambda self: (self.channels,)}, "for each of hidden, cell"),
        ({"state_class": Memory, "widths": lambda self: (1, self.channels)}, "it is what the head reads"),
    ],
)
def test_a_state_that_is_no_maps_is_refused_when_a_model_is_made(members, words):
    smpf.register_dynamics("wrong", ruled(lambda s, e, t: s, **members))
    with pytest.raises((InvalidType, InvalidValue), match=words):
        plain_conv(dynamics="wrong", options={"projection": {"width": 3}})


def test_the_checks_hold_a_strangers_parts_to_their_own_promises(monkeypatch):
    for module in (of_dynamics, of_projections):  # a whole model with them is tried above
        monkeypatch.setattr(module, "check_loop", lambda *a, **k: None)
    check_dynamics("convlstm", options={"dynamics": {"kernel": 3}})
    check_projection("mixed", channels=3, options={"projection": {"width": 2}})
