"""An ablation drawn: what each row scores, and what it gains over the plain model; for ``smp-feedback plot``, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smp_feedback.experiments.ablation.results import Ablation, parse
from smp_feedback.experiments.ablation.rows import PLAIN, ROWS
from smp_feedback.plotting.style import GREY, LINES, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figures(results: Mapping[str, Any]) -> dict[str, Figure]:
    """``rows``: mIoU of every line of the table, a bar to the mean over seeds and a dot a seed.

    Raises:
        InvalidInput: If *results* are no ablation.
    """
    found = parse(results)
    figure = new_figure(aspect=0.2 + 0.07 * len(found.lines))
    axis = figure.subplots()
    for place, one in enumerate(found.lines):
        values = [100 * value for value in found.scores(one).values()]
        if values:
            colour = LINES[0] if ROWS[one.row].restored else GREY
            axis.barh(place, sum(values) / len(values), 0.7, color=colour, alpha=0.75)
            axis.plot(values, [place] * len(values), "o", color="black", markersize=3)
    axis.set_yticks(range(len(found.lines)), [one.label for one in found.lines])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="mIoU (%)")
    _mark(axis, found)
    return {"rows": figure}


def _mark(axis: Axes, found: Ablation) -> None:
    """A line where the plain model, trained on distorted images, ends."""
    values = found.scores(PLAIN).values()
    if values:
        axis.axvline(100 * sum(values) / len(values), color="black", linewidth=0.8, linestyle="--")
