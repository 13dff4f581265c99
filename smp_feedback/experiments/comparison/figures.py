"""The numbers as figures, one function each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smp_feedback.evaluation.statistics import Paired
from smp_feedback.experiments.comparison.results import (
    CLEAN,
    FEEDBACK,
    MODELS,
    SOLVED,
    TWINS,
    Comparison,
    ScoreTable,
    average,
    kinds,
    means,
    paired,
    select,
)
from smp_feedback.experiments.comparison.schema import parse
from smp_feedback.experiments.comparison.size_figures import at_sizes
from smp_feedback.plotting.axes import bars, curve, legend, small_panels, whole_numbers
from smp_feedback.plotting.style import LINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOK: dict[str, dict[str, Any]] = {
    "feedback": {"color": LINES[0], "marker": "o", "linestyle": "-", "linewidth": 2.2},
    "plain": {"color": LINES[6], "marker": "s", "linestyle": "--"},
    "one-step": {"color": LINES[4], "marker": "^", "linestyle": "-."},
    "equal-compute": {"color": LINES[1], "marker": "D", "linestyle": ":", "markerfacecolor": "white"},
    "equal-inference": {"color": LINES[2], "marker": "v", "linestyle": (0, (8, 2))},
    "equal-inference-3x": {"color": LINES[3], "marker": "P", "linestyle": (0, (6, 1, 1, 1, 1, 1))},
}
HATCHES = {
    **{"feedback": "", "plain": "///", "one-step": "...", "equal-compute": "xxx"},
    **{"equal-inference": "---", "equal-inference-3x": "+++"},
}
SEED = "#777777"  # of the dots for one seed, and of what stands for a number of looks
ACROSS = 4  # panels in a row
MOST_CLASSES = 30  # more bars than that are no figure; the table has them all


def figures(results: Mapping[str, Any]) -> dict[str, Figure]:
    """Every figure that has something to show, by name, in the order of the report.

    ``differences`` always comes first; ``few-shot`` needs two numbers of training images, ``train-noise`` two
    training conditions, ``looks`` a feedback model scored at several looks. ``sizes`` and ``sizes-looks`` are those
    of test images of several sizes, and end in what was trained on where that is not always the same.

    Raises:
        InvalidInput: If *results* are no comparison.
    """
    found = parse(results)
    made: dict[str, Figure | None] = {"differences": _differences(found), **at_sizes(found, LOOK)}
    for train in dict.fromkeys(train for train, _ in found.groups):
        made[f"robustness-{train.replace(':', '-')}"] = _robustness(found, train)
    made |= {
        "few-shot": _few_shot(found),
        "train-noise": _train_noise(found),
        "looks": _looks(found),
        "classes": _classes(found),
        "cost": _cost(found),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def caption(name: str, metric: str, measure: str = SOLVED) -> str:
    """What the figure *name* shows, in a sentence or two; *measure* is what sizes are compared by."""
    what = "The share of images solved, every pixel right," if measure == SOLVED else f"The {metric} reached"
    texts = {
        "sizes": f"{what} over the size of the test images, the mean over seeds, their range shaded. The mark is the "
        "size in training.",
        "sizes-looks": f"{what} by the feedback model over its looks when it is tested, a line a size: the mean over "
        "seeds, their range shaded. The upright band is how often it looked in training.",
        "differences": f"Feedback minus each twin, in points of {metric}: a grey dot a seed, the mean over seeds with "
        "its 95 % t interval; right of the line feedback is ahead. As trained, otherwise: averaged over all conditions "
        "of the kind.",
        "robustness": f"{metric} over severity (0: clean images), the mean over seeds and numbers of training images, "
        "the range over seeds shaded" + (f"; trained on {name.partition('-')[2]}." if "-" in name else "."),
        "few-shot": f"{metric} over the number of training images, averaged over the tests; the range over "
        "seeds shaded.",
        "train-noise": f"{metric} over what the models were trained on, tested on the same where that was measured, "
        "else averaged over the tests; the range over seeds shaded.",
        "looks": f"{metric} of the feedback model over its looks at the image, tested on what it was trained on; the "
        "range over seeds shaded. The upright line is the number of looks in training; flat lines are the twins.",
        "classes": "The score of each class, averaged over the conditions; whiskers are the range over seeds.",
        "cost": f"{metric}, averaged over the conditions, against what it cost: up and to the left is better. Bars are "
        "the standard deviation over seeds.",
    }
    begins = "sizes-looks" if name.startswith("sizes-looks") else name.partition("-")[0]
    return texts.get(name) or texts.get(begins, name)


def _differences(found: Comparison) -> Figure | None:
    table = found.scores()
    twins = [twin for twin in TWINS if paired(table, twin).values]
    if not twins:
        return None
    parts: dict[str, ScoreTable] = kinds(table)
    if len(found.groups) > 1:
        for train, images in found.groups:
            parts[f"{train}, n = {images}"] = select(table, train=train, images=images)
    figure, axes = small_panels(len(twins), ACROSS, width=3.2, height=0.9 + 0.32 * len(parts), sharex=True)
    for axis, twin in zip(axes, twins, strict=True):
        for y, own in enumerate(parts.values()):
            _interval(axis, paired(own, twin), y)
        axis.axvline(0, color="#555555", linewidth=1)
        axis.set_title(f"feedback - {twin}", fontsize=9)
        axis.set_yticks(range(len(parts)), list(parts), fontsize=8)
        axis.set_ylim(len(parts) - 0.5, -0.5)
        axis.set_xlabel(f"points of {found.metric}", fontsize=8)
    for axis in axes[1:]:
        axis.tick_params(labelleft=False)
    return figure


def _robustness(found: Comparison, train: str) -> Figure | None:
    table = select(found.scores(), train=train)
    corruptions = [c for c in dict.fromkeys(c.corruption for c in table) if c != CLEAN[0]]
    if not corruptions:
        return None
    figure, axes = small_panels(len(corruptions), ACROSS, sharey=True)
    for axis, corruption in zip(axes, corruptions, strict=True):
        tests = [CLEAN, *sorted({(c.corruption, c.severity) for c in table if c.corruption == corruption})]
        points = {
            float(severity): _seeds(select(table, corruption=name, severity=severity)) for name, severity in tests
        }
        _lines(axis, found.models, points)
        axis.set_title(corruption, fontsize=9)
        axis.set_xlabel("severity", fontsize=8)
        axis.set_xticks([float(severity) for _, severity in tests])
    return _finish(figure, axes, found.metric)


def _few_shot(found: Comparison) -> Figure | None:
    counts = sorted({images for _, images in found.groups})
    if len(counts) < 2 or not found.scores():
        return None
    table = found.scores()
    trains = list(dict.fromkeys(train for train, _ in found.groups))
    figure, axes = small_panels(len(trains), ACROSS, sharey=True)
    for axis, train in zip(axes, trains, strict=True):
        own = {n: select(table, train=train, images=n) for n in counts}
        _lines(axis, found.models, {float(n): _seeds(part) for n, part in own.items()})
        axis.set_title(f"trained on {train}", fontsize=9)
        axis.set_xscale("log", base=2)
        axis.set_xticks(counts, list(map(str, counts)))
        axis.minorticks_off()
        axis.set_xlabel("training images", fontsize=8)
    return _finish(figure, axes, found.metric)


def _train_noise(found: Comparison) -> Figure | None:
    table = found.scores()
    trains = list(dict.fromkeys(train for train, _ in found.groups))
    if len(trains) < 2 or not table:
        return None
    own = select(table, as_trained=True)
    table = own if {c.train for c in own} == set(trains) else table
    counts = sorted({images for _, images in found.groups})
    figure, axes = small_panels(len(counts), ACROSS, sharey=True)
    for axis, n in zip(axes, counts, strict=True):
        by_train = [select(table, train=train, images=n) for train in trains]
        _lines(axis, found.models, {float(i): _seeds(part) for i, part in enumerate(by_train)})
        axis.set_title(f"{n} training image{'s' * (n != 1)}", fontsize=9)
        turn = 30 if len(trains) > 2 else 0
        axis.set_xticks(range(len(trains)), trains, fontsize=7, rotation=turn, ha="right" if turn else "center")
        axis.set_xlim(-0.4, len(trains) - 0.6)
        axis.set_xlabel("trained on", fontsize=8)
    return _finish(figure, axes, found.metric)


def _looks(found: Comparison) -> Figure | None:
    groups = found.looks()
    if not groups:
        return None
    figure, axes = small_panels(len(groups), ACROSS)
    for axis, ((train, images), by_look) in zip(axes, groups.items(), strict=True):
        _lines(axis, (FEEDBACK,), {float(t): {FEEDBACK: list(seeds.values())} for t, seeds in by_look.items()})
        own = _seeds(select(found.scores(), as_trained=True, train=train, images=images))
        for model in (twin for twin in TWINS if twin in own):
            flat = {key: LOOK[model][key] for key in ("color", "linestyle")}
            axis.axhline(100 * average(own[model]), linewidth=1.2, label=model, **flat)
        trained = {r.looks for r in found.runs if (r.model, r.train, r.images) == (FEEDBACK, train, images)}
        for looks in sorted(trained):
            axis.axvline(looks, color=SEED, linewidth=0.8)
        axis.set_title(f"{train}, n = {images}", fontsize=9)
        axis.set_xlabel("looks", fontsize=8)
        whole_numbers(axis)
    return _finish(figure, axes, found.metric)


def _classes(found: Comparison) -> Figure | None:
    rows = {name: _seeds(table) for name, table in found.class_scores().items()}
    if not any(rows.values()) or len(rows) > MOST_CLASSES:
        return None
    models = found.models
    figure, (axis,) = small_panels(1, ACROSS, width=7.2, height=0.5 + 0.15 * len(rows) * max(2, len(models)))
    for k, model in enumerate(models):
        groups = [[100 * value for value in values.get(model, ())] for values in rows.values()]
        look = {"color": LOOK[model]["color"], "hatch": HATCHES[model], "alpha": 0.75, "edgecolor": "white"}
        bars(axis, groups, model, (k, len(models)), look, ends={"color": "#333333", "linewidth": 1})
    axis.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel(f"{'IoU' if found.metric == 'mIoU' else found.metric} (%)", fontsize=8)
    return _finish(figure, [axis])


def _cost(found: Comparison) -> Figure | None:
    scores = _seeds(found.scores())
    if not scores:
        return None
    figure, axes = small_panels(2, ACROSS, width=3.4, height=2.9, sharey=True)
    for model, values in scores.items():
        runs = [run for run in found.runs if run.model == model]
        costs = (average(run.seconds for run in runs), 1000 * average(run.seconds_per_image for run in runs))
        look = {key: value for key, value in LOOK[model].items() if not key.startswith("line")}
        gain = Paired(tuple(100 * value for value in values))  # for its mean and spread
        spread = gain.sd if len(values) > 1 else 0.0
        for axis, cost in zip(axes, costs, strict=True):
            if math.isfinite(cost):
                axis.errorbar(cost, gain.mean, spread, fmt="none", ecolor=look["color"], capsize=3)
                axis.plot([cost], [gain.mean], linestyle="none", markersize=8, label=model, **look)
    for axis, name in zip(axes, ("training, seconds a run", "inference, ms an image"), strict=True):
        axis.set_xlabel(name, fontsize=8)
        axis.set_xlim(left=0)
    return _finish(figure, axes, found.metric)


def _lines(axis: Axes, models: Iterable[str], points: Mapping[float, Mapping[str, Sequence[float]]]) -> None:
    """One line a model through x: model: one value a seed, in [0, 1]."""
    for model in models:
        own = {x: [100 * value for value in values[model]] for x, values in points.items() if values.get(model)}
        if own:
            curve(axis, own, model, {"markersize": 4.5, **LOOK[model]}, shade=0.13)


def _interval(axis: Axes, gain: Paired, y: float) -> None:
    """One row: a dot a seed, the mean, and its interval where there is one."""
    if not gain.values:
        return
    colour, (low, high) = LOOK[FEEDBACK]["color"], gain.interval
    if math.isfinite(low):
        axis.plot([100 * low, 100 * high], [y, y], color=colour, linewidth=1.6)
    axis.plot([100 * gain.mean], [y], marker="D", markersize=6, color=colour, linestyle="none")
    seeds = [100 * value for value in gain.values]
    axis.plot(seeds, [y + 0.22] * len(seeds), marker="o", markersize=3, color=SEED, linestyle="none")


def _finish(figure: Figure, axes: Sequence[Axes], metric: str = "") -> Figure:
    """Label the left column with a *metric*, and add the legend."""
    if metric:
        for axis in axes[::ACROSS]:
            axis.set_ylabel(f"{metric} (%)", fontsize=8)
    legend(figure, axes, least=1, ncols=4, fontsize=8, frameon=False)
    return figure


def _seeds(table: ScoreTable) -> dict[str, list[float]]:
    """By model, one value a seed: the mean over the matched conditions."""
    averages = means(table)
    return {model: list(averages[model].values()) for model in MODELS if model in averages}
