"""Scores in a notebook: short tables, with the numbers that the scores have."""

from __future__ import annotations

import re

import pytest
import torch

import smp_feedback as smpf
from smp_feedback.evaluation import evaluate, evaluate_repair, evaluate_score
from smp_feedback.evaluation.clicks import ClickScores
from smp_feedback.evaluation.films.scores import FilmScores
from smp_feedback.evaluation.restoration_loop import evaluate_restoration
from smp_feedback.evaluation.tuning import Tuning

PAIRS = [(torch.rand(3, 16, 16), torch.randint(0, 3, (16, 16))) for _ in range(2)]
LONGEST = 6000


def cells(html):
    return re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", html)


def small(**feedback):
    return smpf.create("PlainConv", classes=3, feedback=feedback, width=8)


def test_scores_look_by_look_are_a_row_a_look():
    found = evaluate(small(loop="recurrent"), PAIRS, classes=3, looks=[1, 2, smpf.until_settled(2, at_most=5)])
    shown = cells(found._repr_html_())
    assert shown[:5] == ["looks", "mIoU (%)", "accuracy (%)", "solved (%)", "calibration error (%)"]
    assert shown[5::5] == ["1", "2", "until_settled(2, at_most=5)"]
    assert [float(cell) for cell in shown[6::5]] == [round(100 * one.score, 1) for one in found]
    assert cells(found[0]._repr_html_()) == shown[:10]
    assert "tensor" not in found._repr_html_()


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: evaluate_repair(small(loop="repair", steps=2, width=8), PAIRS, classes=3), ["base", "2 looks"]),
        (
            lambda: evaluate_score(
                small(loop="score", steps=2, filters=4, additional_pools=1), PAIRS, classes=3, images=True
            ),
            ["before", "one pass", "after"],
        ),
        (
            lambda: evaluate_restoration(
                small(loop="restoration", steps=1, depth=2, filters=4), [(i, i, m) for i, m in PAIRS], classes=3
            ),
            ["clean", "distorted", "restored", "step 1"],
        ),
    ],
)
def test_scores_of_the_other_loops_are_a_row_an_answer(make, names):
    found = make()
    html = found._repr_html_()
    width = 7 if "PSNR" in html else 5
    assert cells(html)[width::width] == names
    assert cells(html)[width * len(names) + 1] == f"{round(100 * found.answer.score, 1):.4g}"
    assert len(html) < LONGEST


def test_scores_of_films_clicks_and_tuning_are_short_tables():
    film = FilmScores(0.7, (), 0.8, None, (0.1,) * 500, (0.5, 0.71), 0.7, None, 1, 900)
    assert cells(film._repr_html_())[:6] == ["mIoU (%)", "70", "accuracy (%)", "80", "flicker (%)", "&#8211;"]
    assert "after a cut" in film._repr_html_()
    clicks = ClickScores(torch.tensor([[0.5, 0.9], [0.1, 0.2]]), torch.zeros(2))
    assert cells(clicks._repr_html_())[:4] == ["mean IoU after 1 click (%)", "30", "mean IoU after 2 clicks (%)", "55"]
    tuning = Tuning((0.1, 0.5), ((0.4, 0.5, 0.6), (0.4, 0.6, 0.5)))
    assert "1 update of step size 0.5" in tuning._repr_html_()
    assert cells(tuning._repr_html_())[-4:] == ["0.5", "40", "60", "50"]
    assert all(len(one._repr_html_()) < LONGEST for one in (film, clicks, tuning))
