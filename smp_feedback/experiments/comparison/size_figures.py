"""Two figures of a comparison at several sizes: every model over the sizes, and the loop over its looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from smp_feedback.experiments.comparison.results import FEEDBACK, Comparison, pixels
from smp_feedback.plotting.axes import Look
from smp_feedback.plotting.sizes import Points, looks_figure, sizes_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Lines = Mapping[tuple[str, int], Points]  # (model, looks): side of the test images: one share a seed


def at_sizes(found: Comparison, looks: Mapping[str, Look]) -> dict[str, Figure | None]:
    """``sizes`` and ``sizes-looks`` for everything that was trained on; None where there is nothing to show.

    Args:
        found: The comparison; of one size it has no such figures.
        looks: How each model's line is drawn.
    """
    made: dict[str, Figure | None] = {}
    for train, images in found.groups if found.sizes else ():
        lines = {
            key: {side(size): [*seeds.values()] for size, seeds in by_size.items()}
            for key, by_size in found.at_sizes(train, images).items()
        }
        name = f"-{train.replace(':', '-')}-{images}" if len(found.groups) > 1 else ""
        made[f"sizes{name}"] = _over_sizes(found, lines, looks)
        made[f"sizes-looks{name}"] = _over_looks(found, lines)
    return made


def side(size: int | Sequence[int]) -> float:
    """Of a square as large as *size*.

    >>> side(21), side((9, 16))
    (21.0, 12.0)
    """
    return math.sqrt(pixels(size if isinstance(size, int) else (size[0], size[1])))


def trained_looks(found: Comparison) -> tuple[int, int]:
    """Fewest and most looks of the loop in training; (1, 1) without a loop."""
    steps = (found.settings.get("training") or {}).get("steps")
    drawn = steps if isinstance(steps, list) else [run.looks for run in found.runs if run.model == FEEDBACK]
    return min(drawn, default=1), max(drawn, default=1)


def _over_sizes(found: Comparison, lines: Lines, looks: Mapping[str, Look]) -> Figure | None:
    """A line a model; of the loop one with the most looks, and a paler one with about as many as in training."""
    often = [t for model, t in lines if model == FEEDBACK]
    most, usual = max(often, default=0), min(often, key=lambda t: abs(t - trained_looks(found)[1]), default=0)
    drawn, own = {}, {}
    for (model, t), points in lines.items():
        if model == FEEDBACK and t not in (most, usual):
            continue
        name = f"{model}, {t} look{'s' * (t > 1)}" if model == FEEDBACK and most != usual else model
        paler: Look = {"linestyle": (0, (2, 1)), "markerfacecolor": "white"} if t == usual < most else {}
        drawn[name], own[name] = points, {**looks[model], **(paler if model == FEEDBACK else {})}
    size = found.settings.get("size")
    trained = None if size is None else side(size)
    return sizes_figure(drawn, trained=trained, measure=found.measure, looks=own) if drawn else None


def _over_looks(found: Comparison, lines: Lines) -> Figure | None:
    """A line a size, where the loop was scored after several numbers of looks."""
    sizes: dict[float, dict[float, Sequence[float]]] = {}
    for (model, t), points in lines.items():
        for size, shares in points.items() if model == FEEDBACK else ():
            sizes.setdefault(size, {})[t] = shares
    if len({t for shares in sizes.values() for t in shares}) < 2:
        return None
    return looks_figure(dict(sorted(sizes.items())), trained=trained_looks(found), measure=found.measure)
