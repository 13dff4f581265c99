"""How good a model is, look by look: one pass over the data for all models and all numbers of looks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_choice, check_whole
from smp_feedback.data.batch import pair_of
from smp_feedback.data.feeding import Feed, feeding
from smp_feedback.data.items import check_map_style, inherited
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.asking import answers, as_shown, device_of, looks_of
from smp_feedback.evaluation.batches import batches
from smp_feedback.evaluation.by_image import EachImageTally, check_draws
from smp_feedback.evaluation.confusion import Tally
from smp_feedback.evaluation.in_windows import answers_in_windows
from smp_feedback.evaluation.measures import check_measurable, measure_of
from smp_feedback.evaluation.scores import LookScore, LookScores, score_of
from smp_feedback.loops.call import Looks
from smp_feedback.loops.tiling.model import TiledModel
from smp_feedback.models.builder import check_reads_logits
from smp_feedback.ops.reading import MULTILABEL, SEGMENTATION, TASKS
from smp_feedback.surgery.extension import asked_in, evaluating, looping_in

Pairs = Any  # a map-style Dataset of (image, target), or any list of them
Advance = Callable[[], object]
K = TypeVar("K", bound=Hashable)


@dataclass
class _Count:
    """What was counted after some number of looks: the answers, the looks of all images together, and each image."""

    tally: Tally
    looks: Tensor
    images: EachImageTally | None


def evaluate(
    model: nn.Module,
    data: Pairs,
    *,
    classes: int,
    ignore_index: int | None = None,
    task: str | None = None,
    looks: Sequence[Looks] | None = None,
    batch_size: int = 16,
    workers: int = 0,
    images: bool = False,
    bootstrap: int = 0,
    distances: bool = False,
    topology: bool = False,
    advance: Advance = lambda: None,
) -> LookScores:
    """Score *model* on *data*, after each of several numbers of looks, in one pass.

    Mean intersection over union comes from one confusion matrix over all pixels, as torchmetrics'
    ``MulticlassJaccardIndex`` has it; the calibration error is its ``MulticlassCalibrationError``; Dice, precision,
    recall and accuracy are its own, too (``metrics``, ``class_metrics``, see `METRICS`). Nothing is copied from the
    device before the end, and memory does not grow with the data, but for what *images*, *bootstrap*, *distances* and
    *topology* ask for.

    Args:
        model: Maps images (B, C, H, W) to logits (B, classes, H, W), or (B, classes) for classification; of
            ``(masks, labels)`` the one that the task asks for. Evaluated where its weights are; every
            module's mode is left as it was. Of a loop that was compiled, averaged or put on devices, the one inside
            is asked, as that can be opened look by look. In windows (:func:`smp_feedback.tiled`) the logits of all
            *looks* are kept for one batch, and an image took as many looks as the slowest of its windows.
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
            or, with ``dynamics="fractional"``, whose weights know the last step, once for each. Among them may be
            :func:`smp_feedback.until_settled`, for which it runs once more. A feed-forward model has one look,
            whatever is asked.
        batch_size: Images at a time.
        workers: Processes that load data.
        images: Whether to keep what each image is worth, too (``images``, see `Images`).
        bootstrap: How often to draw as many images again, with replacement, for 95 % intervals of every metric
            (``intervals``); 1000 is usual, 40 the least, 0 draws none.
        distances: Whether to measure Hausdorff 95 and average surface distance (``hd95``, ``asd``), which takes MONAI
            (extra ``distances``), and time, on the CPU.
        topology: Whether to measure connectivity (``cldice``, ``betti0_error``, ``betti1_error``, ``breaks``, and the
            numbers of components and loops), which takes scikit-image (extra ``topology``), and time, on the CPU: once
            for each answer that differs from those of the looks before.
        advance: Called after each batch (progress bars).

    Returns:
        One `LookScore` for each number of looks, fewest first; ``mean_looks`` of one says how many images took on
        average.

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
    how |= {"images": images, "bootstrap": bootstrap, "distances": distances, "topology": topology}
    return evaluate_all({"": model}, data, **how)[""]


