"""What a figure is put together from: curves, bars and paths on one pair of axes, and legends outside of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smp_feedback.plotting.style import bar, columns, line, new_figure
from smp_feedback.evaluation.confusion import BINS

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Row = Mapping[str, Any]


def curves(axis: Axes, rows: Sequence[Row], x: str, y: str, models: Sequence[str] | None = None) -> None:
    """One line for each model, the mean over seeds with their range shaded."""
    for i, name in enumerate(models or models_of(rows)):
        places = sorted({row[x] for row in rows if row["model"] == name})
        groups = [[row[y] for row in rows if row["model"] == name and row[x] == place] for place in places]
        axis.plot(places, [np.mean(group) for group in groups], label=name, **line(i))
        if any(len(group) > 1 for group in groups):
            low, high = ([end(group) for group in groups] for end in (min, max))
            axis.fill_between(places, low, high, color=line(i)["color"], alpha=0.2, linewidth=0)


def curves_over_looks(axis: Axes, rows: Sequence[Row], y: str) -> None:
    """Lines over looks; a model that looks once is a level, not a point."""
    curves(axis, rows, "looks", y)
    for i, name in enumerate(models_of(rows)):
        found = [row for row in rows if row["model"] == name]
        if len({row["looks"] for row in found}) == 1:
            level = float(np.mean([row[y] for row in found]))
            axis.axhline(level, **{**line(i), "marker": ""}, alpha=0.6, zorder=1)
    axis.set_xlabel("looks")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


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
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def way(axis: Axes, path: NDArray[Any], explained: Sequence[float]) -> None:
    """The state's way in the plane that shows most of it: an arrow for each look, the first and last named."""
    x, y = path.T
    axis.plot(x, y, color="#999999", linewidth=0.8, zorder=1)
    arrows: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.012}
    axis.quiver(x[:-1], y[:-1], np.diff(x), np.diff(y), color="#0072B2", zorder=2, **arrows)
    for t, marker, place in ((0, "o", (5, 4)), (len(path) - 1, "s", (5, -9))):
        axis.plot(x[t], y[t], marker, color="#D55E00", zorder=3)
        axis.annotate(str(t + 1), (x[t], y[t]), place, textcoords="offset points", fontsize="small")
    first, second = (f"axis {i + 1} ({100 * share:.1f} %)" for i, share in enumerate(explained))
    axis.set(xlabel=first, ylabel=second, title="path of the state")
    axis.margins(0.15)


def class_bars(rows: Sequence[Row], result: Mapping[str, Any]) -> Figure:
    """One group of bars for each class, mean over seeds; the line at a bar's end is their range."""
    models, by_class = models_of(rows), list(zip(*(row["per_class"] for row in rows), strict=True))
    present = [k for k, column in enumerate(by_class) if any(value is not None for value in column)]
    names = [result["classes"][k] for k in present]
    figure = new_figure(aspect=max(0.5, 0.2 + 0.045 * len(names) * (0.6 + 0.4 * len(models))))
    axis, thick = figure.subplots(), 0.8 / len(models)
    for i, model in enumerate(models):
        found = [[row["per_class"][k] for row in rows if row["model"] == model] for k in present]
        values = [[value for value in column if value is not None] for column in found]
        middle = np.array([np.mean(column) if column else 0 for column in values])
        ends = [
            [abs(end(column) - m) if column else 0 for column, m in zip(values, middle, strict=True)]
            for end in (min, max)
        ]
        place = np.arange(len(names)) + (i - (len(models) - 1) / 2) * thick
        axis.barh(place, middle, thick, label=model, **bar(i))
        if max(map(max, ends)) > 0:
            axis.errorbar(middle, place, xerr=ends, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="recall" if result["task"] == "classification" else "IoU", xlim=(0, 1))
    legend(figure, axis, rows)
    return figure


def reliability(rows: Sequence[Row]) -> Figure:
    """Accuracy over confidence, and below how many pixels are how sure; mean over seeds."""
    figure = new_figure(aspect=1.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, zorder=1)
    edges = np.linspace(0, 1, BINS + 1)
    for i, name in enumerate(models_of(rows)):
        bins = [row["reliability"] for row in rows if row["model"] == name]
        share, right, sure = (
            np.mean([_merged(b, part) for b in bins], 0) for part in ("share", "accuracy", "confidence")
        )
        filled = share > 1e-4  # of few pixels, accuracy is chance
        ece = np.mean([row["ece"] for row in rows if row["model"] == name])
        label = f"{name} (ECE {ece:.3f})"
        upper.plot(sure[filled] / share[filled], right[filled] / share[filled], label=label, clip_on=False, **line(i))
        lower.stairs(share, edges, color=line(i)["color"], linestyle=line(i)["linestyle"])
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    lower.set(xlabel="confidence", ylabel="pixels")
    lower.yaxis.set_major_formatter(lambda part, _: f"{100 * part:g} %")
    figure.legend(
        *upper.get_legend_handles_labels(), loc="outside upper center", ncols=_legend_columns(models_of(rows), 14)
    )
    return figure


def _merged(bins: Mapping[str, Sequence[float]], part: str) -> NDArray[Any]:
    """A bin's share of all pixels, times *part*'s mean in it; a confidence of 1 joins the bin below."""
    values = np.array(bins["share"]) * (1 if part == "share" else np.array(bins[part]))
    return np.asarray([*values[: BINS - 1], values[BINS - 1 :].sum()])


def legend(figure: Figure, axis: Axes, rows: Sequence[Row]) -> None:
    """The models' names above the figure, where there are several."""
    if len(models_of(rows)) > 1:
        handles = axis.get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=_legend_columns(models_of(rows)))


def _legend_columns(names: Sequence[str], more: int = 0) -> int:
    """A name and its line, and *more* letters."""
    return columns(len(names), 6 + more + 0.9 * max(map(len, names)))


def last_look(rows: Sequence[Row]) -> list[Row]:
    """Every model's rows after its most looks."""
    most: dict[str, int] = {}
    for row in rows:
        most[row["model"]] = max(row["looks"], most.get(row["model"], 0))
    return [row for row in rows if row["looks"] == most[row["model"]]]


def models_of(rows: Sequence[Row]) -> list[str]:
    """The models' names, in the order in which they were given."""
    return unique(rows, "model")


def unique(rows: Sequence[Row], name: str) -> list[str]:
    """Every value of column *name*, once, in order."""
    return list(dict.fromkeys(row[name] for row in rows))
