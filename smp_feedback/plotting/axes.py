"""What a figure is put together from: curves, bars and paths on one pair of axes, and legends outside of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from smp_feedback.plotting.style import GREY, LINES, columns, line

Look = Mapping[str, Any]  # how matplotlib is to draw a line or a bar
Rows = Sequence[Mapping[str, Any]]


def curve(axis: Axes, points: Mapping[float, Sequence[float]], label: str, look: Look, shade: float = 0.2) -> None:
    """One line through *points*, x: values; the mean over seeds, with their range shaded where there are several."""
    places = sorted(points)
    groups = [points[x] for x in places]
    axis.plot(places, [np.mean(group) for group in groups], label=label, **look)
    if any(len(group) > 1 for group in groups):
        low, high = ([end(group) for group in groups] for end in (min, max))
        axis.fill_between(places, low, high, color=look["color"], alpha=shade, linewidth=0)


def curves(axis: Axes, rows: Rows, x: str, y: str, models: Sequence[str] | None = None) -> None:
    """One line for each model."""
    for i, name in enumerate(models or models_of(rows)):
        points: dict[float, list[float]] = {}
        for row in rows:
            if row["model"] == name:
                points.setdefault(row[x], []).append(row[y])
        curve(axis, points, name, line(i))


def curves_over_looks(axis: Axes, rows: Rows, y: str) -> None:
    """Lines over looks; a model that looks once is a level, not a point."""
    curves(axis, rows, "looks", y)
    for i, name in enumerate(models_of(rows)):
        found = [row for row in rows if row["model"] == name]
        if len({row["looks"] for row in found}) == 1:
            level = float(np.mean([row[y] for row in found]))
            axis.axhline(level, **{**line(i), "marker": ""}, alpha=0.6, zorder=1)
    axis.set_xlabel("looks")
    whole_numbers(axis)


def whole_numbers(axis: Axes, most: int = 10) -> None:
    """Ticks along x at whole numbers alone, with at most *most* steps between them."""
    axis.xaxis.set_major_locator(MaxNLocator(most, integer=True))


def spread(axis: Axes, looks: NDArray[Any], values: Any, label: str, *, log: bool = False) -> None:
    """Median over images, and their range."""
    values = np.asarray(values, dtype=float)
    if log:
        values = np.where(values > 0, values, np.nan)  # at rest: no place on a logarithmic axis
        moving = ~np.isnan(values).all(0)
        looks, values = looks[moving], values[:, moving]
        axis.set(yscale="log", ylabel="relative")
    axis.plot(looks, np.nanmedian(values, 0), **line(0), markevery=max(1, len(looks) // 10), zorder=3)
    if len(values) > 1:
        axis.fill_between(looks, np.nanmin(values, 0), np.nanmax(values, 0), color=line(0)["color"], alpha=0.2, lw=0)
    axis.set(xlabel="look", title=label)
    whole_numbers(axis, 5)


def way(axis: Axes, path: NDArray[Any], explained: Sequence[float]) -> None:
    """The state's way in the plane that shows most of it: an arrow for each look, the first and last named."""
    x, y = path.T
    axis.plot(x, y, color=GREY, linewidth=0.8, zorder=1)
    arrows: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.012}
    axis.quiver(x[:-1], y[:-1], np.diff(x), np.diff(y), color=LINES[0], zorder=2, **arrows)
    for t, marker, place in ((0, "o", (5, 4)), (len(path) - 1, "s", (5, -9))):
        axis.plot(x[t], y[t], marker, color=LINES[1], zorder=3)
        axis.annotate(str(t + 1), (x[t], y[t]), place, textcoords="offset points", fontsize="small")
    first, second = (f"axis {i + 1} ({100 * share:.1f} %)" for i, share in enumerate(explained))
    axis.set(xlabel=first, ylabel=second, title="path of the state")
    axis.margins(0.15)


def bars(
    axis: Axes, groups: Sequence[Sequence[float]], label: str, place: tuple[int, int], look: Look, ends: Look | None
) -> None:
    """A model's bar in each group: to the mean over seeds, with a line over their range; nothing without a seed.

    Args:
        axis: Where; group k is at y = k.
        groups: One value a seed in each.
        label: The model's name.
        place: (i, n): the i-th of n bars in a group.
        look: Of the bars.
        ends: Of the lines over the range; None is none.
    """
    i, count = place
    for k, values in enumerate(groups):
        if len(values):
            y = k + (i - (count - 1) / 2) * 0.8 / count
            axis.barh(y, np.mean(values), 0.8 / count, label=label, **look)
            if ends is not None:
                axis.plot([min(values), max(values)], [y, y], **ends)


def legend(figure: Figure, axes: Sequence[Axes], *, least: int = 2, letters: float | None = None, **more: Any) -> None:
    """The names on *axes*, each once, above the figure.

    Args:
        figure: Theirs.
        axes: Several may show the same names.
        least: Fewer names are none.
        letters: How wide a name is, with its line; None asks the longest.
        **more: For matplotlib's own legend.
    """
    shown: dict[str, Any] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            shown.setdefault(str(name), handle)
    if len(shown) >= least:
        letters = 6 + 0.9 * max(map(len, shown)) if letters is None else letters
        more = {"ncols": columns(len(shown), letters), **more}
        figure.legend(list(shown.values()), list(shown), loc="outside upper center", **more)


def panels(figure: Figure, count: int, across: int, **shared: Any) -> list[Axes]:
    """*count* axes, *across* in a row."""
    grid = figure.subplots(-(-count // across), across, squeeze=False, **shared).ravel()
    for spare in grid[count:]:
        spare.remove()
    return list(grid[:count])


def small_panels(
    count: int, across: int, width: float = 2.3, height: float = 2.2, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure whose *count* panels have their own size in inches and small print, whatever the style."""
    across = min(count, across)
    size = max(4.2, width * across), height * -(-count // across) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    axes = panels(figure, count, across, **shared)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=8)
    return figure, axes


def last_look(rows: Rows) -> list[Mapping[str, Any]]:
    """Every model's rows after its most looks."""
    most: dict[str, int] = {}
    for row in rows:
        most[row["model"]] = max(row["looks"], most.get(row["model"], 0))
    return [row for row in rows if row["looks"] == most[row["model"]]]


def models_of(rows: Rows) -> list[str]:
    """The models' names, in the order in which they were given.

    Raises:
        LookupError: Without any row.
    """
    if not rows:
        raise LookupError("rows")
    return unique(rows, "model")


def unique(rows: Rows, name: str) -> list[str]:
    """Every value of column *name*, once, in order."""
    return list(dict.fromkeys(row[name] for row in rows))
