"""Figures of results: each kind's function takes the result and returns its figures by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from smp_feedback.evaluation.results import SCORES, Result
from smp_feedback.plotting.axes import (
    Look,
    Rows,
    bars,
    curves,
    curves_over_looks,
    last_look,
    legend,
    models_of,
    panels,
    spread,
    unique,
    way,
    whole_numbers,
)
from smp_feedback.plotting.style import GREY, bar, columns, line, new_figure

ENDS: Look = {"color": "black", "linewidth": 0.8, "solid_capstyle": "butt", "marker": "|", "markersize": 3}


def robustness(result: Result) -> dict[str, Figure]:
    """Score and calibration error over severity, score over looks, and each class on clean images."""
    rows, label = result["rows"], SCORES[result["task"]]
    last = last_look(rows)
    figures = {
        "severity": _by_severity(last, "score", label),
        "ece": _by_severity(last, "ece", "calibration error"),
        "classes": _class_bars([row for row in last if row["severity"] == 0], result),
    }
    if len({row["looks"] for row in rows}) > 1:
        figures["looks"] = _by_looks(rows, label)
    return figures


def few_shot(result: Result) -> dict[str, Figure]:
    """Score over the number of training images."""
    rows = last_look(result["rows"])
    figure = new_figure()
    axis = figure.subplots()
    curves(axis, rows, "images", "score")
    counts = sorted({row["images"] for row in rows})
    axis.set_xscale("log", base=2)
    axis.set_xticks(counts, [str(n) for n in counts])
    axis.minorticks_off()
    axis.set(xlabel="training images", ylabel=SCORES[result["task"]])
    legend(figure, [axis])
    return {"few_shot": figure}


def calibration(result: Result) -> dict[str, Figure]:
    """Reliability after the last look, each class, and the calibration error over looks where there are several."""
    rows = result["rows"]
    last = last_look(rows)
    figures = {"reliability": _reliability(last), "classes": _class_bars(last, result)}
    if len({row["looks"] for row in rows}) > 1:
        figure = new_figure()
        axis = figure.subplots()
        curves_over_looks(axis, rows, "ece")
        axis.set_ylabel("calibration error")
        axis.set_ylim(bottom=0)
        legend(figure, [axis])
        figures["looks"] = figure
    return figures


def stability(result: Result) -> dict[str, Figure]:
    """Change, distance to the last state and flips over looks, median and range over images; one image's path."""
    figure = new_figure(aspect=0.85)
    (change, distance), (flips, path) = figure.subplots(2, 2)
    looks = np.arange(1, result["looks"] + 1)
    spread(change, looks, result["change"], "change of the state", log=True)
    spread(distance, looks[:-1], np.asarray(result["distance"])[:, :-1], f"distance to look {looks[-1]}", log=True)
    spread(flips, looks[1:], result["flips"], "pixels that flip")
    flips.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    way(path, np.asarray(result["path"][0]), result["explained"][0])
    return {"stability": figure}


def clicked(result: Result) -> dict[str, Figure]:
    """IoU over clicks, mean over seeds and their range."""
    rows = [
        {"model": row["model"], "seed": row["seed"], "clicks": k, "score": score}
        for row in result["rows"]
        for k, score in enumerate(row["iou"])
        if k or score  # before the first there is something only where it began with a mask
    ]
    figure = new_figure()
    axis = figure.subplots()
    curves(axis, rows, "clicks", "score")
    axis.set(xlabel="clicks", ylabel="IoU")
    whole_numbers(axis, 10)
    legend(figure, [axis])
    return {"clicks": figure}


