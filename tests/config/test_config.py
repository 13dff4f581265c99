"""One frozen value that explains itself: its defaults, its way through JSON, and every way to get it wrong."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smp_feedback as smpf
from smp_feedback.checks import check_whole
from smp_feedback.config.base import GradientFlow, LoopConfig
from smp_feedback.config.parse import as_config
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue, UnknownKeyword, UnknownName
from smp_feedback.registry.public import catalogue

FIELDS = [field.name for field in dataclasses.fields(Recurrent)]
DYNAMICS = ["decay", "fractional", "leaky", "gated", "residual"]
PROJECTIONS = ["softmax", "state", "answer+state", "probabilities", "entropy"]


def refused(kind, words, **values):
    """``Recurrent(**values)`` raises *kind*, with all of *words* in one line that needs no look at the code."""
    with pytest.raises(FeedbackError) as caught:
        Recurrent(**values)
    assert isinstance(caught.value, kind)
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in {message!r}"
    assert "\n" not in message


# --- defaults


def test_the_defaults_are_those_of_the_documentation():
    assert Recurrent().to_dict() == {
        "loop": "recurrent",
        "steps": 4,
        "channels": 2,
        "tau": 1.0,
        "dynamics": "decay",
        "output": "logits",
        "projection": None,
        "order": 1.5,
        "learn_rates": False,
        "rate_exponent": 1.0,
        "basis": "identity",
        "norm_error": None,
        "norm_feedback": None,
        "init_std": 0.0,
        "feedback_init": 0.0,
        "statistics": "per_step",
        "grad_steps": None,
        "detach": False,
        "recompute": False,
        "tolerance": None,
        "cut": None,
        "insert": "input",
        "stem": None,
        "options": None,
    }


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_documented(field):
    assert f"\n        {field}: " in Recurrent.__doc__


@pytest.mark.parametrize("field", [field for field in FIELDS if field != "options"])  # no built-in part has some
def test_every_field_is_given_by_keyword_kept_and_frozen(field):
    other = {
        "steps": 7,
        "channels": 3,
        "tau": math.inf,
        "dynamics": "leaky",
        "output": "dirichlet",
        "projection": "entropy",
        "order": 0.5,
        "learn_rates": True,
        "rate_exponent": 2.0,
        "basis": "orthogonal",
        "norm_error": 3,
        "norm_feedback": "none",
        "init_std": 1e-3,
        "feedback_init": 0.1,
        "statistics": "shared",
        "grad_steps": 2,
        "detach": True,
        "recompute": True,
        "tolerance": 0.5,
        "cut": 0.5,
        "insert": "stage:2",
        "stem": "encoder.conv1",
    }[field]
    needs = {"output": {"norm_error": "layer"}, "cut": {"dynamics": "gated"}}  # each output has a norm of its own
    usual = Recurrent(**needs.get(field, {}))
    config = dataclasses.replace(usual, **{field: other})
    assert getattr(config, field) == other
    assert config != usual
    assert dataclasses.replace(config, **{field: getattr(usual, field)}) == usual
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, field, other)


def test_a_config_is_a_value():
    config = Recurrent(steps=3, tau=math.inf)
    assert config == Recurrent(tau=math.inf, steps=3)
    assert hash(config) == hash(Recurrent(steps=3, tau=math.inf))
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == config
    assert eval(repr(config), {"Recurrent": Recurrent, "inf": math.inf}) == config


def test_fields_are_not_positional():
    with pytest.raises(TypeError):
        Recurrent(3)


def test_the_gradient_flow_is_one_value():
    assert Recurrent().flow == GradientFlow(None, False, False)
    assert Recurrent(grad_steps=2, recompute=True).flow == GradientFlow(2, False, True)
    assert Recurrent(detach=True).flow == GradientFlow(detach=True)


# --- through JSON and back


@st.composite
def configs(draw):
    """Any valid config: the settings that exclude each other are drawn apart."""
    positive = st.floats(min_value=1e-3, max_value=1e6)
    dynamics = draw(st.sampled_from(DYNAMICS))
    gated = dynamics == "gated"
    auto = not gated and draw(st.booleans())
    norms = st.one_of(st.sampled_from(["layer", "instance", "pixel"]), st.integers(1, 64))
    loose = st.one_of(norms, st.just("none"))
    projection = draw(st.none() | st.sampled_from(PROJECTIONS))
    bases = ["identity"] if dynamics in ("leaky", "gated") else ["identity", "orthogonal"] if auto else None
    tau = draw(st.one_of(positive, st.integers(1, 100), *([] if auto else [st.just(math.inf)])))
    detach = draw(st.booleans())
    return Recurrent(
        steps="auto" if auto else draw(st.integers(1, 10**6)),
        channels=draw(st.integers(1, 64)),
        tau=1.0 if gated else min(max(1.0, tau), 1e6) if dynamics == "leaky" else tau,
        dynamics=dynamics,
        output=draw(st.sampled_from(["logits", "dirichlet"])),
        projection=projection,
        order=1.5 if gated else draw(st.floats(min_value=1, max_value=10) if auto else positive),
        learn_rates=dynamics not in ("leaky", "gated") and draw(st.booleans()),
        rate_exponent=1.0 if gated else draw(positive),
        basis=draw(st.sampled_from(bases or ["identity", "orthogonal", "free"])),
        norm_error=draw(norms if auto else loose),
        norm_feedback=draw(st.sampled_from([None, "none"]) if "state" in str(projection) else loose),
        init_std=draw(st.floats(min_value=0, max_value=1e6)),
        feedback_init=draw(st.floats(min_value=0, max_value=1e6)),
        statistics=draw(st.sampled_from(["per_step", "shared"])),
        grad_steps=None if detach else draw(st.none() | st.integers(1, 100)),
        detach=detach,
        recompute=draw(st.booleans()),
        tolerance=draw(st.none() | positive),
        cut=draw(st.none() | positive) if dynamics in ("leaky", "gated") else None,
        stem=draw(st.none() | st.sampled_from(["encoder.conv1", "inf", "auto", "True"])),
    )


@given(configs())
@settings(max_examples=300, deadline=None)
def test_a_config_survives_json(config):
    text = json.dumps(config.to_dict(), allow_nan=False)
    assert Recurrent.from_dict(json.loads(text)) == config
    assert as_config(json.loads(text)) == config


@given(configs())
@settings(max_examples=50, deadline=None)
def test_to_dict_says_every_field_and_the_loop(config):
    assert list(config.to_dict()) == ["loop", *FIELDS]


def test_no_decay_is_written_as_a_word_that_json_has():
    assert json.dumps(Recurrent(tau=math.inf).to_dict(), allow_nan=False).count('"inf"') == 1
    assert Recurrent.from_dict({"tau": "inf"}).tau == math.inf


def test_a_dict_is_not_changed_by_reading_it():
    values = {"loop": "recurrent", "tau": "inf"}
    as_config(values)
    assert values == {"loop": "recurrent", "tau": "inf"}


@pytest.mark.parametrize("read", [Recurrent.from_dict, as_config])
@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("step", "steps"),
        ("Steps", "steps"),
        ("chanels", "channels"),
        ("grad_step", "grad_steps"),
        ("norm_eror", "norm_error"),
    ],
)
def test_an_unknown_key_is_refused_and_the_closest_suggested(read, key, meant):
    with pytest.raises(UnknownKeyword) as caught:
        read({"steps": 3, key: 1})
    assert isinstance(caught.value, TypeError)
    assert f"Recurrent has no field {key!r}" in str(caught.value)
    assert f"{meant!r}" in str(caught.value)


@pytest.mark.parametrize("key", ["qqq", 1, None])
def test_a_key_like_no_field_is_answered_with_all_there_are(key):
    with pytest.raises(UnknownKeyword) as caught:
        Recurrent.from_dict({key: 1})
    assert repr(key) in str(caught.value)
    assert all(field in str(caught.value) for field in FIELDS)


def test_a_misspelt_keyword_is_a_type_error_that_names_it():
    with pytest.raises(TypeError, match="stpes"):
        Recurrent(stpes=3)


def test_values_read_from_a_dict_are_checked_like_any_other():
    with pytest.raises(InvalidValue, match=r"steps=0: expected a whole number >= 1"):
        as_config({"steps": 0})


def test_the_dict_of_another_loop_is_refused():
    with pytest.raises(FeedbackError, match=r"'score'.*'recurrent'"):
        Recurrent.from_dict({"loop": "score", "steps": 3})


def test_the_loop_of_a_dict_is_a_name_in_any_case():
    assert Recurrent.from_dict({"loop": "Recurrent"}) == as_config({"loop": "RECURRENT"}) == Recurrent()


# --- feedback=


def test_true_is_the_recurrent_loop_with_its_defaults():
    assert as_config(True) == Recurrent()


def test_a_caller_may_mean_something_else_by_true():
    residual = Recurrent(dynamics="residual")
    assert as_config(True, default=residual) is residual
    assert as_config("recurrent", default=residual) == Recurrent()
    assert as_config({}, default=residual) == Recurrent()


@pytest.mark.parametrize("feedback", [False, None])
def test_false_and_none_are_no_feedback(feedback):
    assert as_config(feedback) is None
    assert as_config(feedback, default=Recurrent(steps=2)) is None


@pytest.mark.parametrize("loop", list(catalogue().loops))
def test_every_loop_is_a_config_by_its_name_in_any_case(loop):
    for name in (loop, loop.upper()):
        config = as_config(name)
        assert isinstance(config, LoopConfig)
        assert config == as_config({"loop": name})
        assert config.loop == loop


def test_a_config_is_itself():
    config = Recurrent(steps=3)
    assert as_config(config) is config


def test_a_dict_without_a_loop_is_the_recurrent_one():
    assert as_config({"steps": 9}) == Recurrent(steps=9)
    assert as_config({}) == Recurrent()


@pytest.mark.parametrize("feedback", ["recurent", {"loop": "recurent"}])
def test_a_misspelt_loop_is_suggested(feedback):
    with pytest.raises(UnknownName, match=r"No loop( or preset)? is called 'recurent'\. Did you mean 'recurrent'\?"):
        as_config(feedback)


@pytest.mark.parametrize("feedback", [0, 1, 3, 1.5, [], ("recurrent",), b"recurrent", Recurrent, object()])
def test_feedback_of_a_wrong_type_is_told_every_right_one(feedback):
    with pytest.raises(InvalidType) as caught:
        as_config(feedback)
    message = str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert f"feedback={feedback!r} ({type(feedback).__name__})" in message
    for right in ("True", "False", "recurrent", "Recurrent(", "dict"):
        assert right in message


@pytest.mark.parametrize("loop", [3, None, ["recurrent"]])
def test_a_loop_that_is_no_name_is_a_type_error(loop):
    with pytest.raises(InvalidType) as caught:
        as_config({"loop": loop})
    assert f"loop {loop!r}" in str(caught.value)


# --- bad values: field, value, and what would be right

WHOLE = "expected a whole number >= 1"
BAD = [
    *[
        (InvalidType, {"options": v}, [f"options={v!r}", "'dynamics'", "'projection'"])
        for v in (3, "wide", ["dynamics"])
    ],
    (UnknownKeyword, {"options": {"dynamic": {}}}, ["no part 'dynamic'", "Did you mean 'dynamics'?"]),
    (UnknownKeyword, {"options": {"projection": {"width": 1}}}, ["projection='softmax'", "none of its own", "'width'"]),
    *[(InvalidValue, {"steps": v}, [f"steps={v}", WHOLE]) for v in (0, -1)],
    *[(InvalidType, {"steps": v}, [f"steps={v!r}", WHOLE]) for v in (2.5, True, None, math.nan, [4])],
    *[(InvalidType, {"steps": v}, [f"steps={v!r}", WHOLE, "'auto'"]) for v in ("many", "AUTO", "4")],
    *[(InvalidValue, {"channels": v}, [f"channels={v}", WHOLE]) for v in (0, -2)],
    *[(InvalidType, {"channels": v}, [f"channels={v!r}", WHOLE]) for v in (1.0, True, "2", None)],
    *[(InvalidValue, {"tau": v}, [f"tau={v}", "expected a number > 0 (steps)"]) for v in (0, -1, math.nan, -math.inf)],
    *[(InvalidType, {"tau": v}, [f"tau={v!r}", "expected a number > 0 (steps)"]) for v in ("1", None, True, 1j, "inf")],
    *[
        (InvalidValue, {field: v}, [f"{field}={v}", "expected a number > 0"])
        for field in ("order", "rate_exponent", "tolerance", "cut")
        for v in (0, -1, math.nan)
    ],
    *[
        (InvalidValue, {field: math.inf}, [f"{field}=inf", "finite"])
        for field in ("order", "rate_exponent", "tolerance", "cut", "init_std", "feedback_init")
    ],
    *[
        (InvalidType, {field: v}, [f"{field}={v!r}", "expected a number"])
        for field in ("order", "rate_exponent", "tolerance", "cut", "init_std", "feedback_init")
        for v in ("1", True)
    ],
    *[
        (InvalidValue, {field: v}, [f"{field}={v}", "expected a number >= 0"])
        for field in ("init_std", "feedback_init")
        for v in (-1e-3, math.nan)
    ],
    *[
        (InvalidType, {field: v}, [f"{field}={v!r}", "expected True or False"])
        for field in ("learn_rates", "detach", "recompute")
        for v in (0, 1, None, "yes")
    ],
    (InvalidValue, {"basis": "ortogonal"}, ["basis='ortogonal'", "'orthogonal'"]),
    *[(InvalidValue, {"basis": v}, [f"basis={v!r}", "identity", "orthogonal", "free"]) for v in ("x", None, 1)],
    (InvalidValue, {"statistics": "per-step"}, ["statistics='per-step'", "'per_step'"]),
    *[(InvalidValue, {"statistics": v}, [f"statistics={v!r}", "per_step", "shared"]) for v in ("x", None, True)],
    *[
        (InvalidValue, {field: wrong}, [f"{field}={wrong!r}", repr(right)])
        for wrong, right in (("layr", "layer"), ("pixl", "pixel"))
        for field in ("norm_error", "norm_feedback")
    ],
    *[
        (InvalidValue, {field: v}, [f"{field}={v!r}", "layer", "instance", "pixel", "none", "groups"])
        for field in ("norm_error", "norm_feedback")
        for v in ("batch", 2.0, True)
    ],
    *[
        (InvalidValue, {field: v}, [f"{field}={v}", ">= 1", "groups"])
        for field in ("norm_error", "norm_feedback")
        for v in (0, -2)
    ],
    *[(InvalidValue, {"grad_steps": v}, [f"grad_steps={v}", WHOLE]) for v in (0, -1)],
    *[(InvalidType, {"grad_steps": v}, [f"grad_steps={v!r}", WHOLE]) for v in (1.5, True, "all")],
    *[(InvalidType, {"insert": v}, [f"insert={v!r}", "'stage:k'"]) for v in (3, True, None)],
    *[(InvalidValue, {"insert": v}, [f"insert={v!r}", "'input'"]) for v in ("stage:0", "stage:6", "stages", "INPUT")],
    *[(InvalidType, {"stem": v}, [f"stem={v!r}", "name of a convolution"]) for v in (3, True, ["conv1"])],
    (UnknownName, {"dynamics": "leakly"}, ["No dynamics is called 'leakly'", "'leaky'"]),
    (UnknownName, {"dynamics": ""}, ["No dynamics is called ''", *DYNAMICS]),
    (UnknownName, {"projection": "sofmax"}, ["No projection is called 'sofmax'", "'softmax'"]),
    *[(InvalidType, {"dynamics": v}, ["dynamics", repr(v), "expected a name (str)"]) for v in (None, 3)],
    (InvalidType, {"projection": 3}, ["projection", "3", "expected a name (str)"]),
    (InvalidValue, {"output": "dirichelt"}, ["output='dirichelt'", "'dirichlet'"]),
    *[(InvalidValue, {"output": v}, [f"output={v!r}", "logits", "dirichlet"]) for v in ("x", None, True)],
]

TOGETHER = [
    ({"grad_steps": 2, "detach": True}, ["grad_steps=2", "detach=True", "grad_steps=None"]),
    ({"dynamics": "leaky", "tau": 0.5}, ["tau=0.5", "dynamics='leaky'", "tau >= 1"]),
    ({"dynamics": "leaky", "learn_rates": True}, ["learn_rates=True", "dynamics='leaky'", "learn_rates=False"]),
    ({"dynamics": "leaky", "basis": "free"}, ["basis='free'", "dynamics='leaky'", "basis='identity'"]),
    ({"dynamics": "leaky", "basis": "orthogonal"}, ["basis='orthogonal'", "dynamics='leaky'", "basis='identity'"]),
    *[
        ({"steps": "auto", "tau": math.inf, "dynamics": dynamics}, ["steps='auto'", "tau=inf", "give a number"])
        for dynamics in DYNAMICS
        if dynamics != "gated"
    ],
    ({"dynamics": "gated", "steps": "auto"}, ["steps='auto'", "dynamics='gated'", "give a number"]),
    *[
        ({"dynamics": "gated", field: value}, [f"{field}={value!r}", "dynamics='gated'", f"expected {field}={usual!r}"])
        for field, value, usual in (
            *(("tau", 2.0, 1.0), ("tau", math.inf, 1.0), ("order", 2.0, 1.5), ("learn_rates", True, False)),
            *(("rate_exponent", 2.0, 1.0), ("basis", "orthogonal", "identity"), ("basis", "free", "identity")),
        )
    ],
    *[
        (
            {"projection": projection, "norm_feedback": norm},
            [f"norm_feedback={norm!r}", f"projection={projection!r}", "norm_feedback=None", "norm_error"],
        )
        for projection in ("state", "answer+state")
        for norm in ("layer", "pixel", 2)
    ],
    ({"steps": "auto", "norm_error": "none"}, ["steps='auto'", "norm_error='none'", "give a number", "'instance'"]),
    ({"steps": "auto", "basis": "free"}, ["steps='auto'", "basis='free'", "give a number", "'orthogonal'"]),
    (
        {"steps": "auto", "dynamics": "fractional", "order": 0.5},
        ["steps='auto'", "order=0.5", "order >= 1"],
    ),
]


def shown(values):
    return ",".join(f"{k}={v!r}" for k, v in values.items())


@pytest.mark.parametrize(("kind", "values", "words"), [pytest.param(*case, id=shown(case[1])) for case in BAD])
def test_a_bad_value_is_refused_with_its_field_its_value_and_what_would_be_right(kind, values, words):
    refused(kind, words, **values)


@pytest.mark.parametrize(("values", "words"), [pytest.param(*case, id=shown(case[0])) for case in TOGETHER])
def test_settings_that_make_no_sense_together_are_refused_with_the_way_out(values, words):
    refused(InvalidValue, words, **values)


def test_every_field_is_guarded():
    assert {field for _, values, _ in BAD for field in values} == set(FIELDS)


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 1},
        {"steps": "auto"},
        {"tau": 1},
        {"tau": 1e-6},
        {"tau": math.inf},
        {"dynamics": "leaky", "tau": 1},
        {"dynamics": "fractional", "order": 0.5},
        {"steps": "auto", "norm_feedback": "none"},
        {"steps": "auto", "norm_error": 1, "basis": "orthogonal"},
        {"grad_steps": 9, "steps": 4},
        {"dynamics": "DECAY", "projection": "Entropy"},
        {"dynamics": "gated", "projection": "Answer+State", "norm_error": "pixel", "norm_feedback": "none"},
        {"dynamics": "gated", "tau": 1, "norm_error": "none", "init_std": 1.0},
        {"steps": "auto", "norm_error": "pixel", "norm_feedback": "pixel"},
    ],
    ids=shown,
)
def test_values_at_the_edge_are_taken(values):
    config = Recurrent(**values)
    assert all(getattr(config, field) == value for field, value in values.items())


@pytest.mark.parametrize("name", DYNAMICS)
def test_every_dynamics_has_its_config(name):
    assert name in catalogue().dynamics
    assert as_config({"dynamics": name}).dynamics == name


def test_the_check_returns_what_it_checked():
    assert check_whole("steps", 3) == 3


def test_the_public_name_is_the_config():
    assert smpf.Recurrent is Recurrent
    assert Recurrent.loop == "recurrent"
