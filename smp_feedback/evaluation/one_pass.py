"""How good a model is, look by look: one pass over the data for all models and all numbers of looks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_choice, check_steps, check_whole
from smp_feedback.data.batch import pair_of
from smp_feedback.data.feeding import Feed, feeding
from smp_feedback.data.items import check_map_style, inherited
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.evaluation.batches import batches
from smp_feedback.evaluation.confusion import Tally
from smp_feedback.evaluation.scores import LookScores, score_of
from smp_feedback.loops.base import FeedbackModel, Step
from smp_feedback.models.builder import check_reads_logits
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL, SEGMENTATION, TASKS
from smp_feedback.surgery.extension import evaluating, looping_in

Pairs = Any  # a map-style Dataset of (image, target), or any list of them
Advance = Callable[[], object]
K = TypeVar("K", bound=Hashable)


def evaluate(
    model: nn.Module,
    data: Pairs,
    *,
    classes: int,
    ignore_index: int | None = None,
    task: str | None = None,
    looks: Sequence[int] | None = None,
    batch_size: int = 16,
    workers: int = 0,
    advance: Advance = lambda: None,
) -> LookScores:
    """Score *model* on *data*, after each of several numbers of looks, in one pass.

    Mean intersection over union comes from one confusion matrix over all pixels, as torchmetrics'
    ``MulticlassJaccardIndex`` has it; the calibration error is its ``MulticlassCalibrationError``. Nothing is
    copied from the device before the end, and memory does not grow with the data.

    Args:
        model: Maps images (B, C, H, W) to logits (B, classes, H, W), or (B, classes) for classification; of
            ``(masks, labels)`` the one that the task asks for. Evaluated where its weights are; every
            module's mode is left as it was. Of a loop that was compiled, averaged or put on devices, the one inside
            is asked, as that can be opened look by look.
        data: Map-style pairs of image and target, or dictionaries of ``image`` and ``mask`` or ``label``: labels
            (H, W) or (1, H, W), for ``multilabel`` (classes, H, W) of 0 and 1, or one label; of any type of whole
            numbers.
        classes: Number of classes, >= 2, or >= 1 for ``multilabel``; one channel of logits stands for two classes.
        ignore_index: Label that is not scored.
        task: ``segmentation``, ``multilabel`` or ``classification``; None is what ``data.task`` says, else
            ``segmentation``. In ``multilabel`` each class is a question of yes or no; ``score`` is the mean
            of the classes' intersections over union, as torchmetrics'
            ``MultilabelJaccardIndex`` has it, and all else is taken over pixels and classes.
        looks: Numbers of looks to score, each >= 1; None is the model's own. A loop runs once, to the largest,
            or, with ``dynamics="fractional"``, whose weights know the last step, once for each. A feed-forward
            model has one look, whatever is asked.
        batch_size: Images at a time.
        workers: Processes that load data.
        advance: Called after each batch (progress bars).

    Returns:
        One `LookScore` for each number of looks, fewest first.

    Raises:
        InvalidValue, InvalidType: If an argument is out of its range, before any work.
        InvalidInput: If logits and targets do not fit, images of a batch are of several sizes, or a label is neither a
            class nor ignored.

    >>> data = [(torch.zeros(2, 2, 2), torch.tensor([[0, 0], [1, 1]]))]
    >>> score = evaluate(nn.Identity(), data, classes=2).last  # says class 0 everywhere, as sure as of class 1
    >>> score.score, score.per_class, score.accuracy, score.ece
    (0.25, (0.5, 0.0), 0.5, 0.0)
    """
    how: Any = {"classes": classes, "ignore_index": ignore_index, "task": task, "looks": looks}
    how |= {"batch_size": batch_size, "workers": workers, "advance": advance}
    return evaluate_all({"": model}, data, **how)[""]


def evaluate_all(
    models: Mapping[K, nn.Module],
    data: Pairs,
    *,
    classes: int,
    ignore_index: int | None = None,
    task: str | None = None,
    looks: Sequence[int] | None = None,
    batch_size: int = 16,
    workers: int = 0,
    advance: Advance = lambda: None,
) -> dict[K, LookScores]:
    """The same for several models: each batch is loaded once and shown to all of them. See `evaluate`."""
    check_whole("classes", classes)
    task = str(inherited(data, "task") or SEGMENTATION) if task is None else task
    check_choice("task", task, TASKS)
    if classes < 2 and task != MULTILABEL:
        raise InvalidValue("classes=1: expected >= 2; a mask of one class has two, background and foreground.")
    check_map_style(data, "data")
    models = {name: looping_in(model) for name, model in models.items()}
    wanted = {name: looks_of(model, looks) for name, model in models.items()}
    if not len(data):
        raise InvalidValue("data is empty: expected at least one pair of image and target.")
    tallies = {
        (name, t): Tally(classes, ignore_index, device_of(model), task)
        for name, model in models.items()
        for t in wanted[name]
    }
    for model in models.values():
        check_reads_logits(model, "evaluate")
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(evaluating(model))
        feeds = {name: feeding(model, data) for name, model in models.items()}
        for batch in batches(data, batch_size, workers):
            image, target = pair_of(batch, task)
            for name, model in models.items():
                _show(model, feeds[name], image, target, {t: tallies[name, t] for t in wanted[name]}, task)
            advance()
    return {name: LookScores(score_of(tallies[name, t], t, task) for t in wanted[name]) for name in models}


def miou(
    model: nn.Module, data: Pairs, *, classes: int, ignore_index: int | None = None, batch_size: int = 16
) -> float:
    """Mean intersection over union of *model* on *data*, in [0, 1], after its own number of looks; see `evaluate`."""
    return evaluate(model, data, classes=classes, ignore_index=ignore_index, batch_size=batch_size).last.score


def looks_of(model: nn.Module, looks: Sequence[int] | None) -> tuple[int, ...]:
    """The numbers of looks to score, fewest first.

    >>> looks_of(nn.Identity(), [1, 4])
    (1,)
    """
    if looks is not None:
        if isinstance(looks, int) or not len(looks):
            raise InvalidType(f"looks={looks!r}: expected numbers of looks, such as [1, 2, 4], or None.")
        looks = sorted({check_steps(t) for t in looks})
    if not isinstance(model, FeedbackModel):
        return (1,)
    return (int(cast(Any, model.feedback).steps()),) if looks is None else tuple(looks)


def answers(model: nn.Module, image: Tensor, looks: Sequence[int], task: str) -> Iterator[tuple[int, Tensor]]:
    """The logits after each of *looks* looks; a loop that came to rest before answers as it did last."""
    if not isinstance(model, FeedbackModel):
        yield 1, _chosen(model(image), task)
        return
    if getattr(getattr(model.feedback, "dynamics", None), "knows_the_end", False):
        yield from ((t, _chosen(model(image, steps=t), task)) for t in sorted(looks))
        return
    left = sorted(looks)
    for step in model.iterate(image, steps=left[-1]):
        if step.index + 1 == left[0]:
            yield left.pop(0), _answer(step, task)
    for t in left:
        yield t, _answer(step, task)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are."""
    weight = next(model.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


@torch.inference_mode()
def _show(model: nn.Module, feed: Feed, image: Tensor, target: Tensor, tallies: Mapping[int, Tally], task: str) -> None:
    device = device_of(model)
    target = target.to(device, non_blocking=True)
    shown = feed(image.to(device, non_blocking=True))
    of = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    if len(of) == 1 and shown.is_floating_point():  # a model in half precision takes images of it
        shown = shown.to(of.pop())
    for t, logits in answers(model, shown, list(tallies), task):
        tallies[t].add(logits, target)


def _chosen(answer: Tensor | tuple[Tensor, Tensor], task: str) -> Tensor:
    return answer[task == CLASSIFICATION] if isinstance(answer, tuple) else answer


def _answer(step: Step, task: str) -> Tensor:
    return step.labels if task == CLASSIFICATION and step.labels is not None else step.logits
