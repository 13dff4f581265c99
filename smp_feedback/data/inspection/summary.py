"""The data of a run in a few lines, before it is trained on: from few masks, and from the heads of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from smp_feedback.data.draws import draws_undone
from smp_feedback.data.files import by
from smp_feedback.data.folder import MaskFolder
from smp_feedback.data.images.reader import ImageReader
from smp_feedback.data.inspection.contract import naming
from smp_feedback.data.inspection.headers import Header, header_of, spread
from smp_feedback.data.inspection.problems import TRAIN, percent, problems_of
from smp_feedback.data.inspection.report import Size, SplitReport
from smp_feedback.data.inspection.tally import ItemTally
from smp_feedback.data.items import files_of, item_name, source
from smp_feedback.data.masks.hints import wrong_labels
from smp_feedback.errors import InvalidInput, InvalidValue

MOST_MASKS, FEWEST = 200, 20  # read from files
MOST_PIXELS = 150_000_000  # of those masks: some seconds
DEEP = "uint16"
MOST_IMAGES = 8  # of more than 8 bits a band, to see whether they are nearly black
MOST_WARNINGS = 10
MOST_ITEMS = 64  # where the whole item has to be read, or drawn, to see its target


def data_summary(splits: Mapping[str, Any]) -> list[str]:
    """What there is, and what to know before training: images, sizes, classes, and a line for each warning.

    All masks are looked at where there are at most 200, fewer of large ones, else as many, evenly apart, which is then
    said; of a dataset that is not read from files, 64 items. Global random numbers end up where they were.
    `check_dataset` looks at all.

    Args:
        splits: Datasets, by the names of their splits.

    Raises:
        InvalidValue: If there are no items.
        InvalidInput: If a mask cannot be used, naming it, or in all of a split every pixel is ignored.

    >>> from smp_feedback.data import Shapes
    >>> for line in data_summary({"train": Shapes(4, size=32), "val": Shapes(2, size=32, split="val")}):
    ...     print(line)
    train: 4 images; val: 2 images
    3 classes, of train's pixels from 6.9 % (polygon) to 78.9 % (background)
    """
    with draws_undone():
        found = {name: _sampled(dataset) for name, dataset in splits.items() if len(dataset)}
        for name, split in found.items():
            if split.looked == len(split.void) and _is_void(splits[name], split):
                raise InvalidInput(
                    f"{name}: every pixel of every mask is ignored ({split.ignore_index}), such as in {split.void[0]}: "
                    "there is nothing to learn from and to score."
                )
    if not found:
        raise InvalidValue("datasets: expected items, found none.")
    lines = ["; ".join(f"{name}: {images_of(split)}" for name, split in found.items())]
    learnt = TRAIN if TRAIN in found else next(iter(found))
    warned = [problem for problem in problems_of(found) if problem.item is None or problem.item in found[learnt].void]
    more = len(warned) - MOST_WARNINGS
    said = [f"warning: {problem}" for problem in warned[:MOST_WARNINGS]]
    said += [f"... and {more} warnings more; smp-feedback check --json has all"] if more > 0 else []
    return [*lines, *_classes_of(learnt, found[learnt]), *said]


def images_of(split: SplitReport) -> str:
    """How many, of what size.

    >>> images_of(SplitReport(items=3, looked=3, stored={(4, 6): 2, (8, 6): 1}))
    '3 images of 4 x 6 to 8 x 6'
    """
    sizes = split.stored or split.sizes
    return f"{split.items} images{f' of {size_range(sizes)}' if sizes else ''}"


def size_range(sizes: Mapping[Size, int]) -> str:
    """One size, or the smallest and the largest."""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return by(ordered[0]) if len(ordered) == 1 else f"{by(ordered[0])} to {by(ordered[-1])}"


def _classes_of(name: str, split: SplitReport) -> Sequence[str]:
    """How uneven the classes are."""
    met = sorted((row for row in split.classes if row.pixels), key=lambda row: row.share)
    if not met:
        return []
    unit = "labels" if split.task == "classification" else "pixels"
    some = "" if split.looked == split.items else f" ({split.looked} of {split.items} looked at)"
    ends = f"from {percent(met[0].share)} ({met[0].name}) to {percent(met[-1].share)} ({met[-1].name})"
    void = f"; {percent(split.ignored)} are ignored ({split.ignore_index})" if split.ignored else ""
    return [f"{len(split.classes)} classes, of {name}'s {unit}{some} {ends}{void}"]


def _sampled(dataset: Any) -> SplitReport:
    """What some of the masks, and the heads of the files, say."""
    tally, reader = ItemTally(dataset), _reader(dataset)
    heads = Counter[Size]()
    kinds = Counter[str]()
    deep: list[int] = []
    for i in spread(len(dataset), MOST_ITEMS if reader is None else _enough(header_of(dataset, 0))):
        name = item_name(dataset, i)
        with naming(dataset, i):
            target = torch.as_tensor(dataset[i][1] if reader is None else reader(i)).long()
        if tally.names and (wrong := wrong_labels(target, 2 if tally.multilabel else len(tally.names), tally.ignored)):
            raise InvalidInput(f"{name}: {wrong}")
        tally.add_target(name, target)
        if (head := header_of(dataset, i)) is not None:
            heads[head.size] += 1
            kinds[str(head)] += 1
            deep += [i] if head.kind == DEEP else []
    report = tally.report(stored=dict(heads.most_common()), kinds=dict(kinds.most_common()))
    return report if report.measured or not deep else _measured(dataset, report, deep)


def _measured(dataset: Any, report: SplitReport, deep: Sequence[int]) -> SplitReport:
    """*report* with the range of a few images that may hold fewer bits than their files: as read, unaugmented."""
    reader = getattr(source(dataset, 0)[0], "images", None)
    if not isinstance(reader, ImageReader):
        return report
    images = [reader.read(files_of(dataset, deep[k])[0]) for k in spread(len(deep), MOST_IMAGES)]
    low, high = min(float(image.min()) for image in images), max(float(image.max()) for image in images)
    return replace(report, measured=len(images), low=low, high=high)


def _is_void(dataset: Any, report: SplitReport) -> bool:
    """Whether no item has a pixel that counts; those that a sample has left out are looked at, up to the first."""
    if report.looked == report.items:
        return True
    reader = _reader(dataset)
    targets = (dataset[i][1] if reader is None else reader(i) for i in range(len(dataset)))
    return all(bool(torch.as_tensor(target).eq(report.ignore_index or 0).all()) for target in targets)


def _enough(first: Header | None) -> int:
    """How many masks are looked at where images are as large as the *first*.

    >>> _enough(Header((480, 640), 3, "uint8")), _enough(Header((1024, 2048), 3, "uint8"))
    (200, 71)
    """
    pixels = 1 if first is None else first.size[0] * first.size[1]
    return max(FEWEST, min(MOST_MASKS, MOST_PIXELS // pixels))


def _reader(dataset: Any) -> Callable[[int], Tensor] | None:
    """What reads the mask of an item alone; None where only the whole item can be had."""
    base, _ = source(dataset, 0)
    if not isinstance(base, MaskFolder):
        return None

    def read(index: int) -> Tensor:
        files = files_of(dataset, index)
        mask = base.labels(files[1]) if files[1:] else dataset[index][1]  # a frame without a mask
        return mask if mask.numel() else dataset[index][1]  # one file a class, and of none of them: the image's size

    return read
