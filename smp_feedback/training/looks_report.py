"""What each look is worth, said when a run ends: its score, and how much the later looks change at all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from smp_feedback.data.batch import pair_of
from smp_feedback.data.feeding import feeding
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.ops.reading import CLASSIFICATION, SEGMENTATION, labels_of
from smp_feedback.surgery.extension import evaluating
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.film_parts import Ongoing, ongoing_in
from smp_feedback.training.metric import ACCURACY, LookMetric
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.repair import RepairModule

NOTHING = 0.001
"""Share of labels below which the later looks are said to change nothing."""
MOST = 6
"""Looks that a line, or a table, of 80 columns holds."""


class Looks(NamedTuple):
    """What the looks of a model say of some images.

    Attributes:
        name: Of the score, ``miou`` or ``accuracy``.
        scores: Of each look (T,), in [0, 1].
        changed: Share of the labels that are others in look t + 2 than in the first (T - 1,), in [0, 1].
        task: What is labelled.
    """

    name: str
    scores: tuple[float, ...]
    changed: tuple[float, ...]
    task: str


def looks_report(module: Any, data: PairsModule) -> list[str]:
    """The lines that a run of *module* ends with; none of a model with one look, or without validation images.

    One pass over the validation images of *data*, where training left the module's trainer, and none while it trained;
    in this process alone, as others that trained with it may have ended.
    """
    if not isinstance(module, FeedbackModule) or not data.val:
        return []
    if data.clip is not None and isinstance(module.opened, FeedbackModel):
        found = measured(module, data)
        return [] if found is None else film_lines(found)
    if module.steps < 2:
        return []
    looks = measured(module, data)
    return [] if looks is None else report_lines(looks, own_rate=not isinstance(module, RepairModule))


def few_looks(count: int) -> list[int]:
    """The looks to show of *count*, from 1: all of a few, else the first, the last, and halves of it.

    >>> few_looks(4), few_looks(32), few_looks(100)
    ([1, 2, 3, 4], [1, 2, 4, 8, 16, 32], [1, 6, 12, 25, 50, 100])
    """
    if count <= MOST:
        return [*range(1, count + 1)]
    return sorted({1, *(count >> i for i in range(MOST - 1))} - {0})


def report_lines(looks: Looks, *, own_rate: bool = True) -> list[str]:
    """*looks* in words; *own_rate* says whether the loop may have a learning rate of its own.

    >>> for line in report_lines(Looks("miou", (0.612, 0.619, 0.62), (0.021, 0.034), "segmentation")):
    ...     print(line)
    looks 1-3: 61.2 61.9 62.0 mIoU
    looks 2-3 change 3.4 % of the pixels
    >>> print(report_lines(Looks("miou", (0.5,) * 9, (0.1,) * 8, "segmentation"))[0])
    looks 1, 2, 4, 9: 50.0 50.0 50.0 50.0 mIoU
    """
    count, most = len(looks.scores), 100 * max(looks.changed)
    unit = "accuracy" if looks.name == ACCURACY else "mIoU"
    later = "look 2 changes" if count == 2 else f"looks 2-{count} change"
    of = "images' labels" if looks.task == CLASSIFICATION else "pixels"
    shown = few_looks(count)
    named = f"1-{count}" if len(shown) == count else ", ".join(map(str, shown))
    lines = [f"looks {named}: {' '.join(f'{100 * looks.scores[t - 1]:.1f}' for t in shown)} {unit}"]
    return [*lines, f"{later} {most:.2g} % of the {of}{_unused(looks, own_rate=own_rate)}"]


def film_lines(looks: Looks) -> list[str]:
    """*looks*, of which the first is at each frame on its own and the second goes on from the frame before, in words.

    >>> for line in film_lines(Looks("miou", (0.612, 0.701), (0.134,), "segmentation")):
    ...     print(line)
    frames on their own: 61.2 mIoU; one look a frame, carried on: 70.1 mIoU
    what is carried on changes 13 % of the pixels
    """
    unit = "accuracy" if looks.name == ACCURACY else "mIoU"
    alone, carried = (f"{100 * score:.1f} {unit}" for score in looks.scores)
    of = "frames' labels" if looks.task == CLASSIFICATION else "pixels"
    said = f"what is carried on changes {100 * looks.changed[0]:.2g} % of the {of}"
    return [f"frames on their own: {alone}; one look a frame, carried on: {carried}", said + _unused(looks)]


def _unused(looks: Looks, *, own_rate: bool = True) -> str:
    if max(looks.changed) >= NOTHING:
        return ""
    if not own_rate:
        return ": looking longer is hardly used"
    return ": the loop is hardly used; a rate of its own (--model.feedback_lr) lets what it added learn faster"


def measured(module: FeedbackModule, data: PairsModule) -> Looks | None:
    """Score every look of *module* on the validation images, and count the labels that differ from the first look's.

    Args:
        module: Trained; left where it was.
        data: With validation images; as many batches count as its trainer, if it has one, was told to validate on.

    Returns:
        None if that is none.
    """
    trainer: Any = module._trainer
    home, device = module.device, module.device if trainer is None else trainer.strategy.root_device
    module.to(device)
    with evaluating(module.model), torch.inference_mode():
        seen = _of_films(module, data, device) if data.clip is not None else _of_images(module, data, device)
        found = _counted(module, seen, 2 if data.clip is not None else module.steps, device)
    module.to(home)
    return found


def _counted(
    module: FeedbackModule, seen: Iterator[tuple[Iterable[Tensor], Tensor]], count: int, device: torch.device
) -> Looks | None:
    """The scores of the logits of *count* looks at what is *seen*, and the target that each is held to."""
    task = module.task or SEGMENTATION
    how: dict[str, Any] = {"classes": module.classes, "steps": count, "ignore_index": module.ignore_index}
    metric = LookMetric(task, **how, alone=True).to(device)
    moved, labelled = torch.zeros(count, dtype=torch.long, device=device), 0
    for looks, target in seen:
        first = torch.zeros(0)
        for t, logits in enumerate(looks):
            labels = labels_of(logits, task)
            first = labels if t == 0 else first
            moved[t] += (labels != first).sum()
            metric.update(t, logits, target)
        labelled += first.numel()
    if not labelled:
        return None
    scored = metric.scored()
    return Looks(scored.name, tuple(scored.looks.tolist()), tuple((moved[1:] / labelled).tolist()), task)


def _of_images(module: FeedbackModule, data: PairsModule, device: torch.device) -> Iterator[tuple[Any, Tensor]]:
    for image, target, _ in _batches(module, data, device):
        yield module.looks(image), target


def _of_films(module: FeedbackModule, data: PairsModule, device: torch.device) -> Iterator[tuple[Any, Tensor]]:
    """Of each frame what it says on its own, and what the frames before it lead to."""
    for films, target, ongoing in _batches(module, data, device):
        for t, carried in enumerate(module.frames(films, ongoing)):
            yield (cast(FeedbackModel, module.opened).look(films[:, t]).logits, carried), target[:, t]


def _batches(
    module: FeedbackModule, data: PairsModule, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Ongoing]]:
    """Images, targets, and the films that they go on with."""
    trainer: Any = module._trainer
    most = trainer.world_size * sum(trainer.num_val_batches) if trainer is not None else math.inf
    feed, loader = feeding(module.model, data.val), data.whole_val_dataloader()
    for batch in itertools.islice(loader, None if math.isinf(most) else int(most)):
        image, target = pair_of(batch, module.task)
        yield feed(image.to(device)), target.to(device), ongoing_in(batch)