def tuning(result: Result) -> dict[str, Figure]:
    """The mIoU over updates, a line for each step size; the base's as a level, and the choice."""
    figure = new_figure()
    axis = figure.subplots()
    for i, (size, row) in enumerate(zip(result["step_sizes"], result["score"], strict=True)):
        axis.plot(range(len(row)), row, label=f"step {size:g}", markevery=max(1, len(row) // 10), **line(i))
    axis.axhline(result["base"], color=GREY, linewidth=1.0, label="base", zorder=1)
    chosen = result["chosen"]
    place: dict[str, Any] = {"color": "#000000", "marker": "*", "markersize": 11, "linestyle": "none", "zorder": 4}
    axis.plot(chosen["steps"], chosen["score"], label="chosen", **place)
    axis.locator_params(axis="x", integer=True)
    axis.set(xlabel="updates", ylabel="mIoU")
    legend(figure, [axis], letters=15)
    return {"tuning": figure}


def before_and_after(result: Result) -> dict[str, Figure]:
    """Each class of a refined prediction, or of a restored image: before, on the way, and after."""
    return {"classes": _class_bars(result["rows"], result)}


def _class_bars(rows: Rows, result: Mapping[str, Any]) -> Figure:
    """One group of bars for each class, mean over seeds; the line at a bar's end is their range."""
    models, by_class = models_of(rows), list(zip(*(row["per_class"] for row in rows), strict=True))
    present = [k for k, column in enumerate(by_class) if any(value is not None for value in column)]
    figure = new_figure(aspect=max(0.5, 0.2 + 0.045 * len(present) * (0.6 + 0.4 * len(models))))
    axis = figure.subplots()
    for i, model in enumerate(models):
        found = [[row["per_class"][k] for row in rows if row["model"] == model] for k in present]
        groups = [[value for value in column if value is not None] or [0.0] for column in found]
        varies = any(max(group) > min(group) for group in groups)
        bars(axis, groups, model, (i, len(models)), bar(i), ENDS if varies else None)
    axis.set_yticks(range(len(present)), [result["classes"][k] for k in present], parse_math=False)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="recall" if result["task"] == "classification" else "IoU", xlim=(0, 1))
    legend(figure, [axis])
    return figure


def _reliability(rows: Rows) -> Figure:
    """Accuracy over confidence, and below how many pixels are how sure; mean over seeds."""
    figure, models = new_figure(aspect=1.0), models_of(rows)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, zorder=1)
    for i, name in enumerate(models):
        found = [row for row in rows if row["model"] == name]
        share, right, sure = (
            np.mean([_merged(row["reliability"], part) for row in found], 0)
            for part in ("share", "accuracy", "confidence")
        )
        filled = share > 1e-4  # of few pixels, accuracy is chance
        label = f"{name} (ECE {np.mean([row['ece'] for row in found]):.3f})"
        upper.plot(sure[filled] / share[filled], right[filled] / share[filled], label=label, clip_on=False, **line(i))
        edges = np.linspace(0, 1, len(share) + 1)
        lower.stairs(share, edges, color=line(i)["color"], linestyle=line(i)["linestyle"])
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    lower.set(xlabel="confidence", ylabel="pixels")
    lower.yaxis.set_major_formatter(lambda part, _: f"{100 * part:g} %")
    legend(figure, [upper], least=1, letters=20 + 0.9 * max(map(len, models)))
    return figure


def _merged(bins: Mapping[str, Sequence[float]], part: str) -> NDArray[Any]:
    """A bin's share of all pixels, times *part*'s mean in it; a confidence of 1 joins the bin below."""
    values = np.array(bins["share"]) * (1 if part == "share" else np.array(bins[part]))
    return np.asarray([*values[:-2], values[-2:].sum()])


def _by_severity(rows: Rows, value: str, label: str) -> Figure:
    """One panel for each corruption, its first point the clean images."""
    names = [name for name in unique(rows, "corruption") if name != "clean"] or ["clean"]
    across = columns(len(names))
    figure = new_figure(aspect=0.16 + 0.85 * -(-len(names) // across) / across)
    axes = panels(figure, len(names), across, sharex=True, sharey=True)
    for i, (axis, name) in enumerate(zip(axes, names, strict=True)):
        curves(axis, [row for row in rows if row["corruption"] in ("clean", name)], "severity", value, models_of(rows))
        axis.set_title(name.replace("_", " "))
        whole_numbers(axis)
        axis.tick_params(labelbottom=i + across >= len(names))
    axes[0].set_ylim(bottom=0)
    figure.supxlabel("severity", fontsize="medium")
    figure.supylabel(label, fontsize="medium")
    legend(figure, axes)
    return figure


def _by_looks(rows: Rows, label: str) -> Figure:
    """Score over looks: on clean images, and the mean over all corrupted ones."""
    parts = [("clean", [row for row in rows if row["severity"] == 0])]
    parts += [("mean over corruptions", _mean_corrupted(rows))] * any(row["severity"] for row in rows)
    figure = new_figure(aspect=0.6)
    axes = panels(figure, len(parts), len(parts), sharey=True)
    for axis, (title, part) in zip(axes, parts, strict=True):
        curves_over_looks(axis, part, "score")
        axis.set_title(title)
    axes[0].set_ylabel(label)
    legend(figure, axes)
    return figure


def _mean_corrupted(rows: Rows) -> list[Mapping[str, Any]]:
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row["severity"]:
            groups.setdefault((row["model"], row["seed"], row["looks"]), []).append(row["score"])
    names = ("model", "seed", "looks", "score")
    return [dict(zip(names, (*key, float(np.mean(scores))), strict=True)) for key, scores in groups.items()]