def evaluate_all(
    models: Mapping[K, nn.Module],
    data: Pairs,
    *,
    classes: int,
    ignore_index: int | None = None,
    task: str | None = None,
    looks: Sequence[Looks] | None = None,
    batch_size: int = 16,
    workers: int = 0,
    images: bool = False,
    bootstrap: int = 0,
    distances: bool = False,
    topology: bool = False,
    advance: Advance = lambda: None,
) -> dict[K, LookScores]:
    """The same for several models: each batch is loaded once and shown to all of them. See `evaluate`."""
    task = _task_of(data, classes, task)
    models = {name: looping_in(model) for name, model in models.items()}
    check_draws(bootstrap)
    check_measurable(task, distances=distances, topology=topology)
    wanted = {name: looks_of(model, looks) for name, model in models.items()}
    if not len(data):
        raise InvalidValue("data is empty: expected at least one pair of image and target.")

    measure = measure_of(classes, ignore_index, task, distances=distances, topology=topology)

    def begun(at: torch.device) -> _Count:
        counted = images or bootstrap or measure is not None
        each = EachImageTally(classes, ignore_index, task, measure) if counted else None
        tally = Tally(classes, ignore_index, at, task, None if each is None else each.add)
        return _Count(tally, torch.zeros((), dtype=torch.long, device=at), each)

    counts = {name: {t: begun(device_of(model)) for t in wanted[name]} for name, model in models.items()}
    for model in models.values():
        check_reads_logits(asked_in(model), "evaluate")
    _show_all(models, data, counts, task, batch_size, workers, advance)

    def scored(one: _Count, looks: Looks) -> LookScore:
        each = None if one.images is None else one.images.images()
        return score_of(one.tally, looks, task, float(one.looks) / len(data), each, bootstrap)

    return {name: LookScores(scored(one, t) for t, one in counts[name].items()) for name in models}


def _task_of(data: Pairs, classes: int, task: str | None) -> str:
    """The task that is told, or that *data* says; its answers tell *classes* classes."""
    check_whole("classes", classes)
    task = str(inherited(data, "task") or SEGMENTATION) if task is None else task
    check_choice("task", task, TASKS)
    if classes < 2 and task != MULTILABEL:
        raise InvalidValue("classes=1: expected >= 2; a mask of one class has two, background and foreground.")
    check_map_style(data, "data")
    return task


def _show_all(
    models: Mapping[K, nn.Module],
    data: Pairs,
    counts: Mapping[K, Mapping[Looks, _Count]],
    task: str,
    batch_size: int,
    workers: int,
    advance: Advance,
) -> None:
    """Show each batch to each of *models*, evaluating, and count what it says."""
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(evaluating(model))
        feeds = {name: feeding(model, data) for name, model in models.items()}
        for batch in batches(data, batch_size, workers):
            image, target = pair_of(batch, task)
            for name, model in models.items():
                _show(model, feeds[name], image, target, counts[name], task)
            advance()


def miou(
    model: nn.Module, data: Pairs, *, classes: int, ignore_index: int | None = None, batch_size: int = 16
) -> float:
    """Mean intersection over union of *model* on *data*, in [0, 1], after its own number of looks; see `evaluate`."""
    return evaluate(model, data, classes=classes, ignore_index=ignore_index, batch_size=batch_size).last.score


@torch.inference_mode()
def _show(
    model: nn.Module, feed: Feed, image: Tensor, target: Tensor, counts: Mapping[Looks, _Count], task: str
) -> None:
    device = device_of(model)
    target = target.to(device, non_blocking=True)
    if isinstance(model, TiledModel):  # each window is brought to the model, and normalised, on its own
        found = answers_in_windows(model, partial(as_shown, model.model, feed), image, list(counts), task, answers)
    else:
        found = answers(model, as_shown(model, feed, image), list(counts), task)
    for t, logits, looks in found:
        counts[t].tally.add(logits.to(device), target)
        counts[t].looks += looks.sum().to(device)
