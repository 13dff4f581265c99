"""A comparison at several sizes: its table, and in words which twin the loop beats at which size, and which not."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from smp_feedback.evaluation.statistics import Paired
from smp_feedback.experiments.comparison.results import (
    FEEDBACK,
    SOLVED,
    TWINS,
    Comparison,
    ComparisonRun,
    Size,
    SizeTable,
    average,
)
from smp_feedback.experiments.table import NONE, Table, number, spread

BEATEN, NOT_SHOWN, AHEAD, ONE_SEED = "beaten", "not shown", "ahead", "one seed"
WORDS = {BEATEN: "beaten", NOT_SHOWN: "not shown to be beaten", AHEAD: "ahead of feedback"}
MOST_LOOKS = 4  # rows of the loop in the table; the figure has all
INFERENCE = ("equal-inference", "equal-inference-3x")


class Gain(NamedTuple):
    """Feedback, after the most looks, against a twin at one size."""

    twin: str
    size: Size
    gain: Paired

    @property
    def verdict(self) -> str:
        """Whether the twin is beaten: the 95 % interval over seeds is above zero; ``ahead``: below; else not shown."""
        low, high = self.gain.interval
        if not math.isfinite(low):
            return ONE_SEED
        return BEATEN if low > 0 else AHEAD if high < 0 else NOT_SHOWN

    @property
    def beaten(self) -> bool:
        """Whether the twin is beaten, or, with one seed, has less."""
        return self.verdict == BEATEN or (self.verdict == ONE_SEED and self.gain.mean > 0)

    @property
    def better(self) -> bool:
        """Whether the twin is ahead, or, with one seed, has more."""
        return self.verdict == AHEAD or (self.verdict == ONE_SEED and self.gain.mean < 0)


def gains(table: SizeTable) -> list[Gain]:
    """Every twin at every size that the loop and it were scored at, over the seeds that both have."""
    looks = max((t for model, t in table if model == FEEDBACK), default=0)
    own, found = table.get((FEEDBACK, looks), {}), []
    for twin, size in ((twin, size) for twin in TWINS for size in own):
        theirs = table.get((twin, 1), {}).get(size, {})
        seeds = sorted(own[size].keys() & theirs.keys())
        if seeds:
            found.append(Gain(twin, size, Paired(tuple(own[size][seed] - theirs[seed] for seed in seeds))))
    return found


def by_size(found: Comparison) -> Table:
    """A row for each model, for the loop one for each number of looks; a column for each size."""
    several = len(found.groups) > 1
    rows = []
    for train, images in found.groups:
        table = found.at_sizes(train, images)
        for model, looks in _few(table):
            runs = [run for run in found.runs if (run.model, run.train, run.images) == (model, train, images)]
            cells = [_cell(table[model, looks].get(size, {}).values()) for size in found.sizes]
            where = (train, str(images)) if several else ()
            rows.append((*where, _named(model, looks), *costs(runs, looks), *cells))
    columns = (*(("trained on", "images") if several else ()), "model", "params", "MACs", "passes")
    title = found.measure if found.measure == "mIoU" else found.measure.capitalize()
    columns = (*columns, *map(said, found.sizes))
    return Table(f"{title} (%) by size of the test images", columns, tuple(rows), labels=3 if several else 1)


def _cell(values: Collection[float]) -> str:
    """Narrow: a table of four sizes is to fit a console."""
    return spread(values, digits=0 if len(values) > 1 else 1).replace(" ", "")


def differences(found: Comparison) -> Table:
    """Feedback after the most looks against each twin at each size, with intervals over seeds."""
    rows = []
    for train, images in found.groups:
        for one in gains(found.at_sizes(train, images)):
            low, high = (number(100 * end, "+.1f") for end in one.gain.interval)
            mean, interval = f"{100 * one.gain.mean:+.1f}", f"{low} to {high}" if low != NONE else NONE
            rows.append((train, str(images), one.twin, said(one.size), mean, interval, one.verdict))
    columns = ("trained on", "images", "twin", "size", "difference", "95 % interval", "the twin is")
    note = (
        f"Points of {found.measure}, feedback after the most looks - twin. MACs are multiply-adds for an image as in "
        "training; passes are forward passes of the base in training, each with its backward pass."
    )
    return Table("Feedback against its twins, size by size", columns, tuple(rows), labels=4, note=note)


def conclusion(found: Comparison) -> str:
    """At which sizes the loop beats every twin, after the most looks; where not, which twin it is."""
    parts = []
    for train, images in found.groups:
        table = found.at_sizes(train, images)
        where = f"{train}, {images} images: " if len(found.groups) > 1 else ""
        parts.append(f"{where}{_conclusion(found, gains(table), max((t for _, t in table), default=0))}")
    return " ".join(parts)


def _conclusion(found: Comparison, every: Sequence[Gain], looks: int) -> str:
    if not every:
        return "Undecided: no seed has scores of the feedback model and of a twin at the same size."
    by_size = {size: [one for one in every if one.size == size] for size in dict.fromkeys(one.size for one in every)}
    best = [size for size, here in by_size.items() if all(one.beaten for one in here)]
    what = "solves more images" if found.measure == SOLVED else f"has more {found.measure}"
    more = f"after {looks} looks feedback {what} than {joined(dict.fromkeys(one.twin for one in every))}"
    but = [part for size, here in by_size.items() if size not in best for part in _unbeaten(here)]
    if any(one.verdict == ONE_SEED for one in every):
        answer, but = "One seed, which shows no spread", [part.replace(" that is not shown", " not") for part in but]
    else:
        answer = "Yes" if best else "No" if any(one.better for one in every) else "Not shown"
    if not best:
        but = [part for size, here in by_size.items() for part in _ahead(here)]
        return "; ".join([f"{answer}: at no size is it shown that {more}", *but]) + "."
    return "; ".join([f"{answer}: at {joined(map(said, best))} {more}", *but]) + "."


def _unbeaten(here: Sequence[Gain]) -> Iterator[str]:
    """Against which twins of one size nothing is shown, and which do better."""
    if level := [one.twin for one in here if not one.beaten and not one.better]:
        yield f"at {said(here[0].size)} that is not shown against {joined(level)}"
    yield from _ahead(here)


def _ahead(here: Sequence[Gain]) -> Iterator[str]:
    if better := [one.twin for one in here if one.better]:
        yield f"at {said(here[0].size)} {joined(better)} {'is' if len(better) == 1 else 'are'} ahead of feedback"


def against(found: Comparison) -> Iterator[str]:
    """A sentence for each twin: where it is beaten, where that is not shown, and where it is ahead."""
    for train, images in found.groups:
        every = gains(found.at_sizes(train, images))
        where = f"{train}, {images} images, " if len(found.groups) > 1 else ""
        for twin in dict.fromkeys(one.twin for one in every):
            own = [one for one in every if one.twin == twin]
            parts = [_part(word, [one for one in own if one.verdict == word]) for word in WORDS]
            if any(parts):
                yield f"{where}{twin}: {'; '.join(filter(None, parts))}."
    if not {*INFERENCE} & {*found.models}:
        absent = joined(INFERENCE)
        yield f"Not compared: {absent}, deeper models of as many multiply-adds as all looks, which may do as well."


def _part(word: str, own: Sequence[Gain]) -> str:
    if not own:
        return ""
    points = joined(f"{100 * one.gain.mean:+.1f}" for one in own)
    return f"{WORDS[word]} at {joined(said(one.size) for one in own)} ({points} points)"


def said(size: Size) -> str:
    """A size in words.

    >>> said(21), said((96, 128))
    ('21', '96 x 128')
    """
    return str(size) if isinstance(size, int) else f"{size[0]} x {size[1]}"


def joined(parts: Iterable[str]) -> str:
    """*parts* with commas, and an ``and``.

    >>> joined(["5", "9", "13"]), joined(["5"])
    ('5, 9 and 13', '5')
    """
    every = [*parts]
    return " and ".join([", ".join(every[:-1]), every[-1]] if len(every) > 1 else every)


def _few(table: SizeTable) -> list[tuple[str, int]]:
    """The rows to show: of the loop the fewest and the most looks, and some between."""
    looks = [t for model, t in table if model == FEEDBACK]
    last = min(len(looks), MOST_LOOKS) - 1
    kept = {looks[round(i * (len(looks) - 1) / max(1, last))] for i in range(last + 1)}
    return [(model, t) for model, t in table if model != FEEDBACK or t in kept]


def _named(model: str, looks: int) -> str:
    return f"{model} {looks} look{'s' * (looks > 1)}" if model == FEEDBACK else model


def costs(runs: Sequence[ComparisonRun], looks: int) -> tuple[str, str, str]:
    """Weights, multiply-adds for an image after *looks* looks, and passes in training."""
    macs = average(run.macs_after(looks) for run in runs)
    return short(average(run.parameters for run in runs)), short(macs), short(average(run.passes for run in runs))


def short(value: float) -> str:
    """A count to three digits.

    >>> short(29339), short(5.47e7), short(800), short(1.5e9), short(12_800)
    ('29.3k', '54.7M', '800', '1.5G', '12.8k')
    """
    if not math.isfinite(value):
        return NONE
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}" if value < 1000 * unit else f"{value / unit:,.0f}{name}"
    return f"{value:.0f}"
