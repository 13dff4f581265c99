"""A console's table: four rows that fit 80 columns, the numbers of the results, no verdict that is not shown."""

from __future__ import annotations

import io

import numpy as np
import pytest
from fake_comparison import fake_results, fake_sizes
from rich.console import Console

from smp_feedback.evaluation.statistics import Paired
from smp_feedback.experiments.comparison.brief import ROWS, brief, told
from smp_feedback.experiments.comparison.conclusion import summary

WIDTH = 80


@pytest.mark.parametrize("results", [fake_results, fake_sizes])
def test_the_answer_and_one_table_of_four_rows_fit_a_console(results):
    found = results()
    table = brief(found)
    assert 1 < len(table.rows) <= ROWS
    assert table.columns[1] in ("feedback is", "the twin is")
    console = Console(width=WIDTH, file=io.StringIO())
    [shown] = table.within(WIDTH)
    console.print(shown)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= WIDTH
    words = " ".join(console.file.getvalue().split())
    for row in table.rows:
        assert all(cell in words for cell in row), row
    assert "…" not in words


def test_its_numbers_are_those_of_the_runs():
    found = fake_results()
    rows = {row[0]: row[1:] for row in brief(found).rows}
    own = {name: [run for run in found["runs"] if run["model"] == name] for name in rows}
    for name, (verdict, by, _, _, milliseconds, _) in rows.items():
        assert float(milliseconds) == pytest.approx(
            1000 * np.mean([run["seconds_per_image"] for run in own[name]]), rel=0.01
        )
        if name != "feedback":
            low, high = (float(end) for end in by.partition("(")[2].rstrip(")").split(" to "))
            assert verdict == ("ahead" if low > 0 else "behind" if high < 0 else "not shown")


@pytest.mark.parametrize("values", [(0.01, 0.02, 0.06), (0.3, 0.01, 0.2), (0.001, 0.0005, 0.003)])
def test_ahead_is_not_said_where_the_interval_crosses_zero(values):
    gain = Paired(values)
    assert gain.agree == 3
    assert gain.interval[0] < 0
    assert gain.verdict == "not shown"


def test_calibration_time_and_training_stand_beside_the_answer():
    beside = " ".join(summary(fake_results())[1:])
    for words in (
        "Expected calibration error (%, 0 is best): feedback ",
        "forward passes of a batch",
        "times the plain",
    ):
        assert words in beside
    assert told(fake_results()) == summary(fake_results())[:1]
