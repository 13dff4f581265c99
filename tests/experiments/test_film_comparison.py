"""A comparison on films is fair, keeps what it made, and says what was shown and what was not."""

from __future__ import annotations

import copy
import io
import json
import math

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
from rich.console import Console

from smp_feedback.cli.compare_films import is_on_films
from smp_feedback.data import MovingShapes
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.evaluation.films.order import films_in
from smp_feedback.evaluation.films.scores import FilmScores, films_result
from smp_feedback.evaluation.results import save_result
from smp_feedback.evaluation.statistics import Paired
from smp_feedback.experiments.films.conclusion import conclusion, in_short, summary
from smp_feedback.experiments.films.experiment import check, compare_films
from smp_feedback.experiments.films.figures import figures
from smp_feedback.experiments.films.frames import LONG, Mixed, StackedFrames, training_frames, validation_frames
from smp_feedback.experiments.films.results import FilmTest, parse
from smp_feedback.experiments.films.rivals import RIVALS, trained
from smp_feedback.experiments.films.runs import FilmKey, batch_of, facts, keys, untrained
from smp_feedback.experiments.films.settings import FilmSettings
from smp_feedback.experiments.films.tables import drift, shown, tables
from smp_feedback.models.normalisation import given_config
from smp_feedback.plotting.plot import plot

TINY = {
    "size": 16,
    "augment": "none",
    "arch": "PlainConv",
    "arch_options": {"width": 4, "depth": 2},
    "feedback": {"dynamics": "gated", "projection": "state", "channels": 2},
    "train_count": 32,
    "clip": 4,
    "train_steps": 2,
    "batch_size": 2,
    "seeds": 1,
    "tests": ["rescaled_noise:4"],
    "test_images": 12,
    "val_images": 8,
    "test_options": {"frames": 6},
}


def tiny(**changes):
    return FilmSettings(**{**TINY, **changes})


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_passes_as_many_frames_through_the_base(name):
    settings, rival = tiny(), RIVALS[RIVALS[name].trained]
    batch = batch_of(settings, RIVALS[name].trained)
    frames = training_frames(settings, rival, 0)
    item = frames[0][0]
    in_an_item = len(item) if item.ndim == 4 else 1
    assert batch * in_an_item * rival.looks * settings.train_steps == settings.passes * settings.batch_size
    assert item.shape[-3] == 3 * rival.stack


def test_averaged_answers_are_those_of_plain():
    assert trained(["averaged", "carried", "plain"]) == ["plain", "carried"]
    assert [str(key) for key in keys(tiny(models=["carried", "averaged"], seeds=2))] == [
        "carried-s0",
        "plain-s0",
        "carried-s1",
        "plain-s1",
    ]


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_expects_the_mean_and_std_that_are_told(name):
    settings = tiny(mean=0.5, std=0.125)
    key = FilmKey(RIVALS[name].trained, 0)
    model = untrained(settings, key, facts(settings))
    frames = torch.rand(2, 3 * RIVALS[key.model].stack, 16, 16)
    assert torch.allclose(given_config(model).config.normalise(frames), (frames - 0.5) / 0.125)
    assert given_config(untrained(tiny(), key, facts(settings))).config.mean is None


@pytest.mark.parametrize(
    ("told", "says"), [({"mean": 0.5}, "both, or neither"), ({"mean": 5, "std": 1}, "divide by 255")]
)
def test_a_mean_without_std_or_outside_of_what_images_are_is_refused(told, says):
    with pytest.raises(InvalidValue, match=says):
        tiny(**told)


def test_rivals_begin_from_the_same_weights_of_the_base():
    settings = tiny()
    about = facts(settings)
    one, other = (untrained(settings, FilmKey(name, 3), about).state_dict() for name in ("plain", "looks-4"))
    last = [key for key in one if key in other and one[key].shape == other[key].shape]
    assert last
    assert all(one[key].equal(other[key]) for key in last)


