"""What a run says in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from smp_feedback.loops.base import FeedbackModel
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.scores import ACCURACY, Scored
from smp_feedback.training.settings import Facts


def score_table(scored: Scored, classes: Sequence[str], title: str) -> Table:
    """One row a class, one column a look, in per cent; a class that never came up is left open.

    >>> from torch import tensor
    >>> table = score_table(Scored("miou", tensor([0.5]), tensor([[0.5, float("nan")]])), ("sky", "car"), "val")
    >>> [list(column.cells) for column in table.columns]
    [['sky', 'car', 'mIoU'], ['50.0', '-', '50.0']]
    """
    table = Table(title=title, caption="per cent", show_footer=False)
    table.add_column("class")
    for t in range(len(scored.looks)):
        table.add_column(f"look {t + 1}" if len(scored.looks) > 1 else "score", justify="right")
    for k, name in enumerate(classes):
        table.add_row(name, *map(per_cent, scored.per_class[:, k].tolist()), end_section=k == len(classes) - 1)
    table.add_row("accuracy" if scored.name == ACCURACY else "mIoU", *map(per_cent, scored.looks.tolist()))
    return table


def per_cent(value: float) -> str:
    """0.123 as 12.3; NaN as a dash."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def summary(module: FeedbackModule, facts: Facts) -> str:
    """The model in one line."""
    model = module.model
    count = sum(parameter.numel() for parameter in model.parameters())
    loop = f"{model.loop_config.loop} loop, T = {module.steps}" if isinstance(model, FeedbackModel) else "feed-forward"
    name = next(
        (cls.__name__ for cls in type(model).__mro__ if "smp" in cls.__module__ or "segm" in cls.__module__), ""
    )
    return f"{name or type(model).__name__}, {loop}, {count / 1e6:.1f} M parameters, {len(facts.classes)} classes"
