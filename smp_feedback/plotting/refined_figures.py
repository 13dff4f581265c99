"""Figures of refined predictions and restored images: the search for step size and updates, and what changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smp_feedback.plotting.axes import class_bars
from smp_feedback.plotting.style import columns, line, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Result = Mapping[str, Any]


def tuning(result: Result) -> dict[str, Figure]:
    """The mIoU over updates, a line for each step size; the base's as a level, and the choice."""
    figure = new_figure()
    axis = figure.subplots()
    for i, (size, row) in enumerate(zip(result["step_sizes"], result["score"], strict=True)):
        axis.plot(range(len(row)), row, label=f"step {size:g}", markevery=max(1, len(row) // 10), **line(i))
    axis.axhline(result["base"], color="#999999", linewidth=1.0, label="base", zorder=1)
    chosen = result["chosen"]
    place: dict[str, Any] = {"color": "#000000", "marker": "*", "markersize": 11, "linestyle": "none", "zorder": 4}
    axis.plot(chosen["steps"], chosen["score"], label="chosen", **place)
    axis.locator_params(axis="x", integer=True)
    axis.set(xlabel="updates", ylabel="mIoU")
    handles = axis.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=columns(len(handles[0]), 15))
    return {"tuning": figure}


def refined(result: Result) -> dict[str, Figure]:
    """Each class before, after one pass of the autoencoder, and after iterative inference."""
    return {"classes": class_bars(result["rows"], result)}


def restored(result: Result) -> dict[str, Figure]:
    """Each class in the clean, the distorted and the restored image, step by step."""
    return {"classes": class_bars(result["rows"], result)}