def test_a_clip_and_a_stack_are_seen_under_one_corruption_drawn_anew():
    settings = tiny(train=["clean", "rescaled_noise:5"])
    shapes = MovingShapes("train", count=32, size=16)
    clips = training_frames(settings, RIVALS["carried"], 0)
    torch.manual_seed(0)
    kinds = []
    for _ in range(12):
        clip = clips[0][0]
        clean = [frame.equal(shapes[i][0]) for i, frame in enumerate(clip)]
        assert len(set(clean)) == 1, "one corruption a clip"
        kinds.append(clean[0])
        stack = StackedFrames(Mixed(shapes, settings.conditions), 3)[2][0].split(3)
        assert len({part.equal(shapes[i][0]) for i, part in enumerate(stack)}) == 1
    assert set(kinds) == {True, False}
    noisy = [clip for clip in (clips[0][0] for _ in range(12)) if not clip[0].equal(shapes[0][0])]
    assert not noisy[0][0].equal(noisy[1][0]), "drawn anew"


def test_a_camera_over_stills_trains_beside_the_films_and_tunes_in_their_place():
    settings = tiny(camera={"least": 0.5})
    frames = training_frames(settings, RIVALS["plain"], 0)
    films = films_in(frames).places
    assert len(films) == 32 + 4, "each still, and films of 8 frames"
    assert {len(film) for film in films} == {4, 8}
    assert frames[0][0].shape == (3, 16, 16)
    assert set(frames[0][1].unique().tolist()) <= {*range(5)}
    tuned = films_in(validation_frames(settings)).places
    assert len(tuned) == 8 * 3, "each still of val, under each condition"
    assert {len(film) for film in tuned} == {LONG}


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"tuned": "test"}, InvalidValue, "expected another split"),
        ({"models": ["plane"]}, InvalidValue, "plain"),
        ({"feedback": {"dynamics": "decay"}}, InvalidValue, "carries no state from frame to frame"),
        ({"feedback": False}, InvalidValue, "expected a loop that carries a state"),
        ({"batch_size": 1, "clip": 2}, InvalidValue, "multiple of 4"),
        ({"train": []}, Exception, "train"),
        ({"test_options": {"size": 3}}, InvalidValue, "size belongs to the film comparison"),
        ({"cuts": "rescaled_noise"}, InvalidValue, "severity from 1 to 5"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_birth(changes, error, match):
    with pytest.raises(error, match=match):
        tiny(**changes)


def test_data_without_films_are_refused_before_any_training(tmp_path):
    with pytest.raises(InvalidInput, match="does not say which frames are a film"):
        compare_films(tiny(data="polygons", test_options={}), tmp_path / "out", accelerator="cpu")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InvalidValue, match="give fewer, or more images"):
        check(tiny(models=["plain"], train_count=4))


def test_a_comparison_is_made_kept_and_reported(tmp_path):
    settings = tiny(models=["carried", "averaged", "stacked-4"])
    written = compare_films(settings, tmp_path, accelerator="cpu")
    assert {path.name for path in written} >= {"films.json", "films.md", "films-frames.png", "films-cuts.png"}
    results = json.loads((tmp_path / "films.json").read_text())
    found = parse(results)
    assert found.models == ["carried", "averaged", "stacked-4"]
    own = found.scores("carried", FilmTest("rescaled_noise:4"))[0]
    assert len(own.by_frame) == 6
    assert {(test.joined, test.reset) for _, test in found.runs[0].scores} == {
        (False, False),
        (True, False),
        (True, True),
    }
    assert 0 < found.scores("averaged", FilmTest("rescaled_noise:4"))[0].rate <= 1
    assert found.runs[0].cut["auc"] >= 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    told = []
    compare_films(settings, tmp_path, accelerator="cpu", advance=lambda key, run: told.append(run is not None))
    assert told == [True] * 3, "all are there"
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}


