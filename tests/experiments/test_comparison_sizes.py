"""A comparison at several sizes: what its results hold, what is said of them, and that older results still load."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re

import numpy as np
import pytest
import torch
from fake_comparison import SOLVED, fake_results, fake_sizes
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

pytest.importorskip("lightning")
from rich.console import Console

from smp_feedback import create
from smp_feedback.data import Corrupted
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, UnknownKeyword, UnknownName
from smp_feedback.evaluation import evaluate
from smp_feedback.evaluation.statistics import Paired
from smp_feedback.experiments import store
from smp_feedback.experiments.comparison.budget import passes_of, steps_of
from smp_feedback.experiments.comparison.compute import passes_a_step
from smp_feedback.experiments.comparison.conclusion import summary
from smp_feedback.experiments.comparison.experiment import check, plan
from smp_feedback.experiments.comparison.results import pixels
from smp_feedback.experiments.comparison.runs import ComparisonKey, lesson, run, scores, untrained
from smp_feedback.experiments.comparison.schema import parse
from smp_feedback.experiments.comparison.settings import ComparisonSettings, Condition
from smp_feedback.experiments.comparison.sizes import AHEAD, BEATEN, NOT_SHOWN, ONE_SEED, Gain, by_size, gains
from smp_feedback.experiments.comparison.stacked import Stacked
from smp_feedback.experiments.comparison.tables import shown
from smp_feedback.experiments.comparison.trained import told
from smp_feedback.experiments.cost import multiply_adds
from smp_feedback.experiments.runs import held_out
from smp_feedback.models.plain_conv import PlainConv
from smp_feedback.training.unrolling import Unrolling


def test_scores_are_asked_by_model_looks_size_and_seed():
    found = parse(fake_sizes(sway=0.0))
    table = found.at_sizes("clean", 100_000)
    assert [*table] == [("feedback", 16), ("feedback", 64), ("feedback", 160), *((m, 1) for m in [*SOLVED][1:])]
    for (model, looks), row in table.items():
        assert [*row] == [5, 9, 13, 21]
        assert [*row.values()] == [dict.fromkeys(range(3), share) for share in SOLVED[model][looks]]
    assert found.sizes == (5, 9, 13, 21)
    assert found.measure == "solved"


def test_sizes_are_ordered_by_their_pixels_whatever_they_are():
    results = fake_sizes(seeds=1, models=("plain",))
    for score, size in zip(results["runs"][0]["scores"], ([30, 40], 32, [8, 8], 9), strict=True):
        score["size"] = size
    assert parse(results).sizes == ((8, 8), 9, 32, (30, 40))
    assert [pixels(size) for size in parse(results).sizes] == [64, 81, 1024, 1200]


def test_results_without_sizes_are_as_they_were_and_hold_neither_solved_nor_multiply_adds():
    found = parse(fake_results(seeds=1))
    assert found.sizes == ()
    assert found.measure == found.metric == "mIoU"
    for one in found.runs:
        assert one.passes == one.steps * one.looks
        assert math.isnan(one.macs)
        assert all(math.isnan(score.solved) for score in one.scores.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 0}, "size=0: expected a whole number >= 1"),
        ({"size": [5, 5, 5]}, r"size=\[5, 5, 5\]"),
        ({"size": "large"}, "size='large'"),
        ({"solved": 1.5}, r"solved=1.5, expected a number in \[0, 1\]"),
    ],
)
def test_a_score_that_cannot_be_is_named(change, words):
    results = fake_sizes(seeds=1, models=("plain",))
    results["runs"][0]["scores"][0] |= change
    with pytest.raises(InvalidInput, match=words):
        parse(results)


# --- what is said


def said(results, width=80):
    console = Console(width=width, file=io.StringIO())
    for table in shown(results):
        console.print(*table.within(width), sep="\n")
    return console.file.getvalue(), summary(results)


def test_the_table_of_a_demo_has_ten_lines_and_fits_a_console():
    results = fake_sizes(seeds=1, models=("feedback", "plain", "equal-inference"))
    printed, words = said(results)
    lines = printed.rstrip("\n").split("\n")
    assert len(lines) <= 10
    assert max(map(len, lines)) <= 80
    for cell in ("feedback 160 looks", "544M", "9.6k", "30k", "equal-inference"):
        assert cell in printed
    assert words[0].startswith(
        "One seed, which shows no spread: at 5, 9, 13 and 21 after 160 looks feedback solves more"
    )
    assert len(words) == 1


def test_with_three_seeds_and_all_twins_the_table_fits_as_well():
    printed, _ = said(fake_sizes())
    assert max(map(len, printed.split("\n"))) <= 80
    assert printed.count("equal-inference-3x") == 1
    assert "97±" in printed


def test_each_twin_is_named_where_it_is_beaten_and_where_that_is_not_shown():
    words = said(fake_sizes(sway=0.02))[1]
    every = "plain, equal-compute, equal-inference and equal-inference-3x"
    assert words[0] == (
        f"Yes: at 9, 13 and 21 after 160 looks feedback solves more images than {every}; at 5 that is not shown "
        "against equal-inference-3x."
    )
    assert words[1].startswith("plain: beaten at 5, 9, 13 and 21 (+")
    assert words[4].startswith("equal-inference-3x: beaten at 9, 13 and 21 (+")
    assert "not shown to be beaten at 5 (" in words[4]


def test_a_loop_that_is_behind_is_said_to_be():
    words = said(fake_sizes(solved={**SOLVED, "feedback": {16: (0.4, 0.0, 0.0, 0.0)}}))[1]
    assert words[0].startswith("No: at no size is it shown that after 16 looks feedback solves more images than plain")
    assert "ahead of feedback at 5 and 9 (-" in words[4]


@pytest.mark.parametrize(
    ("seeds", "own", "theirs", "says"),
    [
        (3, 1.0, 1.0, "; at 5 that is not shown against equal-inference."),
        (3, 0.9, 1.0, "; at 5 equal-inference is ahead of feedback."),
        (1, 1.0, 1.0, "; at 5 not against equal-inference."),
        (1, 0.9, 1.0, "; at 5 equal-inference is ahead of feedback."),
    ],
)
def test_where_a_twin_solves_as_many_no_lead_is_claimed_and_where_more_the_twins(seeds, own, theirs, says):
    """As measured: a deeper model solves every maze of the trained size, and none of the larger ones."""
    solved = {
        "feedback": {160: (own, 0.99, 0.94, 0.76)},
        "plain": {1: (0.0, 0.0, 0.0, 0.0)},
        "equal-inference": {1: (theirs, 0.02, 0.0, 0.0)},
    }
    first = said(fake_sizes(models=tuple(solved), seeds=seeds, sway=0.0, solved=solved))[1][0]
    answer = "Yes" if seeds > 1 else "One seed, which shows no spread"
    more = "after 160 looks feedback solves more images than plain and equal-inference"
    assert first == f"{answer}: at 9, 13 and 21 {more}{says}"


@given(st.lists(st.integers(0, 50), min_size=9, max_size=9))
@settings(max_examples=60, deadline=None)
def test_the_sentence_about_a_size_is_what_the_raw_numbers_say(counts):
    shares = dict(zip(("feedback", "plain", "equal-inference"), np.array(counts).reshape(3, 3) / 50, strict=True))
    solved = {model: {160 if model == "feedback" else 1: (0.0,)} for model in shares}
    results = fake_sizes(models=tuple(shares), sizes=(5,), solved=solved)
    for one in results["runs"]:
        one["scores"][0]["solved"] = float(shares[one["model"]][one["seed"]])
    leads = {twin: shares["feedback"] - shares[twin] for twin in ("plain", "equal-inference")}
    ends = {twin: (d.mean(), 4.3027 * d.std(ddof=1) / math.sqrt(3)) for twin, d in leads.items()}
    assume(all(abs(abs(mean) - half) > 1e-4 or (mean, half) == (0, 0) for mean, half in ends.values()))
    first = summary(results)[0]
    assert first.startswith("Yes: at 5") == all(mean - half > 0 for mean, half in ends.values())
    ahead = [twin for twin, (mean, half) in ends.items() if mean + half < 0]
    claims = re.findall(r"at 5 ([\w, -]+) (?:is|are) ahead of feedback", first)
    assert claims == ([" and ".join(ahead)] if ahead else [])


def test_what_is_not_compared_by_equal_inference_says_so():
    words = said(fake_sizes(models=("feedback", "plain")))[1]
    assert words[-1].startswith("Not compared: equal-inference and equal-inference-3x, deeper models")


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((0.1, 0.12, 0.11), BEATEN), ((-0.1, -0.12, -0.11), AHEAD), ((0.1, -0.1, 0.2), NOT_SHOWN), ((0.5,), ONE_SEED)],
)
def test_a_twin_is_beaten_where_the_interval_is_above_zero(values, verdict):
    gain = Gain("plain", 5, Paired(values))
    assert gain.verdict == verdict
    mean, half = np.mean(values), 4.303 / math.sqrt(3) * np.std(values, ddof=1) if len(values) > 1 else math.nan
    assert gain.beaten == (mean - half > 0 if len(values) > 1 else mean > 0)


def test_feedback_counts_after_the_most_looks_over_the_seeds_that_both_have():
    results = fake_sizes(sway=0.0)
    results["runs"] = [run for run in results["runs"] if (run["model"], run["seed"]) != ("plain", 1)]
    one = next(one for one in gains(parse(results).at_sizes("clean", 100_000)) if (one.twin, one.size) == ("plain", 21))
    assert one.gain.values == (0.6, 0.6)


def test_of_many_looks_some_are_shown_the_fewest_and_the_most_among_them():
    many = dict.fromkeys((4, 8, 16, 32, 64, 128, 640), (0.5, 0.1, 0.0, 0.0))
    rows = by_size(parse(fake_sizes(seeds=1, solved={**SOLVED, "feedback": many}))).rows
    assert [row[0] for row in rows[:4]] == [f"feedback {t} looks" for t in (4, 16, 64, 640)]


def test_iou_is_compared_where_it_is_asked_for():
    results = fake_sizes(sway=0.0)
    results["settings"]["score"] = "miou"
    found = parse(results)
    assert found.measure == "mIoU"
    assert found.at_sizes("clean", 100_000)["feedback", 160][21] == dict.fromkeys(range(3), 0.8)
    assert "has more mIoU than" in summary(results)[0]
    assert by_size(found).title == "mIoU (%) by size of the test images"


# --- what is trained and scored

MAZES = {"data": "mazes", "size": 3, "arch": "PlainConv", "arch_options": {"width": 4}, "feedback": "anytime"}
MAZES |= {"train_count": [1000], "train": ["clean"], "train_steps": 2, "batch_size": 2, "seeds": 1, "test_images": 3}
MAZES |= {"sizes": [2, [3, 4]], "looks": [1, 5], "training": {"steps": [2, 4], "ema": 0.5}, "supervise": "last"}
ALL = ("feedback", "plain", "one-step", "equal-compute", "equal-inference", "equal-inference-3x")


def mazes(**changes):
    return ComparisonSettings(**{**MAZES, **changes})


def key(model):
    return ComparisonKey(model, Condition(), 1000, 0)


def test_every_model_is_scored_at_every_size_and_the_loop_after_each_number_of_looks():
    settings = mazes()
    for model, looks in (("feedback", [1, 5]), ("equal-inference", [1]), ("one-step", [1])):
        made = run(settings, key(model), accelerator="cpu").found
        assert [(s["size"], s["looks"]) for s in made["scores"]] == [
            (size, t) for size in settings.sizes for t in looks
        ]
        assert json.loads(json.dumps(made)) == made
        net = untrained(settings, key(model)).model
        assert made["parameters"] == sum(p.numel() for p in net.parameters())
    last = parse({**fake_sizes(), "settings": settings.to_dict(), "runs": [{**made, "images": 1000}]})
    assert last.sizes == (2, (3, 4))
    assert last.measure == "solved"


def test_a_score_at_a_size_is_that_of_images_drawn_at_that_size():
    settings = mazes()
    twin = untrained(settings, key("feedback"))
    test = held_out(settings, [3, 4])
    assert len(test) == 3
    assert test[0][0].shape == (3, 7, 9)
    own = [s for s in scores(settings, key("feedback"), twin, held_out(settings)) if s["size"] == [3, 4]]
    for entry in own:
        found = evaluate(twin.model, Corrupted(test, "clean", 0), classes=2, looks=[entry["looks"]]).last
        assert (entry["score"], entry["ece"], entry["solved"]) == (found.score, found.ece, found.solved)


def test_files_are_resized_to_each_size(tmp_path):
    for split in ("train", "test"):
        for folder, kind in ((split, "RGB"), (f"{split}annot", "L")):
            (tmp_path / folder).mkdir()
            Image.new(kind, (32, 24)).save(tmp_path / folder / "0.png")
    own = {
        "data": "folder",
        "root": str(tmp_path),
        "data_options": {"classes": ["a", "b"]},
        "train_count": [1],
        "size": 16,
    }
    settings = mazes(**own, sizes=[8, [24, 16]])
    assert settings.score == "miou"
    assert [held_out(settings, size)[0][0].shape for size in settings.sizes] == [(3, 8, 8), (3, 24, 16)]


def test_sizes_leave_corruptions_out_and_looks_alone_change_what_is_looked_at():
    assert [str(c) for c in mazes().tests] == ["clean"]
    settings = mazes(sizes=None, corruptions=[], looks=[3, 6])
    twin = untrained(settings, key("feedback"))
    found = [*scores(settings, key("feedback"), twin, held_out(settings))]
    assert [s["looks"] for s in found] == [3, 4, 6], "its own looks are among them: they are what twins are compared by"
    assert all("size" not in s for s in found)


# --- equal compute


def by_hand(net, pixels):
    """Multiply-adds of convolutions at full resolution, from their shapes."""
    return pixels * sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize(("steps", "width"), [(1, 4), (3, 4), (7, 8)])
def test_the_deeper_twin_is_the_smallest_with_as_many_multiply_adds_as_all_looks(steps, width):
    settings = mazes(arch_options={"width": width, "depth": 2}, training={"steps": [1, steps]})
    image = torch.rand(1, 3, 7, 9)
    loop, twin = (untrained(settings, key(name)).model for name in ("feedback", "equal-inference"))
    goal, found = multiply_adds(loop, image), multiply_adds(twin, image)
    assert isinstance(twin, PlainConv)
    assert twin.residual
    assert twin.config["width"] == width
    layer = 9 * width * width * 63
    assert found - layer < goal <= found
    assert found == by_hand(twin, 63)
    assert goal >= steps * by_hand(create("PlainConv", classes=2, width=width, depth=2, feedback=False), 63)


def test_of_another_base_the_twin_is_as_many_copies_that_hand_on_what_they_made_of_the_image():
    arch = {"arch": "Unet", "encoder": "resnet18", "arch_options": {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}}
    settings = mazes(**arch, data="polygons", size=32, feedback={"steps": 3}, training=None, sizes=None)
    twin = untrained(settings, ComparisonKey("equal-inference", Condition(), 1000, 0))
    copies = twin.model.copies
    assert len(copies) == 3
    assert [net.encoder.conv1.in_channels for net in copies] == [3, 9, 9], "six classes beside the image"
    assert len({id(p) for p in twin.model.parameters()}) == sum(len([*net.parameters()]) for net in copies)
    image = torch.rand(1, 3, 32, 32)
    twin.model.eval()
    total = copies[0](image)
    for net in copies[1:]:
        total = total + net(torch.cat([image, total.softmax(1)], 1))
    torch.testing.assert_close(twin.model(image), total)


def test_what_is_shown_of_one_answer_an_image_fills_a_map_and_both_answers_add_up():
    image = torch.rand(2, 3, 4, 4)

    class Both(nn.Module):
        def forward(self, x):
            return x[:, :1] + 1, x[:, -1:].mean((2, 3))

    class Label(nn.Module):
        def forward(self, x):
            return x.sum((2, 3))[:, :2]

    masks, labels = Stacked([Both(), Both()])(image)
    torch.testing.assert_close(masks, 2 * (image[:, :1] + 1))
    torch.testing.assert_close(labels, image[:, -1:].mean((2, 3)) + (image[:, :1] + 1).sigmoid().mean((2, 3)))
    assert Stacked([Label(), Label()])(image).shape == (2, 2)


def test_equal_training_means_as_many_passes_or_steps():
    settings = mazes(train_steps=100, training={"steps": [8, 16], "free_steps": [0, 6]})
    passes = {name: passes_of(settings, name) for name in ALL}
    assert passes == {
        **{"feedback": 1300, "plain": 100, "one-step": 100, "equal-compute": 1300},
        **{"equal-inference": 82 * 16, "equal-inference-3x": 3 * 82 * 16},
    }
    assert [steps_of(settings, name) for name in ALL] == [100, 100, 100, 1300, 82, 246]
    for name in ALL:
        assert untrained(settings, key(name)).train_steps == steps_of(settings, name)


@pytest.mark.parametrize(
    "how",
    [
        {"usual": 5},
        {"usual": 5, "steps": [2, 6], "free_steps": [0, 3]},
        {"usual": 6, "carrying": 2},
        {"usual": 4, "steps": [3, 5], "progressive": 0.3},
        {"usual": 4, "progressive": 1.0},
        {"usual": 5, "steps": [1, 5], "supervise": "drawn"},
    ],
)
def test_passes_are_those_that_training_draws(how):
    unrolling = Unrolling(**how)

    def worth(looks):
        told = looks.call.get("steps", unrolling.usual)
        carried = looks.call.get("grad_steps", min(told, unrolling.carrying or told))
        with_gradient = [told - t <= carried for t in range(looks.needed)]
        return sum(1 if grad else 1 / 3 for grad in with_gradient)

    drawn = [sum(map(worth, unrolling.passes(0, 0, batch))) for batch in range(4000)]
    error = np.std(drawn) / math.sqrt(len(drawn))
    assert abs(np.mean(drawn) - float(passes_a_step(unrolling))) <= 4 * error + 1e-9


# --- settings


def test_twins_are_told_of_training_what_they_have():
    training = {"steps": [8, 16], "free_steps": 2, "segments": 2, "ema": 0.9, "weight_decay": 0.1, "feedback_lr": 0.1}
    assert told(training, "feedback") == training
    assert told(training, "one-step") == {"ema": 0.9, "weight_decay": 0.1, "feedback_lr": 0.1}
    for twin in ("plain", "equal-compute", "equal-inference", "equal-inference-3x"):
        assert told(training, twin) == {"ema": 0.9, "weight_decay": 0.1}
    settings = mazes()
    for model in ALL:
        module = lesson(settings, key(model), untrained(settings, key(model)))
        assert module.ema == 0.5
        assert module.unrolling.span == ((2, 4) if model == "feedback" else (1, 1))


def test_the_loop_has_as_many_looks_as_the_most_of_its_training():
    assert mazes().trained_looks == mazes().config.steps == 4
    assert mazes(training={"steps": 3}).config.steps == 3
    assert mazes(training=None, feedback={"preset": "anytime", "steps": 7}).trained_looks == 7
    assert mazes(feedback={"steps": "auto"}).trained_looks == 4
    assert "T = 2 to 4" in plan(mazes())
    assert "tested at sizes 2, [3, 4], after 1, 5 looks" in plan(mazes())


def test_the_gradient_is_clipped_where_it_is_asked_for(monkeypatch):
    seen = {}
    monkeypatch.setattr("smp_feedback.experiments.runs.fit", lambda module, data, **how: seen.update(how))
    run(mazes(clip=0.5, models=["plain"]), key("plain"), accelerator="cpu")
    assert seen["clip"] == 0.5


def test_a_folder_of_before_there_were_sizes_goes_on(tmp_path):
    mark = ComparisonSettings().to_dict()
    for later in ("training", "clip", "sizes", "looks", "inference_looks", "score"):
        assert mark.pop(later) is None
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/plain.json").write_text("{}")
    (tmp_path / "settings.json").write_text(json.dumps(mark))
    store.claim(tmp_path, ComparisonSettings().to_dict(), "a comparison")
    with pytest.raises(InvalidValue, match="there clip=None, here 1"):
        store.claim(tmp_path, ComparisonSettings(clip=1.0).to_dict(), "a comparison")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"training": {"free_stepz": 3}}, UnknownKeyword, "training takes no 'free_stepz'. Did you mean 'free_steps'"),
        ({"training": {"lr": 3}}, InvalidValue, "the comparison knows it"),
        ({"training": {"optimizer": "sgd"}}, InvalidValue, "every model has AdamW"),
        ({"training": {"steps": [4, 2]}}, InvalidValue, r"steps=\[4, 2\]: expected low <= high"),
        ({"training": {"free_steps": -1}}, InvalidValue, "free_steps=-1"),
        ({"sizes": []}, InvalidType, "sizes"),
        ({"sizes": [5, 5]}, InvalidValue, "each once"),
        ({"sizes": [0]}, InvalidValue, "sizes=0"),
        ({"sizes": [[1, 2, 3]]}, InvalidType, "size"),
        ({"sizes": 5}, InvalidType, "sizes=5: expected a list"),
        ({"sizes": [5, [5, 5]]}, InvalidValue, "each once"),
        ({"sizes": [[5, [9]]]}, InvalidType, "size"),
        ({"looks": [0]}, InvalidValue, "looks=0"),
        ({"looks": 3}, InvalidType, "looks=3: expected a list"),
        ({"looks": [[3]]}, InvalidType, "looks"),
        ({"looks": [2, 2]}, InvalidValue, "each once"),
        ({"clip": 0}, InvalidValue, "clip=0"),
        ({"score": "solve"}, InvalidValue, "Did you mean 'solved'"),
        ({"sizes": None, "score": "solved"}, InvalidValue, "without sizes"),
        ({"corruptions": ["occlusion"]}, InvalidValue, "leave one of the two out"),
        ({"supervise": "drwan"}, InvalidValue, "Did you mean 'drawn'"),
        ({"models": ["equal-inferenze"]}, InvalidValue, "Did you mean 'equal-inference'"),
        (
            {"init": "runs/x", "models": ["feedback", "equal-inference"]},
            InvalidValue,
            "equal-inference has other layers",
        ),
        ({"feedback": "anytim"}, UnknownName, "Did you mean 'anytime'"),
    ],
)
def test_nonsense_about_sizes_and_training_is_refused_at_birth(changes, error, words):
    with pytest.raises(error, match=words):
        mazes(**changes)


def test_a_size_that_a_model_does_not_take_is_refused_before_any_training():
    told = {"data": "polygons", "arch": "Linknet", "encoder": "tu-test_resnet.r160_in1k"}
    told["arch_options"] = {"encoder_depth": 3}
    settings = mazes(**told, size=32, sizes=[32, 36], models=["plain", "equal-inference"], feedback={"steps": 2})
    with pytest.raises(InvalidInput, match=r"36.*Or set sizes"):
        check(settings)
    check(dataclasses.replace(settings, sizes=[32, [40, 48]]))
    with pytest.raises(InvalidValue, match=r"sizes=\[3, 1\]: size=1: expected an int >= 2"):
        check(mazes(sizes=[3, 1]))
