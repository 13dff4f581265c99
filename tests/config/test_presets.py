"""Presets: a name for a loop's config, changed field by field, never kept as a name."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

import smp_feedback as smpf
from smp_feedback.config.parse import as_config
from smp_feedback.errors import InvalidType, InvalidValue, NameTaken, UnknownKeyword, UnknownName
from smp_feedback.registry.public import catalogue

ANYTIME = smpf.Recurrent(
    **{"steps": 32, "channels": 8, "dynamics": "leaky", "tau": 1.0, "projection": "state", "norm_error": "pixel"},
    statistics="shared",
)
TINY = {"encoder_name": "tu-test_resnet.r160_in1k", "encoder_weights": None, "classes": 2}
TINY |= {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}


@pytest.mark.parametrize("feedback", ["anytime", "AnyTime", {"preset": "anytime"}, {"preset": "ANYTIME"}])
def test_a_preset_is_a_config_by_its_name_in_any_case(feedback):
    assert as_config(feedback) == ANYTIME


def test_a_change_is_of_the_field_that_it_names():
    changed = as_config({"preset": "anytime", "steps": 8, "norm_error": "layer"})
    assert changed == dataclasses.replace(ANYTIME, steps=8, norm_error="layer")


def test_a_registered_preset_is_left_as_it_was(restored):
    preset = {"steps": 3}
    assert smpf.register_preset("three", preset, aliases=("drei",)) is preset
    as_config({"preset": "drei", "tau": 2.0})
    assert preset == {"steps": 3}
    assert as_config("Three") == smpf.Recurrent(steps=3)
    assert "three" in smpf.list_presets("t*")


def test_a_preset_may_be_of_any_loop(restored):
    smpf.register_preset("refined", {"loop": "score", "steps": 3, "base": "anytime"})
    assert as_config("refined") == smpf.Score(steps=3, base=ANYTIME)


@pytest.mark.parametrize(
    ("feedback", "kind", "words"),
    [
        ("anytme", UnknownName, "No loop or preset is called 'anytme'. Did you mean 'anytime'?"),
        ("recurent", UnknownName, "No loop or preset is called 'recurent'. Did you mean 'recurrent'?"),
        ({"preset": "anytme"}, UnknownName, "No preset is called 'anytme'. Did you mean 'anytime'?"),
        ({"loop": "anytime"}, UnknownName, "No loop is called 'anytime'."),
        ({"preset": "recurrent"}, UnknownName, "No preset is called 'recurrent'."),
        ({"preset": 3}, InvalidType, "preset 3: expected a name"),
        ({"preset": None}, InvalidType, "preset None: expected a name"),
        ({"preset": "anytime", "loop": "score"}, InvalidValue, "'score'.*'anytime' is of the loop 'recurrent'"),
        ({"preset": "anytime", "stpes": 3}, UnknownKeyword, "no field 'stpes'. Did you mean 'steps'"),
        ({"preset": "anytime", "tau": 0.5}, InvalidValue, "tau=0.5: .*dynamics=.leaky."),
        (3, InvalidType, "the name of a loop .*recurrent.* or of a preset .*anytime"),
    ],
)
def test_what_is_no_preset_is_told_what_there_is(feedback, kind, words):
    with pytest.raises(kind, match=words):
        as_config(feedback)


def test_one_name_is_never_a_loop_and_a_preset(restored):
    for name, aliases in (("Recurrent", ()), ("mine", ("score",))):
        with pytest.raises(NameTaken, match="a loop of smp_feedback is called so"):
            smpf.register_preset(name, {"steps": 2}, aliases=aliases)
    with pytest.raises(NameTaken, match="a preset of smp_feedback is called so"):
        smpf.register_loop("Anytime", catalogue().loops["recurrent"])
    assert not {"mine", "Recurrent"} & set(catalogue().presets)


def test_a_taken_preset_is_refused_unless_it_says_the_same(restored):
    smpf.register_preset("mine", {"steps": 2})
    smpf.register_preset("mine", {"steps": 2})
    with pytest.raises(NameTaken, match=f"preset 'mine' belongs to {__name__}"):
        smpf.register_preset("mine", {"steps": 3})
    with pytest.raises(NameTaken, match="preset 'ANYTIME' belongs to smp_feedback"):
        smpf.register_preset("ANYTIME", {"steps": 3})


def test_a_notebook_may_say_a_preset_anew(restored):
    for steps in (2, 3):
        exec(
            f"import smp_feedback as smpf; smpf.register_preset('mine', {{'steps': {steps}}})", {"__name__": "__main__"}
        )
    assert as_config("mine").steps == 3


# --- beside an architecture's own loop


USUAL = {"loop": "recurrent", "steps": 5, "tau": 2.0, "insert": "stem", "norm_feedback": "layer"}


def test_an_architectures_own_loop_gives_way_but_for_where_the_feedback_enters():
    expected = ANYTIME.to_dict() | {"insert": "stem"}
    assert as_config("anytime", usual=USUAL).to_dict() == expected
    assert as_config({"preset": "anytime", "insert": "input"}, usual=USUAL) == ANYTIME
    assert as_config("anytime", usual={"loop": "score", "steps": 3}) == ANYTIME


def test_a_preset_that_says_where_the_feedback_enters_has_its_way(restored):
    smpf.register_preset("deep", {"insert": "stage:2"})
    assert as_config("deep", usual=USUAL) == smpf.Recurrent(insert="stage:2")


# --- in models


def test_what_is_saved_is_the_config_and_not_its_name(tmp_path):
    model = smpf.create("Unet", **TINY, feedback={"preset": "anytime", "steps": 3}).eval()
    folder = model.save_pretrained(tmp_path)
    kept = json.loads((tmp_path / "config.json").read_text())["feedback"]
    assert kept == model.loop_config.to_dict()
    assert "preset" not in kept
    again = smpf.from_pretrained(folder)
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(again(image), model(image))
    changed = smpf.from_pretrained(folder, feedback={"preset": "anytime", "steps": 2})
    assert changed.loop_config == dataclasses.replace(ANYTIME, steps=2)
    assert smpf.from_pretrained(folder, feedback="anytime").loop_config == ANYTIME


def test_a_saved_model_hears_a_preset_where_it_was_trained_to(tmp_path):
    folder = smpf.create("Unet", **TINY, feedback={"preset": "anytime", "insert": "stem"}).save_pretrained(tmp_path)
    expected = dataclasses.replace(ANYTIME, insert="stem")
    for feedback in ("anytime", {"preset": "anytime", "steps": 32}):
        assert smpf.from_pretrained(folder, feedback=feedback).loop_config == expected


def test_a_trained_model_is_wrapped_into_it():
    base = smpf.create("Unet", **TINY, feedback=False).eval()
    model = smpf.wrap(base, "anytime")
    assert model.loop_config == ANYTIME
    assert model(torch.rand(1, 3, 32, 32), steps=2).shape == (1, 2, 32, 32)


def test_no_look_has_statistics_that_training_did_not_come_to():
    model = smpf.create("Unet", **TINY, feedback={"preset": "anytime", "steps": 6}).train()
    model(torch.rand(2, 3, 32, 32), steps=2)
    kept = {name: value for name, value in model.state_dict().items() if "running_var" in name}
    assert kept
    assert not [name for name, value in kept.items() if (value == 1).all(-1).any()]


def test_its_state_knows_neither_the_number_of_looks_nor_a_bound_of_the_images_size():
    """At every pixel, however long it looks: a mix of corrections of rms 1."""
    model = smpf.create("Unet", **TINY, feedback="anytime").eval()
    with torch.no_grad():
        for size in (32, 64):
            for step in model.iterate(torch.rand(1, 3, size, size), steps=20):
                assert step.state.abs().max() <= step.state.shape[1] ** 0.5
