"""What is wrong with the data of a run, worst first, from what a look at its items found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from smp_feedback.data.files import some
from smp_feedback.data.inspection.report import ERROR, WARNING, ClassFacts, Problem, Size, SplitReport
from smp_feedback.data.one_size import several_sizes

TRAIN = "train"
RARE = 1e-3  # share of the pixels below which a class is hardly met
DARK = 0.25  # of the range: a picture whose brightest value is below is nearly black
MUCH = 1e-2  # ignored share from which on it may be a class that has no pixel

VOID = ("void", "ignore", "ignored", "unlabeled", "unlabelled", "unknown")  # names of what is meant to be ignored

Splits = Mapping[str, SplitReport]


def problems_of(splits: Splits, *, batch_size: int | None = None, crop: int | None = None) -> tuple[Problem, ...]:
    """All problems of *splits*, errors first, those that spoil most first among both.

    Args:
        splits: What was found; where none is called ``train``, each is taken for one that is trained on.
        batch_size: Images per step; None does not say, 1 takes images of any size.
        crop: Side of the windows that training shows; None shows whole images.
    """
    learnt = [name for name in splits if name == TRAIN] or list(splits)
    found: list[Problem] = []
    for name, split in splits.items():
        found += _items(name, split)
        found += _channels(name, split)
        if name in learnt:
            found += [*_sizes(name, split, batch_size, crop), *_few(name, split, batch_size), *_labels(name, split)]
        found += [
            *_classes(name, split, splits, name in learnt),
            *_files(name, split),
            *_turned(name, split),
            *_values(name, split),
        ]
    return worst_first([*found, *_kinds(splits)])


def worst_first(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Errors before warnings, otherwise as they come."""
    return tuple(sorted(problems, key=lambda problem: problem.severity != ERROR))


def _items(name: str, split: SplitReport) -> Iterator[Problem]:
    for item, words in split.unusable:
        yield Problem(severity=ERROR, split=name, item=item, words=words)
    label = split.ignore_index
    if split.looked and len(split.void) == split.looked:
        words = f"every pixel of every mask is ignored ({label}): there is nothing to learn from and to score"
        yield Problem(severity=ERROR, split=name, item=split.void[0], words=f"{words}.")
    elif split.void:
        words = f"every pixel is ignored ({label}) in {_count(len(split.void), split.looked)} ({some(split.void)})"
        yield Problem(severity=WARNING, split=name, item=split.void[0], words=f"{words}.")


def shown(sizes: Mapping[Size, str], crop: int | None) -> dict[Size, str]:
    """*sizes* as training shows them in windows of *crop* pixels a side, each with an item of it.

    >>> shown({(4, 6): "a.png", (8, 6): "b.png", (2, 9): "c.png"}, 4)
    {(4, 4): 'a.png', (2, 4): 'c.png'}
    """
    found: dict[Size, str] = {}
    for (height, width), item in sizes.items():
        found.setdefault((height, width) if crop is None else (min(height, crop), min(width, crop)), item)
    return found


def _sizes(name: str, split: SplitReport, batch_size: int | None, crop: int | None) -> Iterator[Problem]:
    sizes = shown(split.examples, crop)
    if len(sizes) > 1 and batch_size != 1:
        first, *_, last = sorted(sizes.items())
        severity = WARNING if batch_size is None else ERROR
        yield Problem(severity=severity, split=name, item=last[1], words=several_sizes(first, last))


def _channels(name: str, split: SplitReport) -> Iterator[Problem]:
    """A model takes one number of channels."""
    if len(split.of_channels) > 1:
        several = [f"{channels} ({item})" for channels, item in sorted(split.of_channels.items())]
        words = f"images have other numbers of channels, such as {' and '.join(several)}, and a model takes one"
        item = list(split.of_channels.values())[-1]
        yield Problem(severity=ERROR, split=name, item=item, words=f"{words}: data.bands chooses the same of each.")


def _kinds(splits: Splits) -> Iterator[Problem]:
    """Each dtype has a range of its own, by which its files are read."""
    where: dict[str, list[str]] = {}
    for name, split in splits.items():
        for kind in dict.fromkeys(kind.rpartition(" ")[2] for kind in split.kinds):
            where.setdefault(kind, []).append(name)
    if len(where) > 1:
        found = " and ".join(f"{kind} (in {', '.join(names)})" for kind, names in where.items())
        words = f"files are of {found}, each read over the range of its own dtype: see that both are equally bright"
        yield Problem(severity=WARNING, split=None, item=None, words=f"{words}, or save them as one.")


def _few(name: str, split: SplitReport, batch_size: int | None) -> Iterator[Problem]:
    if batch_size is not None and split.items < batch_size:
        words = f"{split.items} images make no batch of {batch_size}: set data.batch_size to {split.items} or less."
        yield Problem(severity=ERROR, split=name, item=None, words=words)


def _classes(name: str, split: SplitReport, splits: Splits, learnt: bool) -> Iterator[Problem]:
    rows = [row for k, row in enumerate(split.classes) if k != split.ignore_index]
    absent = [row for row in rows if not row.pixels]
    if len(split.void) == split.looked or len(rows) < 2 or _nowhere(split):
        return
    if learnt and len(rows) - len(absent) == 1 and split.task != "multilabel":
        only = next(row.name for row in rows if row.pixels)
        words = f"every {_unit(split)} that counts is {only!r}, so that there is nothing to learn"
        yield Problem(severity=ERROR, split=name, item=None, words=f"{words}.")
    for row in absent:
        if learnt or _met(splits.get(TRAIN), row.name):  # of what is never learnt, that is said
            words = _absent(row, split, splits) if learnt else _unscored(row, split)
            yield Problem(severity=WARNING, split=name, item=None, words=words)
    for row in rows if learnt else ():
        if 0 < row.share < RARE:
            words = f"{row.name!r} has {percent(row.share)} of the {_unit(split)}s, in {_images(row, split)}"
            yield Problem(severity=WARNING, split=name, item=None, words=f"{words}: it is hardly learnt unweighted.")