def score(miou, model, test="rescaled_noise:4", joined=False, reset=False, flicker=0.05):
    curve = [miou] * 40
    cut = (
        {"after_cut": [miou - 0.1, miou, miou], "before_cut": miou} if joined else {"after_cut": [], "before_cut": None}
    )
    facts = {"model": model, "test": test, "joined": joined, "reset": reset, "rate": None, "per_class": [miou, None]}
    return {**facts, "miou": miou, "flicker": flicker, "hidden": None, "by_frame": curve, **cut}


def made(gains, models=("plain", "averaged", "stacked-4", "stacked-8", "looks-4"), tests=(3, 4, 5)):
    """Results in which carried is ahead of every rival by these gains, one a seed."""
    runs, tests = [], [f"rescaled_noise:{k}" for k in tests]
    for seed, gain in enumerate(gains):
        for model in trained(["carried", *models]):
            read = [name for name in ("carried", *models) if RIVALS[name].trained == model]
            scores = [score(0.6 + gain * (n == "carried"), n, test) for n in read for test in tests]
            scores += [
                score(0.6, name, joined=True, reset=reset) for name in read for reset in (False, name == "carried")
            ]
            cut = {"auc": 0.9} if model == "carried" else None
            took = {"seconds": 1.0, "steps": 2, "passes": 8, "parameters": 10, "macs": 5, "seconds_per_frame": 0.1}
            runs.append({"model": model, "seed": seed, **took, "cut": cut, "scores": scores})
    about = {"command": "", "settings": {"models": ["carried", *models]}, "hardware": "a CPU", "classes": ["a", "b"]}
    return {"kind": "film comparison", "version": 1, **about, "runs": runs}


