"""What a look at the data found, on one screen: splits, classes, the worst problems, and whether it will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from smp_feedback.cli.tables import say
from smp_feedback.data.inspection.problems import percent
from smp_feedback.data.inspection.report import ClassFacts, DataReport, SplitReport
from smp_feedback.data.inspection.summary import size_range

WORST = 10  # problems that are shown
ENDS = 15  # of many classes, the rarest and the most frequent that are shown
NUMBERS = ("images", "all\nvoid", "left\nout")


def show(report: DataReport) -> None:
    """Print *report*: tables that fold what is long, so that nothing is cut off, and problems as lines to copy."""
    console = Console()
    console.print(splits_table(report.splits))
    if any(split.classes for split in report.splits.values()):
        console.print(classes_table(report.splits))
    worst = report.problems[:WORST]
    for problem in worst:
        say(f"{problem.severity}: {problem}")
    if len(report.problems) > len(worst):
        say(f"... and {len(report.problems) - len(worst)} more; --json has all.")


def verdict(report: DataReport) -> str:
    """Whether a model can be trained on it, in a line.

    >>> verdict(DataReport(splits={}))
    'ready to train'
    """
    errors, warnings = len(report.errors), len(report.problems) - len(report.errors)
    also = _number(warnings, "warning") if warnings else ""
    if errors:
        return f"{_number(errors, 'error')}{f', {also}' if also else ''}: not ready to train"
    return f"ready to train{f', with {also}' if also else ''}"


def splits_table(splits: Mapping[str, SplitReport]) -> Table:
    """One row a split: how many images, of what sizes and kinds, and what lies beside them.

    >>> table = splits_table({"val": SplitReport(items=3, looked=3, sizes={(4, 6): 3}, low=0.0, high=0.5)})
    >>> [list(column.cells)[0] for column in table.columns]
    ['val', '3', '4 x 6', '', '0 to 0.5', '-', '-']
    """
    table = Table(title="splits")
    for head in ("split", "images", "H x W", "bands\nx dtype", "values", *NUMBERS[1:]):
        table.add_column(head, overflow="fold", justify="right" if head in NUMBERS else "left")
    for name, split in splits.items():
        sizes, kinds = split.stored or split.sizes, ", ".join(split.kinds) or ", ".join(map(str, split.channels))
        values = "" if split.low is None or split.high is None else f"{split.low:.2g} to {split.high:.2g}"
        counts = (str(len(many)) if many else "-" for many in (split.void, split.left_out))
        table.add_row(name, str(split.items), size_range(sizes) if sizes else "", kinds, values, *counts)
    return table


def classes_table(splits: Mapping[str, SplitReport]) -> Table:
    r"""One row a class, for each split its share of the pixels that count, and of the images.

    >>> row = ClassFacts(name="tree", pixels=1, images=1, share=0.25, image_share=1.0)
    >>> table = classes_table({"val": SplitReport(items=1, looked=1, classes=(row,))})
    >>> [(column.header, *column.cells) for column in table.columns]
    [('class', 'tree'), ('val\npixels', '25.0'), ('val\nimages', '100.0')]
    """
    labels = {split.task for split in splits.values()} == {"classification"}
    parts = ("images",) if labels else ("pixels", "images")
    table = Table(title="classes", caption="per cent, of the pixels that are not ignored, and of the images")
    table.add_column("class", overflow="fold")
    for name in splits:
        for part in parts:
            table.add_column(f"{name}\n{part}", justify="right", overflow="fold")
    names, hidden = _shown_classes(splits)
    for name in names:
        table.add_row(name, *(cell for split in splits.values() for cell in _cells(split.class_called(name), parts)))
    if hidden:
        table.add_section()
        table.add_row(f"({hidden} more, neither rare nor frequent; --json has all)")
    if any(split.ignored for split in splits.values()):
        table.add_section()
        rest = [""] * (len(parts) - 1)
        table.add_row("(ignored)", *(cell for split in splits.values() for cell in (_share(split.ignored), *rest)))
    return table


def _shown_classes(splits: Mapping[str, SplitReport]) -> tuple[list[str], int]:
    """Classes in their order, of many the rarest and the most frequent of the first split; and how many are left out.

    >>> rows = [ClassFacts(name=str(k), pixels=k, images=1, share=k / 5e3, image_share=1.0) for k in range(100)]
    >>> names, hidden = _shown_classes({"train": SplitReport(items=1, looked=1, classes=tuple(rows))})
    >>> names[0], names[14], names[15], names[-1], hidden
    ('0', '14', '85', '99', 70)
    """
    share: dict[str, float] = {}
    for split in splits.values():
        for row in split.classes:
            share.setdefault(row.name, row.share)
    names = list(share)
    if len(names) <= 2 * ENDS:
        return names, 0
    ordered = sorted(names, key=lambda name: share[name])
    shown = {*ordered[:ENDS], *ordered[-ENDS:]}
    return [name for name in names if name in shown], len(names) - len(shown)


def _cells(row: ClassFacts | None, parts: Sequence[str]) -> list[str]:
    if row is None:
        return [""] * len(parts)
    return [_share(row.share if part == "pixels" else row.image_share) for part in parts]


def _share(share: float) -> str:
    return percent(share).removesuffix(" %") if share else "-"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"
