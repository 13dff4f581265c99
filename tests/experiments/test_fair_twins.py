"""Twins of equal compute at any place: what looks share is counted once, and what each model was given is said."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from fake_comparison import fake_results, fake_sizes
from torch import nn

pytest.importorskip("lightning")
import smp_feedback as smpf
from smp_feedback.errors import InvalidValue
from smp_feedback.experiments.comparison.bases import copies_of, cost_of
from smp_feedback.experiments.comparison.budget import passes_of, steps_of, training_macs
from smp_feedback.experiments.comparison.compute import answers_a_step, calls_a_step, macs_a_step, passes_a_step
from smp_feedback.experiments.comparison.conclusion import gaps
from smp_feedback.experiments.comparison.experiment import compare
from smp_feedback.experiments.comparison.results import FEEDBACK
from smp_feedback.experiments.comparison.runs import ComparisonKey, run
from smp_feedback.experiments.comparison.schema import parse
from smp_feedback.experiments.comparison.settings import ComparisonSettings, Condition
from smp_feedback.experiments.comparison.tables import tables
from smp_feedback.experiments.comparison.variants import make_twin
from smp_feedback.experiments.cost import multiply_adds
from smp_feedback.experiments.films.experiment import compare_films
from smp_feedback.experiments.films.runs import FilmKey, batch_of, facts
from smp_feedback.experiments.films.settings import FilmSettings
from smp_feedback.experiments.look_cost import LookCost, look_cost
from smp_feedback.experiments.store import run_path
from smp_feedback.training.unrolling import Unrolling

TINY = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
LOOP = {"dynamics": "leaky", "tau": 1.0, "projection": "state", "channels": 2}
SMALL = {"size": 16, "train_count": [2], "batch_size": 2, "seeds": 1, "train": ["clean"], "corruptions": []}
SMALL |= {"augment": "none", "test_images": 2, "base_norm": None}
DEPTH, WIDTH, HEAD = 5, 8, 8
"""Convolutions of the encoder, their channels, and those that the head reads."""


class Parted(nn.Module):
    """Convolutions that are the encoder, one that is the decoder, and a head: every number is known by hand."""

    feedback_encoder = "encoder"

    def __init__(self, in_channels=3, classes=1):
        super().__init__()
        widths = [in_channels, *[WIDTH] * (DEPTH - 1)]
        self.encoder = nn.Sequential(*(nn.Conv2d(width, WIDTH, 3, padding=1) for width in widths))
        self.decoder, self.head = nn.Conv2d(WIDTH, HEAD, 3, padding=1), nn.Conv2d(HEAD, classes, 1)

    def forward_features(self, image):
        return self.decoder(self.encoder(image))

    def forward_head(self, features):
        return self.head(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


@pytest.fixture(autouse=True, scope="module")
def parted():
    """The base by its name, in a catalogue of this file."""
    with pytest.MonkeyPatch.context() as here:
        here.setattr("smp_feedback.registry.public._process", [])
        smpf.register_architecture("Parted", Parted)
        yield


def small(place="decoder", **changes):
    feedback = {**LOOP, "steps": 4, "insert": place, **changes.pop("loop", {})}
    return ComparisonSettings(**{**SMALL, "arch": "Parted", "train_steps": 10, "feedback": feedback, **changes})


def unet(place, **changes):
    how = {"arch": "Unet", "arch_options": TINY, "size": 32, "feedback": {**LOOP, "steps": 3, "insert": place}}
    return ComparisonSettings(**{**SMALL, "train_steps": 10, **how, **changes})


def by_hand(classes=6, size=16):
    """Of encoder, decoder, head, and what reads the feedback before the decoder and makes it behind: multiply-adds."""
    pixels = size * size
    encoder = pixels * 9 * WIDTH * (3 + (DEPTH - 1) * WIDTH)
    return encoder, pixels * 9 * WIDTH * HEAD, pixels * HEAD * classes, pixels * 2 * WIDTH, pixels * HEAD * 2


# --- what a look costs


def test_a_look_costs_its_decoder_and_the_encoder_is_counted_once():
    encoder, decoder, head, reader, readout = by_hand()
    cost = cost_of(small())
    assert cost.plain == encoder + decoder + head
    assert (cost.once, cost.answer) == (encoder + head, head)
    assert cost.look == decoder + reader + readout


@pytest.mark.parametrize(
    ("place", "dynamics"),
    [
        *((place, "leaky") for place in ("input", "stem", "stage:2", "decoder:2", "after:encoder.conv1")),
        *((place, "gated") for place in ("decoder", ("stem", "stage:2"))),
    ],
)
def test_at_every_place_a_call_costs_what_it_runs_once_and_every_look_the_same(place, dynamics):
    settings = unet(place, feedback={**LOOP, "insert": place, "steps": 3, "dynamics": dynamics})
    cost, image = cost_of(settings), torch.zeros(1, 3, 32, 32)
    model = make_twin("feedback", settings, 6, 0).model
    for looks in (1, 2, 5):
        assert multiply_adds(model, image, partial(model, steps=looks)) == cost.call(looks)
    assert cost.shares


def test_counting_leaves_the_weights_that_a_seed_draws_as_they_are():
    settings = unet("decoder", train_steps=7)
    equal = make_twin("equal-compute", settings, 6, 3).model
    plain = make_twin("plain", settings, 6, 3).model
    assert all(torch.equal(a, b) for a, b in zip(equal.parameters(), plain.parameters(), strict=True))


# --- what a step of training costs


HOWS = [
    {"usual": 5},
    {"usual": 5, "supervise": "mean"},
    {"usual": 5, "steps": [2, 6], "free_steps": [0, 3], "supervise": "increasing"},
    {"usual": 4, "steps": [3, 5], "progressive": 0.3, "supervise": "mean"},
    {"usual": 4, "progressive": 1.0},
    {"usual": 3, "supervise": [0, 1, 1]},
]


@pytest.mark.parametrize("how", HOWS)
def test_what_looks_share_is_counted_once_a_call_and_answers_as_often_as_they_are_judged(how):
    unrolling = Unrolling(**how)
    drawn = [unrolling.passes(0, 0, batch) for batch in range(4000)]
    calls = [len(looks) for looks in drawn]
    answers = [sum(sum(weight > 0 for weight in one.weights) - 1 for one in looks) for looks in drawn]
    for found, counted in ((calls, calls_a_step(unrolling)), (answers, answers_a_step(unrolling))):
        assert abs(np.mean(found) - float(counted)) <= 4 * np.std(found) / math.sqrt(len(found)) + 1e-9


def test_a_step_costs_what_its_call_costs_where_every_look_learns():
    cost = LookCost(plain=100, once=60, look=45, answer=2)
    assert macs_a_step(cost, Unrolling(usual=4)) == cost.call(4)
    assert macs_a_step(cost, Unrolling(usual=4, supervise="mean")) == cost.call(4) + 3 * 2
    assert macs_a_step(cost, Unrolling(usual=4, steps=2, free_steps=3)) == 60 + 3 * 45


# --- what the twins are given


@pytest.mark.parametrize(
    ("place", "training"), [("stage:2", None), ("decoder", {"steps": [2, 4], "free_steps": [0, 3]})]
)
def test_the_plain_twin_is_trained_on_the_multiply_adds_of_the_loop(place, training):
    settings = unet(place, training=training)
    cost, plain = cost_of(settings), make_twin("equal-compute", settings, 6, 0)
    bought = settings.train_steps * macs_a_step(cost, settings.unrolling)
    spent = plain.train_steps * multiply_adds(plain.model, torch.zeros(1, 3, 32, 32))
    assert bought <= spent < bought + cost.plain
    assert plain.train_steps < settings.train_steps * passes_a_step(settings.unrolling)
    assert training_macs(settings, FEEDBACK, 0) == pytest.approx(float(bought))
    assert training_macs(settings, "equal-compute", cost.plain) == spent
    assert passes_of(settings, "equal-compute") == passes_of(settings, FEEDBACK) == plain.train_steps


def test_steps_have_their_closed_form():
    encoder, decoder, head, reader, readout = by_hand()
    settings, look = small(supervise="last"), decoder + reader + readout
    worth = Fraction(encoder + head + 4 * look, encoder + decoder + head)
    assert steps_of(settings, "equal-compute") == math.ceil(10 * worth) < 20, "five sixths of it lie in the encoder"
    mean = worth + Fraction(3 * head, encoder + decoder + head)
    assert steps_of(small(supervise="mean"), "equal-compute") == math.ceil(10 * mean)


def test_the_deeper_twin_is_the_smallest_that_costs_as_much_as_the_call():
    settings = small(models=["feedback", "equal-inference", "equal-inference-3x"], inference_looks=12)
    encoder, decoder, head, *_ = by_hand()
    further = encoder + decoder + head + 256 * 9 * WIDTH * 6  # each further copy reads 6 probabilities, too
    goal, plain = cost_of(settings).call(12), encoder + decoder + head
    copies = copies_of(settings)
    assert plain + (copies - 2) * further < goal <= plain + (copies - 1) * further
    assert copies < 12
    twin = make_twin("equal-inference", settings, 6, 0)
    assert len(twin.model.copies) == copies
    macs = multiply_adds(twin.model, torch.zeros(1, 3, 16, 16))
    assert macs == plain + (copies - 1) * further
    bought = 10 * macs_a_step(cost_of(settings), settings.unrolling)
    assert bought <= twin.train_steps * macs < bought + macs
    assert steps_of(settings, "equal-inference-3x") == 3 * twin.train_steps
    assert passes_of(settings, "equal-inference") == math.ceil(Fraction(twin.train_steps * macs, plain))


@pytest.mark.parametrize("training", [None, {"steps": [8, 16], "free_steps": [0, 6]}])
def test_at_the_input_every_twin_has_the_steps_that_it_always_had(training):
    settings = unet("input", training=training, models=["feedback", "equal-compute", "equal-inference"])
    passes = math.ceil(10 * passes_a_step(settings.unrolling))
    assert steps_of(settings, "equal-compute") == passes_of(settings, FEEDBACK) == passes
    assert steps_of(settings, "equal-inference") == math.ceil(passes / settings.trained_looks)
    assert copies_of(settings) == settings.trained_looks


def test_a_look_that_shares_next_to_nothing_is_a_pass():
    cost = LookCost(plain=1000, once=10, look=990)
    assert not cost.shares
    assert cost._replace(once=11).shares


# --- what is said of it


@pytest.fixture(scope="module")
def trained():
    """A comparison at the decoder, and a run of each model."""
    settings = small(train_steps=2, models=["feedback", "plain", "equal-compute", "equal-inference"])
    keys = [ComparisonKey(name, Condition(), 2, 0) for name in settings.models]
    return settings, {key: run(settings, key, accelerator="cpu").found for key in keys}


@pytest.fixture
def made(trained):
    """Its settings and results."""
    settings, runs = trained
    about = {"classes": [*"abcdef"], "task": "segmentation", "hardware": "", "command": ""}
    head = {"kind": "comparison", "version": 1, **about, "settings": settings.to_dict()}
    return settings, {**head, "runs": json.loads(json.dumps([*runs.values()]))}


def test_the_report_says_what_each_model_was_given(made):
    settings, results = made
    cost, rows = cost_of(settings), {row[0]: row for row in tables(results)["given"].rows}
    loop, plain = (next(r for r in results["runs"] if r["model"] == name) for name in ("feedback", "equal-compute"))
    assert loop["macs"] == cost.call(4)
    assert loop["once_macs"] == cost.once
    assert loop["train_macs"] == float(2 * macs_a_step(cost, settings.unrolling))
    assert plain["train_macs"] == plain["steps"] * cost.plain
    assert rows["equal-compute"][1] == str(steps_of(settings, "equal-compute"))
    assert rows["equal-compute"][-1] == f"{plain['train_macs'] / loop['train_macs']:.2f}"
    assert rows["equal-inference"][3] == f"{results['runs'][-1]['macs'] / loop['macs']:.2f}"
    assert rows["feedback"][3] == rows["feedback"][5] == ""
    assert parse(results).runs[0].macs_after(7) == cost.call(7)


def test_a_twin_of_other_compute_is_named(made):
    _, results = made
    for one in results["runs"]:
        if one["model"] == "equal-compute":
            one["steps"], one["train_macs"] = 8, 8 * one["macs"]
    loop = results["runs"][0]["train_macs"]
    share = 8 * results["runs"][1]["macs"] / loop
    assert f"equal-compute had {share:.2f} times the multiply-adds of feedback in training." in gaps(results)


def test_older_results_say_it_too_as_far_as_they_know(made):
    _, results = made
    for one in results["runs"]:
        del one["train_macs"], one["once_macs"]
        if one["model"] == "equal-compute":
            one["steps"] = one["passes"] = 8
        elif one["model"] == "feedback":
            one["passes"] = 8
    assert any(line.startswith("equal-compute had ") for line in gaps(results))
    assert "given" not in tables(fake_results(seeds=1)), "without multiply-adds nothing is said"
    assert parse(fake_sizes(seeds=1)).runs[0].once_macs == 0


# --- what is kept


def test_a_kept_twin_of_another_compute_is_refused_and_not_mixed(trained, tmp_path):
    settings, runs = trained
    assert not any(compare.differs(settings, key, found) for key, found in runs.items())
    plain, equal, deep = (key for key in runs if key.model != "feedback")
    assert compare.differs(settings, plain, {**runs[plain], "steps": 99}) == ""
    assert compare.differs(settings, deep, {**runs[deep], "macs": 1}).startswith("it has 1 multiply-adds for an image")
    (tmp_path / "runs").mkdir()
    run_path(tmp_path, equal).write_text(json.dumps({**runs[equal], "steps": 8}))
    (tmp_path / "settings.json").write_text(json.dumps(settings.to_dict()))
    words = r"equal-compute-clean-n2-s0.json is of another version: it was trained for 8 steps, and would be for \d now"
    with pytest.raises(InvalidValue, match=words):
        compare(settings, tmp_path, accelerator="cpu")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["equal-compute-clean-n2-s0.json"]


def film(place):
    loop = {"dynamics": "gated", "projection": "state", "channels": 2, "insert": place}
    how = {"arch": "Parted", "base_norm": None, "feedback": loop, "size": 16, "train_count": 32, "clip": 4}
    return FilmSettings(**how, models=["plain", "looks-4"], train_steps=1, batch_size=8, seeds=1, test_images=4)


def test_four_looks_a_frame_have_as_many_frames_as_cost_what_one_look_at_each_does():
    assert batch_of(film("input"), "looks-4") == 8
    frames, looks = batch_of(film("decoder"), "looks-4"), film("decoder")
    cost = look_cost(looks, looks.config, lambda: facts(looks))
    assert abs(frames * cost.call(4) - 32 * cost.call(1)) <= cost.call(4) / 2
    assert frames > 8
    differs = compare_films.differs
    key = FilmKey("looks-4", 0)
    assert "a quarter of the frames" in differs(looks, key, {})
    assert differs(looks, key, {"batch": frames}) == ""
    assert differs(film("input"), key, {}) == ""
