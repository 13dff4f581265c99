"""Every item of a dataset, looked at once, before a model learns from it: what is there, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from smp_feedback.data.batch import image_of, target_of
from smp_feedback.data.draws import draws_undone
from smp_feedback.data.inspection.agreement import disagreements
from smp_feedback.data.inspection.contract import naming, read_whole, wrong_image, wrong_target
from smp_feedback.data.inspection.counting import count_classes as count_classes
from smp_feedback.data.inspection.headers import header_of
from smp_feedback.data.inspection.problems import problems_of, worst_first
from smp_feedback.data.inspection.report import ERROR, DataReport, Problem, SplitReport
from smp_feedback.data.inspection.sharing import shared_images
from smp_feedback.data.inspection.tally import ItemTally
from smp_feedback.data.items import check_map_style, inherited, item_name
from smp_feedback.data.progress import progress_bar
from smp_feedback.errors import InvalidInput, InvalidValue

ALONE = "dataset"  # what a dataset that was given alone is called


def check_dataset(
    dataset: Any,
    *,
    progress: Any = False,
    strict: bool = True,
    batch_size: int | None = None,
    crop: int | None = None,
    shared: str = "warn",
) -> DataReport:
    """Touch every item once: what is there, how often each class is, and all that is wrong.

    An item is to be an image, floating point (C, H, W), finite and in [0, 1], with a mask (H, W) or (1, H, W), or a
    label, of whole numbers of any type that are classes or ``ignore_index``; where ``dataset.task`` is ``multilabel``,
    a mask (classes, H, W) of 0 and 1. It is a pair, or a dictionary, as in training. Files that cannot be
    read, sizes that differ and labels out of range are named by
    their file. Augmentation runs, too; global random numbers end up where they were.

    Args:
        dataset: Map-style, or several as ``{"train": ..., "val": ...}``; ``classes``, ``ignore_index``, ``task``,
            ``name(index)``, ``samples`` (the files of each item) and ``left_out`` are used if it has them.
        progress: Whether to show a progress bar (with rich, if that is installed), or the rich console to show it on.
        strict: Whether to raise if an item cannot be used; else that is among the problems.
        batch_size: Images per training step, by which it is an error if sizes differ, or images are too few.
        crop: Side of the windows of them that training shows.
        shared: Of images that two splits have in common: ``warn`` takes one file in both for an error, and equal files,
            or one file of ``test``, for a warning; ``refuse`` both for errors, ``allow`` neither for a problem.

    Returns:
        What was found; ``.problems`` has the worst first, ``.to_dict()`` all as plain values.

    Raises:
        InvalidValue: If there are no items.
        InvalidInput: If *strict* and an item cannot be used; one line per item.

    >>> import torch
    >>> from smp_feedback.data import Shapes
    >>> report = check_dataset(Shapes(4, size=32))
    >>> [(one.name, one.images) for one in report.splits["dataset"].classes]
    [('background', 4), ('polygon', 2), ('circle', 3)]
    >>> check_dataset([(torch.zeros(3, 4, 4), torch.zeros(4, 5).long())])
    Traceback (most recent call last):
    smp_feedback.errors.InvalidInput: 1 of 1 items cannot be used:
    item 0: a target of shape (4, 5), expected (4, 4), as its image, or ().
    """
    splits = dataset if isinstance(dataset, Mapping) else {ALONE: dataset}
    for one in splits.values():
        check_map_style(one, "dataset")
        if not len(one):
            raise InvalidValue("dataset: expected items, found none.")
    console = None if isinstance(progress, bool) else progress
    total = sum(len(one) for one in splits.values())
    bar = progress_bar("checking the dataset", total, wanted=bool(progress), console=console)
    with draws_undone(), bar as advance:
        found = {name: _looked_at(one, advance) for name, one in splits.items()}
    problems = [
        *shared_images(splits, shared),
        *_disagreements(splits),
        *problems_of(found, batch_size=batch_size, crop=crop),
    ]
    report = DataReport(splits=found, problems=worst_first(problems))
    if strict:
        report.raise_unusable()
    return report


def _disagreements(splits: Mapping[str, Any]) -> list[Problem]:
    """Splits that mean different things by a label."""
    found = disagreements(splits)
    return [Problem(severity=ERROR, split=split, item=None, words=words) for split, words in found]


def _looked_at(dataset: Any, advance: Callable[[], None]) -> SplitReport:
    """Every item of one split, and the head of its file."""
    tally = ItemTally(dataset)
    unusable: list[tuple[str, str]] = []
    heads = []
    for i in range(len(dataset)):
        name = item_name(dataset, i)
        if problem := _added(tally, dataset, i, name):
            unusable.append((name, problem))
        heads.append(header_of(dataset, i))
        advance()
    known = [head for head in heads if head is not None]
    return tally.report(
        stored=dict(Counter(head.size for head in known).most_common()),
        kinds=dict(Counter(map(str, known)).most_common()),
        turned=tuple(item_name(dataset, i) for i, head in enumerate(heads) if head is not None and head.turned),
        left_out=tuple(map(str, inherited(dataset, "left_out") or ())),  # type: ignore[call-overload]
        unusable=tuple(unusable),
    )


def _added(tally: ItemTally, dataset: Any, index: int, name: str) -> str | None:
    """What is wrong with an item, or None, after which *tally* has it."""
    try:
        with naming(dataset, index):
            item = dataset[index]
    except InvalidInput as error:
        return str(error)
    try:
        image, target = image_of(item), read_whole(target_of(item), tally.multilabel)
    except InvalidInput as error:
        return f"{name}: {error}"
    count = len(tally.names) or None
    wrong = wrong_image(image) or wrong_target(image, target, count, tally.ignored, multilabel=tally.multilabel)
    if wrong:
        return f"{name}: {wrong}"
    tally.add(name, image, target)
    return None
