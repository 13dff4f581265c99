"""What a model and a look say of themselves: short, true, and nothing that is given is taken for HTML."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from functools import partial
from html.parser import HTMLParser

import pytest
import segmentation_models_pytorch as smp
import torch
from small_base import SmallBase
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import smp_feedback as smpf
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.loops.html_tables import table_html
from smp_feedback.loops.steps import Step
from smp_feedback.loops.summary import parts_of
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.multiply_adds import multiply_adds

LOOPS = list(catalogue().loops)
SMALL = {
    "recurrent": {"steps": 4, "dynamics": "gated"},
    "repair": {"steps": 4, "width": 8},
    "restoration": {"steps": 4, "depth": 2, "filters": 4},
    "score": {"steps": 4, "filters": 4, "additional_pools": 1},
}
LRASPP = "torchvision/lraspp_mobilenet_v3_large"
DASH = "\N{EN DASH}"
LONGEST = 160  # letters of a look's line


def small(loop="recurrent", **settings):
    return smpf.create("PlainConv", classes=3, feedback={"loop": loop, **SMALL.get(loop, {}), **settings}, width=8)


class Text(HTMLParser):
    """What a reader sees, and the tags."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.tags = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


# --- a look


@pytest.mark.parametrize("loop", LOOPS)
@torch.no_grad()
def test_a_look_is_a_short_line_of_what_it_is(loop):
    model = small(loop).eval()
    *_, step = model.iterate(torch.rand(1, 3, 48, 64))
    said = repr(step)
    assert said.startswith(f"{type(step).__name__}(index={step.index}, looks={int(step.looks)}, ")
    assert f"state={tuple(step.state.shape)}, change={float(step.change):.3g})" in said
    assert len(said) <= LONGEST


@torch.no_grad()
def test_no_answer_is_computed_for_a_line():
    def answer(turned, size):
        raise AssertionError("nobody asked")

    *_, step = small().eval().iterate(torch.rand(1, 3, 16, 16))
    blind = Step(step.index, step.size, step._turned, step._before, answer)
    assert repr(blind) == repr(step)


@torch.no_grad()
def test_of_a_batch_the_mean_change_is_told_and_how_many_looks_there_were_at_least_and_most():
    *_, step = small().eval().iterate(torch.rand(5, 3, 16, 16))
    assert f"looks=4, state=(5, 10, 16, 16), mean_change={float(step.change.mean()):.3g})" in repr(step)
    apart = next(small().eval().iterate(torch.rand(2, 3, 16, 16)))
    model = small().eval()
    apart = model.look(torch.rand(2, 3, 16, 16))
    apart = model.look(torch.rand(2, 3, 16, 16), apart.reset(torch.tensor([True, False])))
    assert "looks=1-2" in repr(apart)


def test_a_look_on_meta_says_nothing_that_it_does_not_know():
    with torch.no_grad():
        step = next(small().eval().iterate(torch.rand(1, 3, 16, 16))).to("meta")
    assert repr(step) == "Step(index=0, looks=1, state=(1, 10, 16, 16))"
    assert "img" not in step._repr_html_()


def test_a_look_that_is_traced_is_a_line_still(monkeypatch):
    with torch.no_grad():
        step = next(small().eval().iterate(torch.rand(1, 3, 16, 16)))
    with FakeTensorMode() as mode:
        assert repr(step._map(mode.from_tensor)) == "Step(index=0, looks=1, state=(1, 10, 16, 16))"
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert repr(step) == "Step(index=0, looks=1, state=(1, 10, 16, 16))"
    assert "change" not in vars(step), "nothing was added to the graph"


def test_a_dataclass_made_of_a_look_prints_no_tensors_either():
    @dataclass(frozen=True)
    class TheirStep(Step):
        pass

    with torch.no_grad():
        step = next(small().eval().iterate(torch.rand(1, 3, 16, 16)))
    theirs = TheirStep(step.index, step.size, step._turned, step._before, step._answer)
    assert repr(theirs).endswith("TheirStep(index=0, size=(16, 16))")
    assert len(repr(theirs)) <= LONGEST


@pytest.mark.parametrize("loop", LOOPS)
def test_a_notebook_shows_the_answer_and_the_look_keeps_its_gradient(loop):
    pytest.importorskip("matplotlib")
    model = small(loop).train()
    *_, step = model.iterate(torch.rand(2, 3, 32, 32))
    drawn = torch.random.get_rng_state()
    page = Text(step._repr_html_())
    ((_, image),) = [tag for tag in page.tags if tag[0] == "img"]
    assert image["src"].startswith("data:image/png;base64,iVBORw0KGgo")
    assert repr(step) in page.texts
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert model.training
    assert step.logits.requires_grad


def test_a_notebook_without_matplotlib_shows_the_line(monkeypatch):
    with torch.no_grad():
        step = next(small().eval().iterate(torch.rand(1, 3, 16, 16)))

    def missing(name):
        raise smpf.FeedbackError("This needs matplotlib")

    monkeypatch.setattr("smp_feedback.loops.step_words.above", missing)
    assert step._repr_html_() == f"<div><code>{step!r}</code></div>"


