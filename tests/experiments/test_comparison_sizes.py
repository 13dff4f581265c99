"""A comparison at several sizes: what its results hold, what is said of them, and that older results still load."""

from __future__ import annotations

import math

import pytest
from fake_comparison import SOLVED, fake_results, fake_sizes

from smp_feedback.errors import InvalidInput
from smp_feedback.experiments.comparison.results import pixels
from smp_feedback.experiments.comparison.schema import parse


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
    for run in found.runs:
        assert run.passes == run.steps * run.looks
        assert math.isnan(run.macs)
        assert all(math.isnan(score.solved) for score in run.scores.values())


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
