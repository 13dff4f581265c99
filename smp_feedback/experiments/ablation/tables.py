"""An ablation in words and tables: what each part brings, class by class, pass by pass, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from smp_feedback.evaluation.statistics import AHEAD, BEHIND, LEVEL, ONE_SEED, Paired, significance
from smp_feedback.experiments.ablation.results import Ablation, parse
from smp_feedback.experiments.ablation.rows import (
    BALANCED,
    FEEDBACK,
    PLAIN,
    ROWS,
    UNHEARD,
    UNTRAINED,
    WHOLE,
    AblationLine,
)
from smp_feedback.experiments.comparison.conclusion import LITTLE, versus
from smp_feedback.experiments.comparison.results import average
from smp_feedback.experiments.table import NONE, Table, gain_text, number, spread

PASSES = {"score": ("mIoU (%)", 100, 1), "psnr": ("PSNR (dB)", 1, 2), "l1": ("L1 (%)", 100, 2)}
NAMES = {
    PLAIN: "M trained on distorted images",
    UNTRAINED: "M trained on clean images",
    BALANCED: "M alone with class-balanced weights",
}
AGREE = "mean ± standard deviation over seeds (seeds that agree / seeds)"


def summary(results: Mapping[str, Any]) -> list[str]:
    """The answer in a sentence, what each part brought to it, what the seeds can show, and which runs are missing."""
    found = parse(results)
    parts = [_part(found, line) for line in found.lines if line.before is not None]
    parts.append(_told("Feedback that is heard, over unheard", found.gain(FEEDBACK, UNHEARD)))
    seeds = len(found.gain(FEEDBACK, PLAIN).values)
    return [conclusion(results), *filter(None, [_whole(found), *parts]), significance(seeds), *_gaps(found)]


def told(results: Mapping[str, Any]) -> list[str]:
    """The answer, and what is missing for it."""
    return [conclusion(results), *_gaps(parse(results))]


def conclusion(results: Mapping[str, Any]) -> str:
    """One plain sentence: is restoration with feedback ahead of the plain model, on distorted images?

    *Yes* is where the 95 % interval over seeds is above zero (*Yes, by little* is less than half a point), *Not shown*
    where it is on both sides, *Undecided* is one seed. What
    counts is M trained on distorted images under the same loss, cross-entropy: other losses could serve M alone, too.

    Raises:
        InvalidInput: If *results* are no ablation.
    """
    found = parse(results)
    gain = found.gain(FEEDBACK, PLAIN)
    if not gain.values:
        return "Undecided: no seed has scores of restoration with feedback and of M trained on distorted images."
    yes = "Yes" if gain.mean >= LITTLE else "Yes, by little"
    answer = {AHEAD: yes, ONE_SEED: "Undecided", LEVEL: "Not shown"}.get(gain.verdict, "No")
    return (
        f"{answer}: on distorted images and under the same loss, restoration with feedback "
        f"({_miou(found, FEEDBACK)}) is {_against(found, FEEDBACK, PLAIN, UNTRAINED)}."
    )


def tables(results: Mapping[str, Any]) -> dict[str, Table]:
    """Every table that has rows, by name. Scores are the mean over seeds ± their standard deviation (n - 1)."""
    found = parse(results)
    made = {"rows": _rows(found), "classes": _classes(found), "passes": _passes(found), "cost": _cost(found)}
    return {name: table for name, table in made.items() if table.rows}


def _whole(found: Ablation) -> str:
    """All parts together, and whether M alone gains as much by what it can have, too."""
    against = _against(found, WHOLE, PLAIN, UNTRAINED, BALANCED)
    return f"All parts together ({_miou(found, WHOLE)}): {against}." if against else ""


def _miou(found: Ablation, line: AblationLine) -> str:
    return f"mIoU {spread(found.scores(line).values())}"


def _against(found: Ablation, line: AblationLine, *others: AblationLine) -> str:
    gains = {NAMES[other]: found.gain(line, other) for other in others}
    return ", and ".join(versus(name, gain, "mIoU") for name, gain in gains.items() if gain.values)


def _part(found: Ablation, line: AblationLine) -> str:
    assert line.before is not None
    what = ROWS[line.row].says.removeprefix("+ ").removeprefix("(control) ")
    return _told(f"{what[0].upper()}{what[1:]}, over {line.before.row}", found.gain(line, line.before))


def _told(what: str, gain: Paired) -> str:
    """One difference in words; nothing without a seed."""
    if not gain.values:
        return ""
    return f"{what}: {gain_text(gain)}{'' if gain.verdict in (AHEAD, BEHIND) else f': {gain.verdict}'}."


def _gaps(found: Ablation) -> list[str]:
    absent = [
        f"{row}, seed {seed}"
        for row in dict.fromkeys(run.row for run in found.runs)
        for seed in found.seeds
        if not any((run.row, run.seed) == (row, seed) for run in found.runs)
    ]
    return [f"No run of {', '.join(absent)}."] if absent else []


def _rows(found: Ablation) -> Table:
    rows = [
        (
            line.row,
            ROWS[line.row].says,
            line.images,
            spread(found.scores(line).values()),
            *(gain_text(found.gain(line, over)) if over not in (None, line) else NONE for over in _over(line)),
        )
        for line in found.lines
    ]
    columns = ("row", "", "tested on", "mIoU (%)", "over the row before", "over distorted", "over clean, distorted")
    note = (
        f"Differences in points, paired by seed: {AGREE}; ahead or behind where the 95 % interval is "
        "on one side of zero. The last two columns: over M trained on distorted, and on clean images, tested alike."
    )
    return Table("What each part brings", columns, tuple(rows), labels=3, note=note)


def _over(line: AblationLine) -> tuple[AblationLine | None, ...]:
    return line.before, *((None, None) if line.images != PLAIN.images else (PLAIN, UNTRAINED))


def _classes(found: Ablation) -> Table:
    rows = [
        (name, *(spread(found.class_scores(line, i).values()) for line in found.lines))
        for i, name in enumerate(found.classes)
    ]
    rows = [row for row in rows if any(cell != NONE for cell in row[1:])]
    note = (
        f"The mean over the seeds that have the class; {NONE}: absent. Tested on distorted images, but for the first."
    )
    return Table("IoU (%) by class", ("class", *(line.label for line in found.lines)), tuple(rows), note=note)


def _passes(found: Ablation) -> Table:
    shown = [line for line in found.lines if line == PLAIN or ROWS[line.row].restored]
    last = max((found.passes(line) for line in shown), default=0)
    rows = [
        (line.row, title, *(spread(found.scores(line, name, t).values(), scale, digits) for t in range(last)))
        for name, (title, scale, digits) in PASSES.items()
        for line in shown
    ]
    note = (
        "Of pass 0 nothing is fed back. PSNR and L1 are between what M sees and the clean image: of M alone, they say "
        "how distorted the images are."
    )
    columns = ("row", "measure", *(f"pass {t}" for t in range(last)))
    return Table("Pass by pass", columns, tuple(rows), labels=2, note=note)


def _cost(found: Ablation) -> Table:
    rows = []
    for line in dict.fromkeys(AblationLine(line.row) for line in found.lines):
        runs = found.of(line)
        counted = [part for of in ("parameters", "updates", "passes") for part in _whole_numbers(runs, of)]
        seconds = spread((run.seconds for run in runs), scale=1)
        inference = average(run.seconds_per_image for run in runs)
        rows.append((line.row, *counted, seconds, number(1000 * inference, ".1f")))
    pairs = [f"{what} of {network}" for what in ("parameters", "updates", "passes") for network in "MR"]
    note = "Per run; passes are forward passes of a training batch. Every row sees the same batches."
    return Table("What it costs", ("row", *pairs, "training (s)", "ms an image"), tuple(rows), note=note)


def _whole_numbers(runs: Iterable[Any], of: str) -> list[str]:
    every = list(runs)
    return [", ".join(f"{n:,}" for n in sorted({getattr(run, of)[network] for run in every})) for network in "MR"]