# --- a model


@pytest.mark.parametrize("loop", LOOPS)
def test_a_summary_fits_a_terminal_and_its_parts_add_up(loop):
    model = small(loop)
    found = model.summary((32, 48))
    assert max(map(len, str(found).splitlines())) <= 80
    assert repr(found) == str(found)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert found.parts[-1].name == "feedback"
    facts = dict(found.facts)
    assert facts["loop"] == loop
    assert {"architecture", "looks (T)", "fed back", "enters"} <= facts.keys()
    with pytest.raises(FrozenInstanceError):
        found.looks = 3


@pytest.mark.parametrize("loop", LOOPS)
def test_what_all_looks_compute_is_counted_from_two_as_if_all_were_run(loop):
    model, image = small(loop).train(), torch.rand(1, 3, 32, 48)
    work = model.summary((32, 48)).work
    assert work.one == multiply_adds(model, image, partial(model, steps=1))
    assert work.every == multiply_adds(model, image)
    assert work.plain == multiply_adds(smpf.create("PlainConv", classes=3, feedback=False, width=8), image)
    assert work.plain < work.one < work.every
    assert model.training


def test_counted_work_is_that_of_the_plain_model_of_smp():
    told = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    image = torch.rand(1, 3, 64, 64)
    plain = smp.Unet("resnet18", encoder_weights=None, **told)
    found = smpf.create("Unet", "resnet18", None, feedback=True, **told).summary((64, 64))
    assert found.work.plain == multiply_adds(plain, image)
    assert [part.name for part in found.parts] == ["encoder", "decoder", "segmentation_head", "feedback"]
    assert ("encoder", "resnet18") in found.facts


@pytest.mark.parametrize(
    ("make", "architecture"),
    [
        (lambda: smpf.wrap(SmallBase(nn.Identity())), "SmallBase"),
        (lambda: smpf.create("timm/test_vit", classes=3, feedback={"insert": "after:patch_embed"}), "timm/test_vit"),
        (lambda: smpf.create(LRASPP, classes=3, feedback=True), LRASPP),
    ],
)
def test_models_without_encoder_and_decoder_have_a_summary(make, architecture):
    found = make().summary()
    assert dict(found.facts)["architecture"] == architecture
    assert "encoder" not in dict(found.facts)
    assert len(found.parts) > 1


def test_a_loop_around_a_loop_tells_of_both():
    model = smpf.wrap(smpf.create("PlainConv", classes=3, feedback=smpf.Recurrent(tau=2.0)), smpf.Repair(width=8))
    facts = dict(model.summary().facts)
    assert facts["tau"] == "1 look"
    assert facts["base's tau"] == "2 looks"


def test_parameters_of_two_parts_are_counted_once_and_many_parts_are_put_together():
    net = nn.Module()
    net.one, net.two = nn.Linear(4, 4), nn.Linear(4, 4)
    net.two.weight = net.one.weight
    assert [(part.name, part.parameters) for part in parts_of(net)] == [("one", 20), ("two", 4)]
    many = parts_of(nn.Sequential(*[nn.Linear(1, 1) for _ in range(40)]))
    assert len(many) == 12
    assert many[-2:] == (("29 others", 58, 58), ("39", 2, 2))
    assert sum(part.parameters for part in many) == 80


@pytest.mark.parametrize(
    ("size", "error"), [("ab", InvalidType), ((3,), InvalidType), (64, InvalidType), ((0, 4), InvalidValue)]
)
def test_a_size_that_is_none_is_refused(size, error):
    with pytest.raises(error, match="image_size="):
        small().summary(size)


def test_long_names_and_facts_stay_in_eighty_columns():
    class Base(SmallBase):
        def __init__(self):
            super().__init__(nn.Identity())
            setattr(self, "x" * 100, nn.Linear(2, 2))

    Base.__name__ = "Long" * 40
    lines = str(smpf.wrap(Base()).summary()).splitlines()
    assert max(map(len, lines)) <= 80


# --- in a notebook


def test_a_model_in_a_notebook_is_its_summary_and_nothing_of_it_is_taken_for_html():
    class Base(SmallBase):
        pass

    Base.__name__ = "<script>alert(1)</script>&"
    model = smpf.wrap(Base(nn.Identity()))
    page = Text(model._repr_html_())
    assert "<script>alert(1)</script>&" in page.texts
    assert "script" not in {tag for tag, _ in page.tags}
    assert f"{sum(p.numel() for p in model.parameters()):,}" in page.texts
    assert repr(model).count("\n") > 3, "torch's own stays"


def test_a_table_says_nothing_of_nothing():
    page = Text(table_html([["a<b", None, float("nan"), 1234567, 0.123456, True]], ["x"], "<i>"))
    assert page.texts == ["<i>", "x", "a<b", DASH, DASH, "1,234,567", "0.1235", "True"]
