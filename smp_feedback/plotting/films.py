"""Figures of films: a line a model over frames, bars of flicker, and the frames around a cut."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smp_feedback.evaluation.results import Result
from smp_feedback.plotting.axes import Look, bars, curve, legend, small_panels, whole_numbers
from smp_feedback.plotting.style import GREY, bar, line

Sequences = Sequence[Sequence[float | None]]
"""One list of values a seed."""
ACROSS = 3  # panels in a row
ENDS: Look = {"color": "black", "linewidth": 0.8, "solid_capstyle": "butt", "marker": "|", "markersize": 3}


def figures(result: Result) -> dict[str, Figure]:
    """A result of kind ``films``: ``frames``, ``flicker``, and ``cuts`` where there are some."""
    rows = {row["model"]: row for row in result["rows"]}
    made = {
        "frames": over_frames({"": {name: [row["by_frame"]] for name, row in rows.items()}}),
        "flicker": flickers({"": {name: [row["flicker"]] for name, row in rows.items()}}),
    }
    if any(row["after_cut"] for row in rows.values()):
        made["cuts"] = after_cuts({name: [(row["before_cut"], row["after_cut"])] for name, row in rows.items()})
    return made


def over_frames(tests: Mapping[str, Mapping[str, Sequences]]) -> Figure:
    """mIoU by the frame's place in its film: a panel a test, a line a model, the range over seeds shaded.

    Args:
        tests: By name, of each model by name one list of mIoUs in [0, 1] a seed; None where nothing was labelled.
    """
    figure, axes = small_panels(len(tests), ACROSS, width=3.4, height=2.6, sharey=True)
    for axis, (test, models) in zip(axes, tests.items(), strict=True):
        for i, (model, seeds) in enumerate(models.items()):
            _line(axis, i, model, dict(enumerate(zip(*seeds, strict=False))))
        axis.set_title(test, fontsize=9)
        axis.set_xlabel("frame", fontsize=8)
        whole_numbers(axis)
    axes[0].set_ylabel("mIoU (%)", fontsize=8)
    legend(figure, axes, least=1, ncols=4, fontsize=8, frameon=False)
    return figure


def flickers(tests: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Figure:
    """Flicker: a group a test, a bar a model to the mean over seeds, their range a line.

    Args:
        tests: By name, of each model by name a share of pixels in [0, 1] a seed; None where nothing was to be seen.
    """
    names = list(dict.fromkeys(model for models in tests.values() for model in models))
    height = 0.6 + 0.16 * len(tests) * max(2, len(names))
    figure, (axis,) = small_panels(1, 1, width=6.0, height=height)
    for i, name in enumerate(names):
        groups = [[100 * v for v in models.get(name, ()) if _there(v)] for models in tests.values()]  # type: ignore[operator]
        bars(axis, groups, name, (i, len(names)), bar(i), ENDS)
    axis.set_yticks(range(len(tests)), list(tests), fontsize=8)
    axis.set_ylim(len(tests) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("flicker (% of pixels whose class changes where the truth does not)", fontsize=8)
    legend(figure, [axis], least=1, ncols=4, fontsize=8, frameon=False)
    return figure


def after_cuts(models: Mapping[str, Sequence[tuple[float | None, Sequence[float | None]]]]) -> Figure:
    """mIoU before a cut, left of the upright line, and of the frames after it.

    Args:
        models: By name, a pair a seed: the mIoU before, and those of frame 0, 1, ... after the cut.
    """
    figure, (axis,) = small_panels(1, 1, width=5.0, height=3.0)
    for i, (model, seeds) in enumerate(models.items()):
        points = dict(enumerate(zip(*((before, *after) for before, after in seeds), strict=False), start=-1))
        _line(axis, i, model, points)
    axis.axvline(-0.5, color=GREY, linewidth=0.8)
    axis.set(xlabel="frames after the cut; left of the line, the frames before it", ylabel="mIoU (%)")
    whole_numbers(axis)
    legend(figure, [axis], least=1, ncols=3, fontsize=8, frameon=False)
    return figure


def _line(axis: Axes, i: int, model: str, points: Mapping[int, Sequence[float | None]]) -> None:
    kept = {float(x): [100 * v for v in values if v is not None and _there(v)] for x, values in points.items()}
    kept = {x: values for x, values in kept.items() if values}
    if kept:
        look = {**line(i % 6), "markersize": 3.5, "markevery": max(1, len(kept) // 8)}
        curve(axis, kept, model, look, shade=0.13)


def _there(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