def printed(results, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    for table in shown(results):
        console.print(*table.within(console.width), sep="\n")
    return console.export_text().rstrip()


def test_a_console_shows_four_models_in_one_small_table_and_the_rest_is_in_the_report():
    results = made([0.05, 0.06, 0.04])
    for run in results["runs"]:
        if run["model"] == "stacked-8":
            run["scores"] = [{**score, "miou": score["miou"] + 0.02} for score in run["scores"]]
    (table,) = shown(results)
    assert [row[0] for row in table.rows] == ["carried", "plain", "stacked-8", "averaged"]
    assert [row[3] for row in table.rows] == ["", "ahead", "ahead", "ahead"]
    text = printed(results)
    lines = text.splitlines()
    assert len(lines) <= 10
    assert max(map(len, lines)) <= 80
    for cell in ("65.0 ± 1.0", "62.0 ± 0.0", "5.0 ± 0.0", "mean of 3 tests", "2 more in films.md"):
        assert cell in text
    assert "\u2026" not in text, "nothing is cut off"
    assert {row[0] for row in tables(results)["scores"].rows} == set(RIVALS)
    short = printed(made([0.05], ["plain"], tests=[4]))
    assert "under rescaled_noise:4" in short
    assert "one seed" in short
    assert "more in films.md" not in short
    alone = made([0.05], ["plain"])
    alone["runs"] = [run for run in alone["runs"] if run["model"] == "plain"]
    assert [row[0] for row in shown(alone)[0].rows] == ["plain"]


def test_a_console_says_the_answer_first_and_under_how_many_tests():
    results = made([0.05, 0.06, 0.04], ["plain", "stacked-4"])
    for run in results["runs"]:
        for score in run["scores"]:
            if run["model"] == "stacked-4" and score["test"] == "rescaled_noise:5" and not score["joined"]:
                score["miou"] = 0.66 + 0.04 * run["seed"] - 0.04
    assert in_short(results)[0] == (
        "One look a frame is ahead of plain and stacked-4 (2 of 3 tests); not shown to be ahead of stacked-4 (1 of 3 "
        "tests)."
    )
    del results["runs"][-1]
    assert "No run of" in in_short(results)[-1]
    assert in_short(made([], ["plain"]))[0].startswith("Undecided")


@pytest.mark.parametrize(
    ("gains", "word"),
    [
        ([0.05, 0.06, 0.04], "ahead of plain (+5.0)"),
        ([-0.05, -0.06, -0.04], "behind plain (-5.0)"),
        ([0.05, -0.02, 0.01], "not shown to be ahead of plain (+1.3)"),
        ([0.05], "one seed, no interval: plain (+5.0)"),
    ],
)
def test_what_the_interval_over_seeds_does_not_show_is_said(gains, word):
    results = made(gains, ["plain"])
    assert word in conclusion(results)
    n, mean = len(gains), np.mean(gains)
    if n == 3:
        half = 4.302653 * np.std(gains, ddof=1) / math.sqrt(n)
        assert (mean - half > 0) == word.startswith("ahead")
        assert (mean + half < 0) == word.startswith("behind")
    assert any("After a cut" in line and "after 1 frames" in line for line in summary(results))


def test_drift_is_the_last_frames_against_the_first():
    results = made([0.0])
    for entry in results["runs"][0]["scores"]:
        entry["by_frame"] = [0.5] * 16 + [0.5 - 0.01 * k for k in range(1, 33)]
    found = parse(results)
    wanted = np.mean([0.5 - 0.01 * k for k in range(17, 33)]) - 0.5
    assert drift(found, "carried", FilmTest("rescaled_noise:4")).mean == pytest.approx(wanted)


def test_missing_runs_are_said_and_wrong_results_refused():
    results = made([0.05, 0.06])
    del results["runs"][-1]
    assert any("No run of looks-4, seed 1" in line for line in summary(results))
    for change, match in (
        (lambda r: r["runs"][0].pop("seconds"), "lacks 'seconds'"),
        (lambda r: r["runs"][0].update(model="plane"), "expected one of"),
        (lambda r: r["runs"][0]["scores"][0].update(model="plain"), "no reading of this run"),
        (lambda r: r["runs"][0]["scores"][0].update(miou=2.0), r"miou=2.0, expected a number in \[0, 1\]"),
        (lambda r: r["runs"].append(r["runs"][0]), "keep one"),
    ):
        wrong = copy.deepcopy(results)
        change(wrong)
        with pytest.raises(InvalidInput, match=match):
            parse(wrong)


def test_figures_have_a_line_a_model_and_are_drawn_from_the_file(tmp_path):
    results = made([0.05, 0.06])
    drawn = figures(results)
    assert set(drawn) == {"frames", "flicker", "cuts"}
    panels = drawn["frames"].axes
    assert [len(axis.lines) for axis in panels] == [len(RIVALS)] * 3
    assert panels[0].lines[0].get_ydata() == pytest.approx([65.5] * 40)
    assert len(drawn["cuts"].axes[0].lines) == len(RIVALS) + 1 + 1, "carried twice, and the upright line"
    scores = FilmScores(0.5, (0.5,), 0.6, None, (0.4, None, 0.6), (), None, None, 1, 3)
    path = save_result(films_result({"mine": scores}, ["a"]), tmp_path / "one.json")
    assert {one.name for one in plot([path])} == {"one-frames.png", "one-flicker.png"}


def test_the_task_is_typed_or_stands_in_the_settings(tmp_path):
    path = tmp_path / "films.yaml"
    path.write_text("task: film\nseeds: 1\n")
    assert is_on_films(["compare", "--config", str(path)])
    assert not is_on_films(["compare", "--config", str(path), "--task", "image"])
    assert not is_on_films(["compare", "--seeds", "3"])


def test_a_gain_over_seeds_is_paired():
    found = parse(made([0.05, 0.07]))
    assert found.gain("plain", FilmTest("rescaled_noise:3")).values == pytest.approx(Paired((0.05, 0.07)).values)
