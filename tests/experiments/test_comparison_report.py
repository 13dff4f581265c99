"""From a comparison's results to its report: the statistics, the answer, the tables, the figures, the pages."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fake_comparison import CLASSES, fake_results
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.evaluation.results import load_result
from smp_feedback.evaluation.statistics import (
    CHANCE,
    Paired,
    sign_flip,
    significance,
    smallest_p,
    t_probability,
    t_quantile,
)
from smp_feedback.experiments.comparison.conclusion import conclusion, gaps, summary
from smp_feedback.experiments.comparison.figures import LOOK, caption, figures
from smp_feedback.experiments.comparison.report import write_report
from smp_feedback.experiments.comparison.results import USUAL, matched, means, only, paired
from smp_feedback.experiments.comparison.schema import parse
from smp_feedback.experiments.comparison.tables import settled, shown, tables

differences = st.lists(st.integers(-50, 50).map(lambda k: k / 1000), min_size=1, max_size=8)
SMALL = {"trains": ("clean",), "counts": (2, 8), "corruptions": ("occlusion",)}


def handmade(scores, **more):
    """Results with one look each: scores by (model, seed, train, images), each a dict of condition -> score."""
    runs = []
    for (model, seed, train, images), by_test in scores.items():
        listed = [
            {"corruption": name, "severity": severity, "looks": 1, "score": score, "per_class": [], "ece": None}
            for (name, severity), score in by_test.items()
        ]
        cost = {"steps": 10, "looks": 1, "seconds": 1.0, "seconds_per_image": 0.1, "kept_mb": 5.0}
        runs.append(
            {"model": model, "seed": seed, "train": train, "images": images, "parameters": 7, "scores": listed, **cost}
        )
    empty = fake_results(seeds=0)
    return {**empty, "runs": runs, **more}


# Statistics


def density(t, df):
    log = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(df * math.pi) / 2
    return np.exp(log - (df + 1) / 2 * np.log1p(t**2 / df))


@pytest.mark.parametrize("df", [*range(1, 31), 47, 120])
def test_the_t_quantile_leaves_a_twentieth_of_the_density_outside(df):
    nodes, weights = np.polynomial.legendre.leggauss(200)
    half = t_quantile(df) / 2
    assert 2 * half * (weights * density(half * nodes + half, df)).sum() == pytest.approx(0.95, abs=1e-9)


def test_the_t_quantile_is_the_printed_tables():
    printed = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 20: 2.086, 30: 2.042}
    assert {df: round(t_quantile(df), 3) for df in printed} == printed
    assert t_quantile(10_000) == pytest.approx(1.96, abs=1e-3)


@pytest.mark.parametrize(("df", "level"), [(0, 0.95), (3, 0.0), (3, 1.0)])
def test_a_quantile_that_is_none_is_refused(df, level):
    with pytest.raises(InvalidValue, match="expected df"):
        t_quantile(df, level)


@given(differences)
@settings(max_examples=60, deadline=None)
def test_the_sign_flip_p_value_counts_every_choice_of_signs(values):
    whole = [round(1000 * value) for value in values]
    sums = [
        abs(sum(s * w for s, w in zip(signs, whole, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(whole))
    ]
    assert sign_flip(values) == sum(total >= abs(sum(whole)) for total in sums) / len(sums)


@given(differences, st.permutations(range(8)))
@settings(max_examples=60, deadline=None)
def test_the_p_value_knows_neither_order_nor_sign_nor_unit_and_has_a_floor(values, order):
    p = sign_flip(values)
    assert p == sign_flip([-value for value in values]) == sign_flip([100 * value for value in values])
    assert p == sign_flip([values[i] for i in order if i < len(values)])
    assert smallest_p(len(values)) <= p <= 1


@pytest.mark.parametrize("n", range(1, 13))
def test_the_floor_is_reached_when_every_seed_agrees(n):
    assert sign_flip(list(range(1, n + 1))) == smallest_p(n) == min(1, 2 / 2**n)


def test_beyond_twelve_seeds_the_drawn_p_value_is_near_the_counted_one():
    values = [3, -1, 2, 4, -2, 1, 5, 2, -3, 1, 2, 3, -1, 2]
    ways = {0: 1}
    for value in values:  # how many choices of signs lead to each sum
        after = {}
        for total, count in ways.items():
            for new in (total + value, total - value):
                after[new] = after.get(new, 0) + count
        ways = after
    counted = sum(count for total, count in ways.items() if abs(total) >= abs(sum(values))) / 2 ** len(values)
    assert sign_flip(values) == pytest.approx(counted, rel=0.05)
    assert sign_flip(values) == sign_flip(values)
    assert smallest_p(14) == 2 / 2**14
    assert sign_flip([1.0] * 40) >= smallest_p(40) == 1 / 100_000


def test_a_paired_difference_by_hand():
    gains = Paired((0.01, 0.02, 0.06))
    assert gains.mean == pytest.approx(0.03)
    assert gains.sd == pytest.approx(math.sqrt(0.0007))
    half = 4.302653 * math.sqrt(0.0007 / 3)
    assert gains.interval == pytest.approx((0.03 - half, 0.03 + half), abs=1e-8)
    assert (gains.p, gains.agree, gains.verdict) == (0.25, 3, "not shown")  # every seed agrees, and it crosses zero
    assert Paired((0.02, 0.03, 0.025)).verdict == "ahead"
    assert Paired((0.05, 0.05, -0.001)).verdict == "not shown"  # one seed says otherwise
    assert Paired((0.02,)).verdict == "one seed: no spread"
    assert Paired((0.0, 0.0)).verdict == "not shown"
    assert Paired((0.02, 0.02)).verdict == "ahead"
    assert Paired(()).verdict == "nothing to compare"
    assert all(map(math.isnan, (Paired(()).mean, Paired(()).p, Paired((0.1,)).sd, *Paired((0.1,)).interval)))


@given(differences)
@settings(max_examples=100, deadline=None)
def test_the_verdict_has_a_mirror(values):
    mirror = {"ahead": "behind", "behind": "ahead"}
    there, back = Paired(tuple(values)).verdict, Paired(tuple(-value for value in values)).verdict
    assert back == mirror.get(there, there)
    if there == "ahead":
        n = len(values)
        assert np.mean(values) > t_quantile(n - 1) * np.std(values, ddof=1) / math.sqrt(n) * (1 - 1e-9)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_equal_models_read_ahead_as_seldom_as_promised(n):
    draws = np.random.default_rng(0).normal(size=(40_000, n))
    ahead = draws.mean(1) > t_quantile(n - 1) * draws.std(1, ddof=1) / math.sqrt(n)
    assert ahead.mean() == pytest.approx(CHANCE, rel=0.08)
    some = [Paired(tuple(row)).verdict == "ahead" for row in draws[:300]]
    assert some == ahead[:300].tolist()
    assert t_probability(0.0, n) == 0


def test_few_seeds_are_told_what_they_cannot_show():
    assert significance(3) == (
        "With 3 seeds no test can reach p < 0.05 (the smallest possible is 0.25): read the differences beside their "
        "spread."
    )
    assert "no spread" in significance(1)
    assert "nothing can be said" in significance(0)
    assert [n for n in range(2, 10) if "no test can reach" in significance(n)] == [2, 3, 4, 5]
    assert "0.031" in significance(6)


# What was measured


def test_only_matched_conditions_are_averaged():
    clean, blur = ("clean", 0), ("gaussian_blur", 3)
    results = handmade(
        {
            ("feedback", 0, "clean", 4): {clean: 0.8, blur: 0.6},
            ("feedback", 1, "clean", 4): {clean: 0.9, blur: math.nan},
            ("plain", 0, "clean", 4): {clean: 0.7, blur: 0.1},
            ("plain", 1, "clean", 4): {clean: 0.85, blur: 0.2},
            ("plain", 2, "clean", 4): {clean: 0.1, blur: 0.1},
        }
    )
    table = parse(results).scores()
    assert paired(table, "plain").values == pytest.approx(
        (0.1, 0.05)
    )  # blur has no feedback at seed 1; seed 2 has none
    assert [c.test for c in matched(only(table, "feedback", "plain"))] == ["clean"]
    assert means(table)["plain"] == pytest.approx({0: 0.7, 1: 0.85, 2: 0.1})
    assert paired(table, "one-step").values == ()


def test_where_no_condition_is_whole_the_seeds_that_all_have_remain():
    results = handmade(
        {
            ("feedback", 0, "clean", 4): {("clean", 0): 0.8},
            ("plain", 0, "clean", 4): {("clean", 0): 0.7},
            ("feedback", 1, "clean", 4): {("clean", 0): 0.9},
            ("plain", 1, "clean", 4): {("clean", 0): 0.6},
            ("feedback", 0, "clean", 8): {("clean", 0): 0.5},
            ("plain", 0, "clean", 8): {("clean", 0): 0.5},
            ("feedback", 2, "clean", 8): {("clean", 0): 0.5},
            ("plain", 2, "clean", 8): {("clean", 0): 0.5},
        }
    )
    assert paired(parse(results).scores(), "plain").values == pytest.approx((0.05,))


def test_looks_other_than_those_trained_with_do_not_enter_the_scores():
    results = fake_results(**SMALL)
    for run in results["runs"]:
        for score in run["scores"]:
            if score["looks"] != run["looks"]:
                score["score"] = 0.0
    assert min(min(row.values()) for row in parse(results).scores().values()) > 0
    assert set(parse(results).looks()["clean", 2]) == set(range(1, 9))


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda r: r.update(kind="sweep"), "kind='sweep'"),
        (lambda r: r.update(version=2), "version=2"),
        (lambda r: r.pop("runs"), "lacks 'runs'"),
        (lambda r: r.update(runs="none"), "runs='none'"),
        (lambda r: r.update(task="detection"), "segmentation or multilabel or classification"),
        (lambda r: r["runs"][0].pop("seconds"), r"Run 0 lacks 'seconds'"),
        (lambda r: r["runs"][0].update(model="one_step"), "Did you mean 'one-step'"),
        (lambda r: r["runs"][0].update(images=0), "images=0"),
        (lambda r: r["runs"][0].update(seconds="3"), "'3' .str.: expected a number"),
        (lambda r: r["runs"].append(r["runs"][0]), "Two runs of feedback, seed 0"),
        (lambda r: r["runs"][1]["scores"][0].pop("ece"), r"Run 1 \(plain, seed 0\): a score lacks 'ece'"),
        (lambda r: r["runs"][1]["scores"][0].update(score=71.2), "score=71.2"),
        (lambda r: r["runs"][1]["scores"][0].update(per_class=[0.5]), "1 values for 4 classes"),
    ],
)
def test_what_is_no_comparison_is_refused_before_anything_is_written(break_it, says, tmp_path):
    results = fake_results(**SMALL)
    break_it(results)
    with pytest.raises(InvalidInput, match=says):
        write_report(results, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_file_is_read_or_refused_by_name(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(fake_results(**SMALL)))
    assert load_result(tmp_path / "results.json") == fake_results(**SMALL)
    (tmp_path / "half.json").write_text('{"kind": "comp')
    for name in ("half.json", "absent.json"):
        with pytest.raises((InvalidValue, OSError), match=name):
            load_result(tmp_path / name)


# The answer


def answered(plain, one_step, equal, seeds=3, sway=0.001):
    """The conclusion where feedback leads each twin by that much."""
    leads = {"plain": plain, "one-step": one_step, "equal-compute": equal}
    models = {"feedback": 0.0, **{twin: -lead for twin, lead in leads.items() if lead is not None}}
    return conclusion(
        handmade(
            {
                (model, seed, "clean", 4): {("clean", 0): 0.5 + gain + sway * (seed - 1) * (model != "feedback")}
                for model, gain in models.items()
                for seed in range(seeds)
            }
        )
    )


def test_yes_needs_a_lead_over_every_twin():
    assert answered(0.03, 0.02, 0.01) == (
        "Yes: in the one condition tested, feedback is ahead of the plain model by 3.0 points of mIoU (3 of 3 seeds), "
        "ahead of one-step by 2.0 points of mIoU (3 of 3 seeds) and ahead of equal-compute by 1.0 points of mIoU (3 of "
        "3 seeds)."
    )
    assert answered(0.03, 0.02, 0.004).startswith("Yes, by little: ")


def test_no_names_the_twin_that_does_as_well():
    level = answered(0.03, 0.02, 0.0, sway=0.01)
    assert level.startswith("Not shown: ")
    assert "not shown to be ahead of equal-compute (" in level
    assert "± 1.0 points" in level
    assert level.endswith(": longer training of the plain model may gain as much.")
    assert answered(0.03, 0.02, -0.02).endswith(": longer training of the plain model gains more.")
    assert answered(0.03, 0.0, 0.05, sway=0.01).endswith(": a single look may do as well.")
    worse = answered(-0.03, 0.02, 0.02)
    assert worse.startswith("No: ")
    assert "behind the plain model by 3.0 points" in worse
    assert answered(-0.03, 0.02, -0.02).endswith(" seeds).")  # no gain, and none to explain


def test_the_answer_is_that_of_what_was_trained_on_and_says_where_it_does_not_hold():
    def results(elsewhere):
        return handmade(
            {
                (model, seed, "occlusion:2", 4): {
                    ("occlusion", 2): 0.5 + 0.1 * (model == "feedback") + 0.001 * seed * (model != "feedback"),
                    ("clean", 0): 0.7 + elsewhere * (model == "feedback") + 0.001 * seed * (model != "feedback"),
                }
                for model in ("feedback", *USUAL)
                for seed in range(3)
            }
        )

    worse, better = results(-0.2), results(0.2)
    assert conclusion(worse).startswith("Yes: tested on what it was trained on, in the one condition tested, feedback")
    assert "ahead of the plain model by 9.9 points of mIoU" in conclusion(worse)
    assert conclusion(worse).endswith("it is behind the plain model, one-step and equal-compute.")
    assert "behind" not in conclusion(better)
    assert summary(worse)[1].startswith(
        "Tested on what it was not trained on, in the one condition tested, feedback is"
    )
    assert "behind the plain model by 20.1 points" in summary(worse)[1]
    kinds = [row[0].partition(", ")[2] for row in tables(worse)["differences"].rows]
    assert kinds == ["as trained"] * 3 + ["otherwise"] * 3


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (
            0.9,
            "not shown to be ahead of equal-inference (+0.0 ± 0.0 points, 0 of 3 seeds): a deeper plain model may",
        ),
        (0.95, "behind equal-inference by 5.0 points of mIoU (3 of 3 seeds): a deeper plain model does better"),
    ],
)
def test_a_deeper_twin_that_does_as_well_is_the_answer(theirs, says):
    scores = {"feedback": 0.9, "plain": 0.5, "one-step": 0.5, "equal-compute": 0.6, "equal-inference": theirs}
    told = {(model, seed, "clean", 4): {("clean", 0): x} for model, x in scores.items() for seed in range(3)}
    answer = conclusion(handmade(told))
    assert answer.startswith("No: " if theirs > 0.9 else "Not shown: ")
    assert says in answer


def test_undecided_is_said_with_its_reason():
    assert answered(0.03, 0.02, 0.01, seeds=1).startswith("Undecided: ")
    assert answered(0.03, 0.02, 0.01, seeds=1).endswith(": one seed cannot tell a difference from chance.")
    assert answered(0.03, 0.02, None).endswith(": equal-compute was not compared, and may gain as much.")
    assert answered(0.03, None, None).startswith("Undecided: ")
    assert answered(-0.03, None, None).startswith("No: ")
    assert "no seed has scores" in answered(None, None, None)
    assert conclusion(fake_results(seeds=0)).startswith("Undecided: no seed")


@given(st.lists(st.integers(300, 700), min_size=12, max_size=12), st.integers(2, 3))
@settings(max_examples=60, deadline=None)
def test_the_answer_is_what_the_raw_numbers_say(scores, seeds):
    models = ("feedback", *USUAL)
    values = np.array(scores).reshape(4, 3)[:, :seeds] / 1000
    results = handmade(
        {
            (model, seed, "clean", 4): {("clean", 0): values[i, seed]}
            for i, model in enumerate(models)
            for seed in range(seeds)
        }
    )
    gains = values[0] - values[1:]
    half = t_quantile(gains.shape[1] - 1) * gains.std(1, ddof=1) / math.sqrt(gains.shape[1])
    ahead = gains.mean(1) > half + 1e-12
    answer = conclusion(results)
    assert answer.startswith("Yes") == bool(ahead.all())
    assert len(re.findall("(?<!to be )ahead of", answer)) == ahead.sum()
    assert answer.count(".") - len(re.findall(r"\d\.\d", answer)) == 1  # one sentence


def test_the_summary_says_range_chance_and_cost():
    results = fake_results()
    lines = summary(results)
    table = parse(results).scores()
    gains = {c: np.mean([row["feedback", s] - row["plain", s] for s in range(3)]) for c, row in table.items()}
    best, worst = max(gains, key=gains.get), min(gains, key=gains.get)
    text = " ".join(lines)
    assert lines[0] == conclusion(results)
    assert lines[1].startswith("Tested on what it was not trained on, averaged over 160 conditions, feedback is ")
    assert lines[2] == significance(3)
    assert f"from {100 * gains[worst]:+.1f} points ({worst}) to {100 * gains[best]:+.1f} points ({best})" in text
    assert "Of 168 conditions" in text
    assert "ahead of one twin in 2.5% by chance" in text
    assert re.search(r"feedback \d+ s and 800, plain \d+ s and 200", text)
    assert "4.0 times the plain model's time" in text
    assert not gaps(results)


def test_the_level_of_chance_is_said_of_a_single_condition_too():
    results = fake_results(trains=("clean",), counts=(4,), corruptions=())
    assert "in the one condition tested" in conclusion(results)
    assert "Equal models read ahead of one twin in 2.5% by chance, whatever the number of seeds." in summary(results)
    assert "by chance." not in " ".join(summary(fake_results(seeds=1, trains=("clean",), counts=(4,), corruptions=())))


def test_no_row_of_scores_repeats_another_under_another_name():
    trained, other = ("rescaled_noise", 4), ("occlusion", 1)

    def tests(*conditions):
        runs = {
            (model, 0, "rescaled_noise:4", 2): {("clean", 0): 0.5, **dict.fromkeys(conditions, 0.25)}
            for model in ("feedback", "plain")
        }
        made = tables(handmade(runs))
        assert [row[2] for row in made["gains"].rows] == [row[2] for row in made["scores"].rows]
        return [row[2] for row in made["scores"].rows]

    assert tests(trained) == ["as trained", "clean"]
    assert tests(trained, other) == ["as trained", "clean", "corrupted"]


def test_gaps_are_named():
    results = fake_results(models=("feedback", "plain"), **SMALL)
    results["runs"][0]["scores"][1]["score"] = math.nan
    results["runs"][3]["scores"] = []
    results["runs"].pop()
    assert gaps(results) == [
        "No one-step run: it was not trained, or not kept.",
        "No equal-compute run: it was not trained, or not kept.",
        "plain, seed 1, clean, 2 images has no scores.",
        "feedback, seed 0, clean, 2 images: 1 of 13 scores are no numbers and are left out.",
        "plain, clean, 8 images: no run of seed 2.",
    ]


# Tables


def test_cells_hold_what_the_raw_numbers_hold():
    results = fake_results()
    made = tables(results)
    assert list(made) == [
        "differences",
        "scores",
        "gains",
        "robustness",
        "looks",
        "classes",
        "calibration",
        "cost",
        "detail",
    ]

    def raw(model, **where):
        runs = [r for r in results["runs"] if r["model"] == model and all(r[k] == v for k, v in where.items())]
        return np.array(
            [[s["score"] for s in r["scores"] if s["looks"] == r["looks"] and s["corruption"] != "clean"] for r in runs]
        )

    values = 100 * raw("plain", train="clean", images=8).mean(1)
    row = next(row for row in made["scores"].rows if row[:3] == ("clean", "8", "corrupted"))
    assert row[4] == f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"
    gain = 100 * (raw("feedback", train="clean", images=8) - raw("plain", train="clean", images=8)).mean(1)
    row = next(row for row in made["gains"].rows if row[:3] == ("clean", "8", "corrupted"))
    assert row[3].startswith(f"{gain.mean():+.1f} ± {gain.std(ddof=1):.1f} (3/3)")
    assert made["detail"].rows[0][:3] == ("clean", "2", "clean")
    assert len(made["detail"].rows) == 8 * 21
    cost = {row[0]: row for row in made["cost"].rows}
    assert cost["feedback"][2:5] == ("200", "4", "800")
    assert (cost["equal-compute"][2:5], cost["one-step"][2:5]) == (("800", "1", "800"), ("200", "1", "200"))
    assert cost["feedback"][6:] == ("16.00", "4.00", "n/a")


def test_looking_on_stops_helping_where_no_later_look_is_ahead():
    up = {t: dict.fromkeys(range(3), 0.5 + 0.1 * t) for t in (1, 2, 3)}
    assert settled(up) == 3
    assert settled({**up, 4: {s: 0.8 + (s - 1) * 0.01 for s in range(3)}}) == 3
    assert settled({1: {0: 0.5}, 2: {0: 0.4}}) == 1


@pytest.mark.parametrize("seeds", [1, 3])
def test_markdown_and_console_show_the_same_tables_whatever_the_names(seeds):
    results = fake_results(seeds=seeds, **SMALL)
    results["classes"] = ["[red]sky", "a|b", "<script>", "road"]
    text, all_of_it = ("\n".join(t.markdown() for t in shown(results, detail=detail)) for detail in (False, True))
    assert "[red]sky" in text
    assert "a\\|b" in text
    assert "every condition" not in text
    assert "every condition" in all_of_it
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    console = Console(width=200, record=True, file=io.StringIO())
    for table in shown(results):
        console.print(*table.within(console.width), sep="\n")
    printed = console.export_text()
    assert "[red]sky" in printed
    assert all(table.title in printed for name, table in tables(results).items() if name != "detail")


# Figures


def test_figures_draw_the_means_and_only_what_was_varied():
    results = fake_results()
    made = figures(results)
    robustness = ["robustness-clean", "robustness-rescaled_noise-4"]
    assert list(made) == ["differences", *robustness, "few-shot", "train-noise", "looks", "classes", "cost"]
    panel = made["few-shot"].axes[0]
    line = next(line for line in panel.lines if line.get_label() == "plain")
    expected = [
        100
        * np.mean(
            [
                s["score"]
                for r in results["runs"]
                if (r["model"], r["train"], r["images"]) == ("plain", "clean", n)
                for s in r["scores"]
            ]
        )
        for n in (2, 4, 8, 64)
    ]
    assert line.get_xdata().tolist() == [2, 4, 8, 64]
    assert line.get_ydata() == pytest.approx(np.array(expected))
    assert [axis.get_title() for axis in made["robustness-clean"].axes] == [
        "gaussian_noise",
        "motion_blur",
        "occlusion",
        "rescaled_noise",
    ]
    assert list(figures(fake_results(trains=("clean",), counts=(4,), corruptions=(), models=("plain",)))) == [
        "classes",
        "cost",
    ]
    assert all(caption(name, "mIoU").endswith(".") for name in made)


def test_models_are_told_apart_without_colour():
    looks = LOOK.values()
    assert len({look["marker"] for look in looks}) == len({look["linestyle"] for look in looks}) == len(LOOK)


# The report


class Page(HTMLParser):
    """What stands in a page; asserts that every tag is closed where it must be."""

    VOID = ("meta", "img", "br", "link", "input", "hr", "source")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    picture = folder / "look.png"
    figures(fake_results(seeds=1, **SMALL))["cost"].savefig(picture, dpi=30)
    results = fake_results(trains=("clean", "rescaled_noise:4"), counts=(2, 8), corruptions=("occlusion",))
    results["classes"] = ["<script>alert(1)</script>", *CLASSES[1:]]
    results["runs"][0]["scores"][0]["ece"] = math.nan
    return write_report(results, folder / "out", {"Image 3 & its <mask>, look by look": picture}), results, picture


def test_the_page_is_whole_and_stands_alone(written):
    paths, results, _ = written
    assert all(path.stat().st_size for path in paths)
    assert [path.name for path in paths[:3]] == ["report.html", "report.md", "results.json"]
    text = paths[0].read_text()
    page = Page(text)
    assert {"script", "link", "iframe"}.isdisjoint(tag for tag, _ in page.tags)
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    assert "url(" not in text
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for attrs in page.all("a")} | {
        attrs["aria-labelledby"] for attrs in page.all("section")
    } <= set(ids)
    assert all(len(attrs["alt"]) > 20 for attrs in page.all("img"))
    assert all(attrs["scope"] in ("col", "row") for attrs in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]
    said = " ".join(page.text)
    assert all(line in said for line in summary(results))
    assert results["command"] in said
    assert results["hardware"] in said
    assert "<script>alert(1)</script>" in said  # as text
    for table in tables(results).values():
        assert table.title in said


def test_everything_embedded_is_also_a_file_and_linked_from_markdown(written):
    paths, results, picture = written
    text = paths[1].read_text()
    linked = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert len(linked) == len(figures(results)) + 1
    assert all((paths[1].parent / link).is_file() for link in linked)
    assert any(path.read_bytes() == picture.read_bytes() for path in paths[3:])
    assert conclusion(results) in text
    assert not list(paths[0].parent.rglob(".*"))


def test_results_are_json_that_any_reader_takes(written):
    paths, results, _ = written

    def refuse(name):
        raise AssertionError(name)

    kept = json.loads(paths[2].read_text(), parse_constant=refuse)
    assert kept["runs"][0]["scores"][0]["ece"] is None
    assert kept["runs"][1] == results["runs"][1]
    assert conclusion(kept) == conclusion(results)


def test_the_same_results_give_the_same_bytes_in_another_process(written, tmp_path):
    paths, _, picture = written
    code = (
        "import json, sys; from pathlib import Path\n"
        "from smp_feedback.experiments.comparison.report import write_report\n"
        "out, source, picture = map(Path, sys.argv[1:])\n"
        "write_report(json.loads(source.read_text()), out, {'Image 3 & its <mask>, look by look': picture})\n"
        "assert 'torch' not in sys.modules, 'a report needs no torch'"
    )
    run = [sys.executable, "-W", "error", "-c", code, str(tmp_path), str(paths[2]), str(picture)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for path in paths:
        assert (tmp_path / path.relative_to(paths[0].parent)).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("name", ["absent.png", "notes.txt"])
def test_a_picture_that_cannot_be_shown_stops_the_report_before_it_is_written(name, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(InvalidInput, match=name):
        write_report(fake_results(seeds=1, **SMALL), tmp_path / "out", {"look": tmp_path / name})
    assert not (tmp_path / "out").exists()


def nothing(results):
    results["runs"] = []


def no_scores(results):
    for run in results["runs"]:
        run["scores"] = []


def nan_scores(results):
    for run in results["runs"]:
        for score in run["scores"]:
            score.update(score=math.nan, ece=None, per_class=[None] * 4)
        run.update(seconds=math.nan, seconds_per_image=None)


def absent_class(results):
    for run in results["runs"]:
        for score in run["scores"]:
            score["per_class"][2] = None


def no_time(results):
    for run in results["runs"]:
        run.update(seconds_per_image=0.0)


@pytest.mark.parametrize("spoil", [nothing, no_scores, nan_scores, absent_class, no_time])
def test_whatever_is_missing_the_report_is_written_and_says_so(spoil, tmp_path):
    results = fake_results(seeds=2, trains=("clean",), counts=(4,), corruptions=("occlusion",))
    spoil(results)
    page = Page(write_report(results, tmp_path)[0].read_text())
    said = " ".join(page.text)
    assert conclusion(results) in said
    if spoil in (nothing, no_scores, nan_scores):
        assert "Undecided" in said
        assert "What is missing" in said
    assert "nan" not in said.lower().split()


@pytest.mark.parametrize("models", [("feedback",), ("plain", "one-step"), ("feedback", "plain", "one-step")])
def test_a_missing_model_is_named(models, tmp_path):
    results = fake_results(
        models=models, seeds=1, trains=("rescaled_noise:4",), counts=(4,), corruptions=("occlusion",)
    )
    said = " ".join(Page(write_report(results, tmp_path)[0].read_text()).text)
    assert "Undecided" in said
    for model in {"feedback", *USUAL} - set(models):
        assert f"No {model} run" in said


def test_classification_speaks_of_accuracy():
    results = fake_results(task="classification", **SMALL)
    text = (
        conclusion(results)
        + "".join(t.markdown() for t in shown(results))
        + "".join(caption(name, "accuracy") for name in figures(results))
    )
    assert "points of accuracy" in text
    assert "IoU" not in text


def test_both_schemes_have_enough_contrast():
    style = (Path(__file__).parents[2] / "smp_feedback/experiments/comparison/report.html.jinja").read_text()

    def light(colour):
        full = colour if len(colour) == 6 else "".join(2 * c for c in colour)
        parts = [int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    schemes = re.findall(r":root \{(.*?)\}", style)
    assert len(schemes) == 3  # light, dark, print
    for scheme in schemes:
        colours = {name: light(value) for name, value in re.findall(r"--(\w+): #(\w+)", scheme)}
        for ground, ink in itertools.product(("page", "panel"), ("ink", "soft", "link", "good", "bad")):
            bright, dark = sorted((colours[ground], colours[ink]), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ground, ink)
