"""What a run says in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import nn

from smp_feedback.config.clicks import ClickConfig
from smp_feedback.evaluation.clicks import SHOWN, TARGETS, ClickScores
from smp_feedback.evaluation.repair_loop import Repaired
from smp_feedback.evaluation.restoration_loop import RestorationScores
from smp_feedback.evaluation.score_loop import Refined
from smp_feedback.evaluation.scores import LookScore
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.looking import carries
from smp_feedback.loops.repair.model import RepairModel
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.loops.score.model import ScoreModel
from smp_feedback.saving.weights import base_name
from smp_feedback.training.facts import Facts
from smp_feedback.training.looks_report import few_looks
from smp_feedback.training.metric import ACCURACY, Scored
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.run_folder import MODEL


def score_table(scored: Scored, classes: Sequence[str], title: str) -> Table:
    """One row a class, the score, and images solved; one column a look, in per cent; what never came up is left open.

    Of many looks some, so that they fit a console.

    >>> from torch import nan, tensor
    >>> table = score_table(Scored("miou", tensor([0.5]), tensor([[0.5, nan]]), tensor([0.0])), ("sky", "car"), "val")
    >>> [list(column.cells) for column in table.columns]
    [['sky', 'car', 'mIoU', 'solved'], ['50.0', '-', '50.0', '0.0']]
    """
    count = len(scored.looks)
    shown = [t - 1 for t in few_looks(count)]
    heads = [f"look {t + 1}" if count > 1 else "score" for t in shown]
    caption = "per cent" if len(shown) == count else f"per cent; {len(shown)} of {count} looks"
    table = _by_class(title, caption, heads, classes, scored.per_class[shown].tolist())
    table.add_row("accuracy" if scored.name == ACCURACY else "mIoU", *map(per_cent, scored.looks[shown].tolist()))
    if scored.name != ACCURACY:  # of labels it is the same
        table.add_row("solved", *map(per_cent, scored.solved[shown].tolist()))
    return table


def refined_table(refined: Refined, classes: Sequence[str], title: str) -> Table:
    """One row a class, mIoU, accuracy over pixels, images solved, calibration error; one column an answer."""
    updates = f"after at most {refined.steps} updates of step size {refined.step:g}"
    caption = f"per cent; {updates if refined.steps else 'after no update: as before'}"
    return _of_answers(refined.answers, classes, title, caption)


def repaired_table(repaired: Repaired, classes: Sequence[str], title: str) -> Table:
    """As :func:`refined_table`, of the base, of the mask mended by so many looks, and of what was asked for beside."""
    return _of_answers(repaired.answers, classes, title, "per cent; looks are those of the repair loop")


def _of_answers(answers: Mapping[str, LookScore], classes: Sequence[str], title: str, caption: str) -> Table:
    scores = [*answers.values()]
    table = _by_class(title, caption, answers, classes, [score.per_class for score in scores])
    for name, values in (
        ("mIoU", [score.score for score in scores]),
        ("accuracy", [score.accuracy for score in scores]),
        ("solved", [score.solved for score in scores]),
        ("calibration error", [score.ece for score in scores]),
    ):
        table.add_row(name, *map(per_cent, values))
    return table


def restored_table(found: RestorationScores, classes: Sequence[str], title: str) -> Table:
    """One row a class, mIoU, accuracy and images solved, and how close to the clean image; one column an image."""
    caption = "per cent; PSNR in dB and L1 against the clean image, whose values are 0 to 1"
    scores = [one.score for one in found.seen]
    table = _by_class(title, caption, [one.image for one in found.seen], classes, [one.per_class for one in scores])
    table.add_row("mIoU", *(per_cent(score.score) for score in scores))
    table.add_row("accuracy", *(per_cent(score.accuracy) for score in scores))
    table.add_row("solved", *(per_cent(score.solved) for score in scores), end_section=True)
    table.add_row("PSNR", *(f"{one.psnr:.1f}" if math.isfinite(one.psnr) else "-" for one in found.seen))
    table.add_row("L1", *(f"{one.l1:.4f}" for one in found.seen))
    return table


def clicked_table(found: ClickScores, title: str) -> Table:
    """IoU after some numbers of clicks, and clicks to some IoU, with the share of objects that never got there."""
    table = Table(
        "", title=title, caption=f"{len(found.iou)} objects; NoC: mean clicks to an IoU, at most {found.clicks}"
    )
    for head in ("score", "objects that fall short"):
        table.add_column(head, justify="right")
    shown = [k for k in SHOWN if k <= found.clicks]
    for k in ([0] if found.before.any() else []) + shown:
        table.add_row(f"IoU after {k} click{'s' * (k != 1)}", per_cent(found.after(k)), "", end_section=k == shown[-1])
    for target in TARGETS:
        table.add_row(f"NoC {target} %", f"{found.noc(target):.2f}", per_cent(found.failed(target)))
    return table


def _by_class(
    title: str, caption: str, heads: Iterable[str], classes: Sequence[str], scores: Sequence[Sequence[float | None]]
) -> Table:
    """One row a class, in per cent; under each of *heads* one of *scores*."""
    table = Table("class", title=title, caption=caption)
    for head in heads:
        table.add_column(head, justify="right")
    for k, name in enumerate(classes):
        table.add_row(name, *(per_cent(each[k]) for each in scores), end_section=k == len(classes) - 1)
    return table


def per_cent(value: float | None) -> str:
    """0.123 as 12.3; None and NaN as a dash."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def summary(module: FeedbackModule, facts: Facts, *, films: bool = False) -> str:
    """The model in one line; of *films* it has one look a frame."""
    model, looks = module.model, "one look a frame" if films else f"T = {module.steps}"
    loop = f"{model.loop_config.loop} loop, {looks}" if isinstance(model, FeedbackModel) else "feed-forward"
    theirs = (cls.__name__ for cls in type(model).__mro__ if "smp" in cls.__module__ or "segm" in cls.__module__)
    return f"{next(theirs, type(model).__name__)}, {loop}, {_size(model)}, {len(facts.classes)} classes"


