"""What a run says in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from smp_feedback.evaluation.restoration_loop import RestorationScores
from smp_feedback.evaluation.score_loop import Refined
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.loops.score.model import ScoreModel
from smp_feedback.saving.weights import base_name
from smp_feedback.training.build import Facts
from smp_feedback.training.metric import ACCURACY, Scored
from smp_feedback.training.module import FeedbackModule


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


def refined_table(refined: Refined, classes: Sequence[str], title: str) -> Table:
    """One row a class, mIoU, accuracy over all pixels and calibration error; a column for each of the answers."""
    updates = f"after at most {refined.steps} updates of step size {refined.step:g}"
    table = Table(title=title, caption=f"per cent; {updates if refined.steps else 'after no update: as before'}")
    table.add_column("class")
    for name in refined.answers:
        table.add_column(name, justify="right")
    scores = [*refined.answers.values()]
    for k, name in enumerate(classes):
        row = (math.nan if (iou := score.per_class[k]) is None else iou for score in scores)
        table.add_row(name, *map(per_cent, row), end_section=k == len(classes) - 1)
    for name, values in (
        ("mIoU", [score.score for score in scores]),
        ("accuracy", [score.accuracy for score in scores]),
        ("calibration error", [score.ece for score in scores]),
    ):
        table.add_row(name, *map(per_cent, values))
    return table


def restored_table(found: RestorationScores, classes: Sequence[str], title: str) -> Table:
    """One row a class, mIoU and accuracy, and how close the image is to the clean one; a column for each image."""
    table = Table(title=title, caption="per cent; PSNR in dB and L1 against the clean image, whose values are 0 to 1")
    table.add_column("class")
    for one in found.seen:
        table.add_column(one.image, justify="right")
    scores = [one.score for one in found.seen]
    for k, name in enumerate(classes):
        row = (math.nan if (iou := score.per_class[k]) is None else iou for score in scores)
        table.add_row(name, *map(per_cent, row), end_section=k == len(classes) - 1)
    table.add_row("mIoU", *(per_cent(score.score) for score in scores))
    table.add_row("accuracy", *(per_cent(score.accuracy) for score in scores), end_section=True)
    table.add_row("PSNR", *(f"{one.psnr:.1f}" if math.isfinite(one.psnr) else "-" for one in found.seen))
    table.add_row("L1", *(f"{one.l1:.4f}" for one in found.seen))
    return table


def per_cent(value: float) -> str:
    """0.123 as 12.3; NaN as a dash."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def refinement_summary(model: ScoreModel, classes: Sequence[str]) -> str:
    """The model to refine in one line."""
    every = sum(p.numel() for p in model.parameters())
    learn = sum(p.numel() for p in model.parameters() if p.requires_grad)
    read = ", ".join(source.name for source in model.feedback.sources)
    count = f"{every / 1e6:.1f} M parameters, of which {learn / 1e6:.1f} M learn"
    return f"{base_name(model)}, score loop conditioned on {read}, {count}, {len(classes)} classes"


def restoration_summary(model: RestorationModel, classes: Sequence[str]) -> str:
    """The model to train in one line."""
    config = model.feedback.config
    every, own = (sum(p.numel() for p in part.parameters()) for part in (model, model.restorer))
    loop = f"restoration loop, T = {config.steps}" if config.weight else "restoration without feedback"
    count = f"{every / 1e6:.1f} M parameters, of which {own / 1e6:.2g} M restore"
    return f"{base_name(model)}, {loop}, {config.restorer}, {count}, {len(classes)} classes"


def summary(module: FeedbackModule, facts: Facts) -> str:
    """The model in one line."""
    model = module.model
    count = sum(parameter.numel() for parameter in model.parameters())
    loop = f"{model.loop_config.loop} loop, T = {module.steps}" if isinstance(model, FeedbackModel) else "feed-forward"
    name = next(
        (cls.__name__ for cls in type(model).__mro__ if "smp" in cls.__module__ or "segm" in cls.__module__), ""
    )
    return f"{name or type(model).__name__}, {loop}, {count / 1e6:.1f} M parameters, {len(facts.classes)} classes"
