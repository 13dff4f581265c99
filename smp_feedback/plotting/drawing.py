"""Panels, lines and bars: told apart by colour (Okabe and Ito's), by marker and by line, so in greyscale too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smp_feedback.experiments.comparison.results import FEEDBACK
from smp_feedback.evaluation.statistics import Paired
from smp_feedback.errors import require

require("matplotlib", extra="plot")

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

LOOK: dict[str, dict[str, Any]] = {
    "feedback": {"color": "#0072B2", "marker": "o", "linestyle": "-", "linewidth": 2.2},
    "plain": {"color": "#000000", "marker": "s", "linestyle": "--"},
    "one-step": {"color": "#E69F00", "marker": "^", "linestyle": "-."},
    "equal-compute": {"color": "#D55E00", "marker": "D", "linestyle": ":", "markerfacecolor": "white"},
}
HATCHES = {"feedback": "", "plain": "///", "one-step": "...", "equal-compute": "xxx"}
GREY = "#777777"
ACROSS = 4  # panels in a row
Points = Mapping[float, Mapping[str, Sequence[float]]]  # x: model: one value a seed, in [0, 1]


def lines(axis: Axes, models: Iterable[str], points: Points) -> None:
    """One line a model over x: the mean over seeds, their range shaded."""
    for model in models:
        xs = [x for x in sorted(points) if points[x].get(model)]
        rows = [[100 * value for value in points[x][model]] for x in xs]
        if xs:
            axis.plot(xs, [sum(row) / len(row) for row in rows], label=model, markersize=4.5, **LOOK[model])
            axis.fill_between(
                xs,
                [min(row) for row in rows],
                [max(row) for row in rows],
                color=LOOK[model]["color"],
                alpha=0.13,
                linewidth=0,
            )


def panels(
    count: int, *, width: float = 2.3, height: float = 2.2, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with *count* panels, at most four in a row."""
    across = min(count, ACROSS)
    down = -(-count // across)
    figure = Figure(figsize=(max(4.2, width * across), height * down + 0.4), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharex=sharex, sharey=sharey).ravel()
    for spare in grid[count:]:
        spare.set_axis_off()
    for axis in grid[:count]:
        style(axis)
    return figure, list(grid[:count])


def finish(figure: Figure, axes: Sequence[Axes], metric: str) -> Figure:
    """Label the left column, and add the legend."""
    for axis in axes[::ACROSS]:
        axis.set_ylabel(f"{metric} (%)", fontsize=8)
    legend(figure, axes)
    return figure


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend for all panels, above them."""
    shown: dict[str, Artist] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            shown.setdefault(str(name), handle)
    if shown:
        figure.legend(list(shown.values()), list(shown), loc="outside upper center", ncols=4, fontsize=8, frameon=False)


def style(axis: Axes) -> None:
    """The panel's frame and grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)


def interval(axis: Axes, gain: Paired, y: float) -> None:
    """One row: a dot a seed, the mean, and its interval where there is one."""
    if not gain.values:
        return
    look = LOOK[FEEDBACK]
    low, high = gain.interval
    if math.isfinite(low):
        axis.plot([100 * low, 100 * high], [y, y], color=look["color"], linewidth=1.6)
    axis.plot([100 * gain.mean], [y], marker="D", markersize=6, color=look["color"], linestyle="none")
    seeds = [100 * value for value in gain.values]
    axis.plot(seeds, [y + 0.22] * len(seeds), marker="o", markersize=3, color=GREY, linestyle="none")


def bar(axis: Axes, model: str, values: Sequence[float], y: float, thick: float) -> None:
    """A bar to the mean over seeds, with a whisker over their range; nothing without a seed."""
    if not values:
        return
    mean, look = 100 * sum(values) / len(values), LOOK[model]
    axis.barh(y, mean, thick, color=look["color"], alpha=0.75, edgecolor="white", hatch=HATCHES[model], label=model)
    axis.plot([100 * min(values), 100 * max(values)], [y, y], color="#333333", linewidth=1)