def refinement_summary(model: ScoreModel, classes: Sequence[str]) -> str:
    """The model to refine in one line."""
    learn = sum(p.numel() for p in model.parameters() if p.requires_grad)
    read = ", ".join(source.name for source in model.feedback.sources)
    size = f"{_size(model)}, of which {learn / 1e6:.1f} M learn"
    return f"{base_name(model)}, score loop conditioned on {read}, {size}, {len(classes)} classes"


def repair_summary(model: RepairModel, classes: Sequence[str]) -> str:
    """The model to mend in one line."""
    own = sum(p.numel() for p in model.feedback.net.parameters())
    size = f"{_size(model)}, of which {own / 1e3:.1f} k mend"
    return f"{base_name(model)}, repair loop, T = {model.feedback.config.steps}, {size}, {len(classes)} classes"


def restoration_summary(model: RestorationModel, classes: Sequence[str]) -> str:
    """The model to train in one line."""
    config = model.feedback.config
    own = sum(p.numel() for p in model.restorer.parameters())
    loop = f"restoration loop, T = {config.steps}" if config.weight else "restoration without feedback"
    loop += {"feedback": ", carried from frame to frame", "mean": ", carried from frame to frame with a mean"}.get(
        config.carry or "", ""
    )
    size = f"{_size(model)}, of which {own / 1e6:.2g} M restore"
    return f"{base_name(model)}, {loop}, {config.restorer}, {size}, {len(classes)} classes"


def clicking_summary(model: nn.Module, how: ClickConfig) -> str:
    """The model that is to listen in one line."""
    goes_on = "carries its state" if how.carry and carries(model) else "begins anew at each click"
    mask = ", reads the mask before" if how.mask else ""
    return f"{base_name(model)}, {goes_on}{mask}, {how.looks} look{'s' * (how.looks > 1)} a click, {_size(model)}"


def _size(model: nn.Module) -> str:
    count = sum(p.numel() for p in model.parameters())
    return f"{count / 1e6:.1f} M parameters" if count >= 50_000 else f"{count / 1e3:.1f} k parameters"


def tell(folder: Path, more: list[Path], *, few: bool = False) -> None:
    """Print where every file went."""
    there = sorted(path for path in folder.rglob("*") if path.is_file() and folder / MODEL not in path.parents)
    shown = there[:3] if few else there
    for path in [*shown, *more]:
        say(f"wrote {path}")
    if len(there) > len(shown):
        say(f"wrote {len(there)} files in all to {folder}")


def say(line: str) -> None:
    """One line, however long: paths are to be copied."""
    Console().print(line, soft_wrap=True, markup=False, highlight=False)
