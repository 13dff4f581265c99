"""Shares over sizes and looks: what the lines go through, what is marked, and that every name can be read."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("matplotlib")
from matplotlib.text import Text

from smp_feedback.errors import InvalidValue
from smp_feedback.plotting import looks_figure, sizes_figure
from smp_feedback.plotting.plot import for_page
from smp_feedback.plotting.sizes import apart, spaced
from smp_feedback.plotting.style import line

TWINS = ("plain", "one-step", "equal-compute", "equal-inference", "equal-inference-3x")
MODELS = {"loop": {21: [0.5, 0.7], 5: [1.0, 0.9]}, **{twin: {5: [0.1], 21: [0.0]} for twin in TWINS}}
SIZES = {5: {1: [0.0], 8: [0.5], 16: [0.98]}, 9: {1: [0.0], 16: [0.1], 160: [0.9]}}


def names(figure):
    """Each line's name, and the height at which it stands."""
    return {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts if text.get_text() != "trained"}


def test_lines_go_through_the_means_over_seeds_and_their_range_is_shaded():
    axis = sizes_figure(MODELS).axes[0]
    assert [drawn.get_label() for drawn in axis.lines] == [*MODELS]
    assert axis.lines[0].get_xdata().tolist() == [5, 21]
    assert axis.lines[0].get_ydata() == pytest.approx([95, 60])
    assert axis.lines[1].get_ydata() == pytest.approx([10, 0])
    (band,) = axis.collections  # of the one that has several seeds
    assert {(x, round(y)) for x, y in band.get_paths()[0].vertices} >= {(5, 90), (5, 100), (21, 50), (21, 70)}
    assert axis.get_ylabel() == "solved (%)"
    assert sizes_figure(MODELS, measure="mIoU").axes[0].get_ylabel() == "mIoU (%)"


def test_a_line_a_size_over_looks_on_a_logarithmic_axis():
    axis = looks_figure(SIZES, trained=(8, 16)).axes[0]
    assert axis.get_xscale() == "log"
    assert [drawn.get_label() for drawn in axis.lines] == ["size 5", "size 9"]
    assert axis.lines[1].get_xdata().tolist() == [1, 16, 160]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["1", "8", "16", "160"]


@pytest.mark.parametrize(
    ("figure", "low", "high"),
    [(sizes_figure(MODELS, trained=5), 5, 5), (looks_figure(SIZES, trained=(8, 16)), 8, 16)],
)
def test_what_was_trained_is_marked(figure, low, high):
    (mark,) = figure.axes[0].patches
    assert mark.get_x() < low <= high < mark.get_x() + mark.get_width()
    assert mark.get_width() < 1.1 * high - 0.9 * low
    assert next(text.get_text() for text in figure.axes[0].texts) == "trained"
    assert not sizes_figure(MODELS).axes[0].patches


@pytest.mark.parametrize("trained", [2, 50])
def test_what_was_trained_is_within_the_axis_where_nothing_was_tested_there(trained):
    for figure in (sizes_figure(MODELS, trained=trained), looks_figure(SIZES, trained=(trained, trained + 1))):
        low, high = figure.axes[0].get_xlim()
        mark = next(text for text in figure.axes[0].texts if text.get_text() == "trained")
        assert low < mark.get_position()[0] < high


@pytest.mark.parametrize("figure", [sizes_figure(MODELS, trained=5), looks_figure(SIZES)])
def test_every_line_is_named_at_its_end_and_no_name_covers_another_or_leaves_the_page(figure):
    figure.draw_without_rendering()
    heights = names(figure)
    assert set(heights) == {drawn.get_label() for drawn in figure.axes[0].lines}
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]  # without the line that leads to it
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    page = figure.get_tightbbox()
    assert page.x0 > -0.02
    assert page.x1 < figure.get_figwidth() + 0.02
    assert figure.get_figwidth() <= 4.6, "readable on a page as wide as a phone"


def test_names_are_ordered_as_lines_end_and_came_to_their_end():
    figure = sizes_figure({"low": {5: [0.2], 9: [0.0]}, "top": {5: [1.0], 9: [0.9]}, "mid": {5: [0.6], 9: [0.0]}})
    heights = names(figure)
    assert heights["low"] < heights["mid"] < heights["top"]
    assert heights["top"] == pytest.approx(90)


@given(st.lists(st.floats(0, 100), max_size=8).map(sorted), st.floats(1, 12))
def test_names_keep_their_order_and_distance_and_go_no_further_than_they_must(heights, gap):
    moved = spaced(heights, gap, 100)
    assert len(moved) == len(heights)
    assert all(high - low >= gap - 1e-9 for low, high in pairwise(moved))
    assert all(height <= 100 for height in moved)
    if all(high - low >= gap for low, high in pairwise(heights)):
        assert moved == pytest.approx(heights)


@given(st.sets(st.integers(1, 1000), min_size=1, max_size=30).map(sorted))
def test_ticks_are_among_the_places_far_enough_apart_and_hold_both_ends(places):
    kept = apart(places, 0.1)
    assert set(kept) <= set(places)
    assert {kept[0], kept[-1]} == {places[0], places[-1]}
    assert all((high / low) >= (places[-1] / places[0]) ** 0.1 * (1 - 1e-9) for low, high in pairwise(kept))


def test_lines_look_as_they_are_told_or_as_the_house_has_them():
    own = {"color": "#009E73", "marker": "D", "linestyle": ":"}
    first, second = sizes_figure({"loop": {5: [1.0]}, "plain": {5: [0.0]}}, looks={"plain": own}).axes[0].lines
    assert (first.get_color(), first.get_marker()) == (line(0)["color"], line(0)["marker"])
    assert (second.get_color(), second.get_marker()) == ("#009E73", "D")


def test_the_same_shares_give_the_same_bytes_as_svg_and_png():
    first, second = (for_page(sizes_figure(MODELS), "sizes") for _ in range(2))
    assert first == second
    assert first[".svg"].startswith(b"<?xml")
    assert io.BytesIO(first[".png"]).read(4) == b"\x89PNG"


@pytest.mark.parametrize("draw", [sizes_figure, looks_figure])
@pytest.mark.parametrize("nothing", [{}, {5: {}}])
def test_nothing_is_refused(draw, nothing):
    with pytest.raises(InvalidValue, match="nothing to draw: expected at least one line"):
        draw(nothing)