def _labels(name: str, split: SplitReport) -> Iterator[Problem]:
    """What of the labels is probably not meant: a class that is ignored, or, of one file a class, that none is."""
    label = split.ignore_index
    if label is not None and 0 <= label < len(split.classes) and split.task != "multilabel":
        row = split.classes[label]
        if row.name.lower() not in VOID:
            words = f"{row.name!r} is label {label}, and data.ignore_index is {label}: it is neither learnt nor scored."
            yield Problem(severity=WARNING, split=name, item=None, words=words)
    if _nowhere(split) and len(split.void) < split.looked:
        words = f"no mask has a pixel of any class{_of_some(split)}: there is nothing to learn.{_present(split)}"
        yield Problem(severity=ERROR, split=name, item=None, words=words)


def _nowhere(split: SplitReport) -> bool:
    """Whether masks of one file a class have none of any class."""
    return split.task == "multilabel" and bool(split.classes) and not any(row.pixels for row in split.classes)


def _met(split: SplitReport | None, name: str) -> bool:
    """Whether *split* has a class of that name somewhere."""
    return split is not None and any(row.name == name and row.pixels for row in split.classes)


def _unscored(row: ClassFacts, split: SplitReport) -> str:
    return f"{row.name!r} has no {_unit(split)}{_of_some(split)}: it is never scored."


def _of_some(split: SplitReport) -> str:
    return "" if split.looked == split.items else f" ({split.looked} of {split.items} masks looked at)"


def _absent(row: ClassFacts, split: SplitReport, splits: Splits) -> str:
    """A class without a pixel: how that matters, and what may be behind it."""
    no = f"{row.name!r} has no {_unit(split)}{_of_some(split)}"
    elsewhere = [other for other, one in splits.items() if _met(one, row.name)]
    also = f", though it has in {' and '.join(elsewhere)}" if elsewhere else ""
    if split.ignored < MUCH or split.task != "segmentation" or split.ignore_index is None:
        return f"{no}{also}: it is never learnt.{_present(split)}"
    label, k = split.ignore_index, [one.name for one in split.classes].index(row.name)
    return (
        f"{no}{also}: it is never learnt. {percent(split.ignored)} of the pixels are ignored ({label}): if {label} "
        f"means {row.name!r}, set data.values: {{{label}: {k}}}."
    )


def _present(split: SplitReport) -> str:
    """Of one file a class: the ignored value may be what stands for the class."""
    if split.task != "multilabel" or split.ignored < MUCH or split.ignore_index is None:
        return ""
    label = split.ignore_index
    return (
        f" {percent(split.ignored)} of the pixels are ignored ({label}): if {label} means that the class is there, set "
        f"data.values: {{{label}: 1}}."
    )


def _files(name: str, split: SplitReport) -> Iterator[Problem]:
    if split.left_out:
        one = len(split.left_out) == 1
        lie = "file is left out, which lies" if one else "files are left out, which lie"
        words = f"{len(split.left_out)} {lie} beside those that are read"
        names = some([str(path) for path in split.left_out])
        yield Problem(severity=WARNING, split=name, item=split.left_out[0], words=f"{words} ({names}).")


def _turned(name: str, split: SplitReport) -> Iterator[Problem]:
    if split.turned and split.task != "classification":
        words = f"{_count(len(split.turned), split.looked)} are turned or mirrored as their EXIF orientation says"
        also = f"({some(split.turned)}): see that their masks were drawn on them as they are seen, not as stored."
        yield Problem(severity=WARNING, split=name, item=split.turned[0], words=f"{words} {also}")


def _values(name: str, split: SplitReport) -> Iterator[Problem]:
    if split.constant:
        words = f"the image is of one value in {_count(len(split.constant), split.looked)} ({some(split.constant)})"
        yield Problem(severity=WARNING, split=name, item=split.constant[0], words=f"{words}.")
    if split.high is not None and split.high < DARK and len(split.constant) < split.looked:
        wide = any("uint16" in kind for kind in split.kinds)
        range_ = f"[0, {round(split.high * 65535)}]" if wide else "[low, high]"
        of = " of what 16 bits hold" if wide else ""
        some_ = "" if split.measured in (0, split.items) else f" ({split.measured} of {split.items} looked at)"
        words = f"the largest value of its images{some_} is {split.high:.2g}{of}, nearly black"
        yield Problem(
            severity=WARNING, split=name, item=None, words=f"{words}: set data.scale: {range_}, or percentile."
        )


def percent(share: float) -> str:
    """A share in per cent, with as many digits as say something.

    >>> percent(0.25), percent(0.00034), percent(0.0000001), percent(1.0), percent(0.0)
    ('25.0 %', '0.034 %', '0.00001 %', '100.0 %', '0 %')
    """
    hundred = 100 * share
    if not hundred:
        return "0 %"
    if hundred >= 1:
        return f"{hundred:.1f} %"
    return f"{hundred:.2g} %" if hundred >= 1e-4 else f"{hundred:.5f} %"


def _unit(split: SplitReport) -> str:
    return "image" if split.task == "classification" else "pixel"


def _count(some: int, all: int) -> str:
    return f"{some} of {all} images"


def _images(row: ClassFacts, split: SplitReport) -> str:
    return _count(row.images, split.looked)
