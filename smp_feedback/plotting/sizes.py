"""How far an answer reaches: shares over the size of the problem, and over how often a model looked at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smp_feedback.errors import InvalidValue
from smp_feedback.plotting.axes import Look, curve, small_panels
from smp_feedback.plotting.style import GREY, line

Points = Mapping[float, Sequence[float]]
"""Where along x: one share in [0, 1] a seed."""
LEADER: Look = {"arrowstyle": "-", "linewidth": 0.9, "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)}
LETTERS = 9  # points: readable where a page is as wide as a phone
SOLVED = "solved"


def sizes_figure(
    models: Mapping[str, Points],
    *,
    trained: float | None = None,
    measure: str = SOLVED,
    looks: Mapping[str, Look] | None = None,
) -> Figure:
    """One line a model over the sizes of test images: the mean over seeds, their range shaded, its name at its end.

    Args:
        models: By name, and then by size.
        trained: The size in training, marked; None marks none.
        measure: What is measured, for the axis.
        looks: How each line is drawn, by name; None is the house's own order.

    Raises:
        InvalidValue: If there is nothing to draw.

    >>> figure = sizes_figure({"loop": {5: [1.0, 0.9], 9: [0.8, 0.7]}, "plain": {5: [0.1], 9: [0.0]}}, trained=5)
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['trained', 'plain', 'loop']
    """
    figure, axis = _lines(models, looks or {}, measure)
    if trained is not None:
        _mark(axis, trained, trained)
    axis.set_xlabel("size of the problem", fontsize=LETTERS)
    _name_ends(axis)
    return figure


def looks_figure(
    sizes: Mapping[float, Points], *, trained: tuple[int, int] | None = None, measure: str = SOLVED
) -> Figure:
    """One line a size over the number of looks at test time, on a logarithmic axis, its size at its end.

    Args:
        sizes: By size of the test images, and then by the number of looks.
        trained: Fewest and most looks in training, shaded; None shades none.
        measure: What is measured, for the axis.

    Raises:
        InvalidValue: If there is nothing to draw.

    >>> figure = looks_figure({5: {1: [0.0], 16: [0.9]}, 9: {16: [0.1], 64: [0.8]}}, trained=(8, 16))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['trained', 'size 9', 'size 5']
    """
    figure, axis = _lines({f"size {size:g}": points for size, points in sizes.items()}, {}, measure)
    if trained is not None:
        _mark(axis, *trained)
    axis.set_xlabel("looks", fontsize=LETTERS)
    _name_ends(axis)
    return figure


def _lines(lines: Mapping[str, Points], looks: Mapping[str, Look], measure: str) -> tuple[Figure, Axes]:
    places = sorted({x for points in lines.values() for x in points})
    if not places:
        raise InvalidValue("nothing to draw: expected at least one line with a share at one place.")
    figure, (axis,) = small_panels(1, 1, width=4.6, height=2.9)
    for i, (name, points) in enumerate(lines.items()):
        shares = {x: [100 * share for share in points[x]] for x in points}
        curve(axis, shares, name, {"markersize": 5, "clip_on": False, **(looks.get(name) or line(i))}, shade=0.15)
    axis.set_ylim(0, 100)
    axis.set_xscale("log")
    axis.set_xlim(places[0] / 1.08, places[-1] * 1.08)
    axis.set_xticks(shown := apart(places), [f"{x:.4g}" for x in shown])
    axis.minorticks_off()
    axis.tick_params(labelsize=LETTERS)
    axis.set_ylabel(f"{measure} (%)", fontsize=LETTERS)
    return figure, axis


def _mark(axis: Axes, low: float, high: float) -> None:
    """What was seen in training: a line, or a band from *low* to *high*; the axis is as wide as it takes."""
    left, right = axis.get_xlim()
    axis.set_xlim(min(left, low / 1.08), max(right, high * 1.08))
    axis.axvspan(low / 1.02, high * 1.02, color=GREY, alpha=0.3, linewidth=0, zorder=0)
    axis.text((low * high) ** 0.5, 101, "trained", fontsize=LETTERS - 1, color="#555555", ha="center", va="bottom")


def _name_ends(axis: Axes) -> None:
    """Each line's name right of its end, as high as it ends or as near as the others let it; from the lowest up."""
    paths = [(np.asarray(drawn.get_xydata(), dtype=float), drawn) for drawn in axis.lines]
    paths.sort(key=lambda path: path[0][::-1, 1].tolist())  # equal ends: as they came to them
    gap = 100 * 1.25 * LETTERS / 72 / 2.3  # in per cent: a line of letters on an axis of 2.3 inches
    heights = spaced([float(points[-1, 1]) for points, _ in paths], gap, 100)
    for (points, drawn), height in zip(paths, heights, strict=True):
        axis.annotate(
            str(drawn.get_label()),
            (points[-1, 0], points[-1, 1]),
            (1.06, height),
            textcoords=("axes fraction", "data"),
            fontsize=LETTERS,
            va="center",
            annotation_clip=False,
            arrowprops={**LEADER, "color": drawn.get_color()},
        )


def spaced(heights: Sequence[float], gap: float, top: float) -> list[float]:
    """*heights*, lowest first, moved as little upwards as keeps them *gap* apart, and down again from *top*.

    >>> spaced([0, 0, 0, 50], 10, 100), spaced([0, 95, 100], 10, 100)
    ([0, 10, 20, 50], [0, 90, 100])
    """
    moved: list[float] = []
    for height in heights:
        moved.append(max([height, *(low + gap for low in moved[-1:])]))
    for i in reversed(range(len(moved))):
        moved[i] = min([moved[i], top, *(high - gap for high in moved[i + 1 : i + 2])])
    return moved


def apart(places: Sequence[float], share: float = 0.09) -> list[float]:
    """Those of *places* (> 0, in order) whose numbers fit under a logarithmic axis; first and last always.

    Args:
        places: Where something was measured.
        share: How much of the axis a number takes.

    >>> apart([1, 2, 3, 16, 60, 64]), apart([5, 9, 13, 21])
    ([1, 2, 3, 16, 64], [5, 9, 13, 21])
    """
    kept, least = [places[0]], share * np.log(places[-1] / places[0])
    for place in places[1:-1]:
        if min(np.log(place / kept[-1]), np.log(places[-1] / place)) >= least:
            kept.append(place)
    return kept + [place for _, place in pairwise(places)][-1:]
