"""One table, printed on a console or as Markdown, and what stands in its cells."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from smp_feedback.errors import require
from smp_feedback.evaluation.statistics import LEVEL, Paired

if TYPE_CHECKING:
    from rich.table import Table as RichTable

NONE = "n/a"


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; the first *labels* columns name the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1
    note: str = ""

    def markdown(self) -> str:
        """A heading, the table, and its note."""

        def line(cells: Iterable[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"

        rule = ["---"] * self.labels + ["---:"] * (len(self.columns) - self.labels)
        note = f"\n{self.note}\n" if self.note else ""
        return f"### {self.title}\n\n{line(self.columns)}{line(rule)}{''.join(map(line, self.rows))}{note}"

    def within(self, width: int) -> list[RichTable]:
        """For a console of *width* characters: as one table, or as several of fewer columns where words would be cut.

        Raises:
            MissingExtra: If rich is not installed (extra ``cli``).
        """
        columns = range(len(self.columns))
        widest = [max(map(len, (self.columns[i], *(row[i] for row in self.rows)))) for i in columns]
        if sum(widest) + 3 * len(widest) < width:  # a cell has a space on both sides, and a line
            return [self.rich()]
        labels, narrowest = [*columns[: self.labels]], [self._narrowest(i) for i in columns]
        cells = [max([narrowest[i], *(len(row[i]) for row in self.rows)]) for i in columns]
        for widths in (cells, narrowest):
            if sum(widths) + 2 * len(widths) <= width:  # without lines, two spaces between columns
                return [self.rich(widths)]
        parts: list[list[int]] = []
        for i in columns[self.labels :]:
            taken = [*labels, *(parts[-1] if parts else []), i]
            if not parts or sum(narrowest[k] for k in taken) + 3 * len(taken) >= width:
                parts.append([])
            parts[-1].append(i)
        return [self._only([*labels, *part], last=part is parts[-1])._tight() for part in parts]

    def _only(self, columns: Sequence[int], last: bool) -> Table:
        rows = tuple(tuple(row[i] for i in columns) for row in self.rows)
        names = tuple(self.columns[i] for i in columns)
        return replace(self, columns=names, rows=rows, note=self.note if last else "")

    def _narrowest(self, i: int) -> int:
        """The width of a column at which no word and no ``1.0 ± 0.1`` is cut."""
        words = [
            self.columns[i].split(),
            *(re.split(" (?=\\()" if i >= self.labels else " ", row[i]) for row in self.rows),
        ]
        return max(len(word) for cell in words for word in cell)

    def _tight(self) -> RichTable:
        """With columns as narrow as their words allow."""
        shown = self.rich()
        for i, column in enumerate(shown.columns):
            column.width = self._narrowest(i)
        return shown

    def rich(self, widths: Sequence[int] = ()) -> RichTable:
        """For ``rich.console.Console.print``; with *widths*, of columns, it has no lines between them.

        Raises:
            MissingExtra: If rich is not installed (extra ``cli``).
        """
        require("rich", extra="cli")
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as RichTable
        from rich.text import Text

        shown = RichTable(
            title=Text(self.title) if self.title else None, caption=Text(self.note), caption_justify="left"
        )
        if widths:
            shown.box, shown.pad_edge, shown.collapse_padding = SIMPLE_HEAD, False, True
        for i, column in enumerate(self.columns):
            narrow = widths[i] if widths else None
            shown.add_column(Text(column), justify="left" if i < self.labels else "right", width=narrow)
        for row in self.rows:
            shown.add_row(*map(Text, row))  # Text: a class called [red] is no markup
        return shown


def spread(values: Iterable[float], scale: float = 100, digits: int = 1) -> str:
    """Mean ± standard deviation (n - 1), times *scale*; what is no number is left out.

    >>> spread([0.71, 0.72, 0.73]), spread([0.5]), spread([])
    ('72.0 ± 1.0', '50.0', 'n/a')
    """
    finite = scale * np.array([value for value in values if math.isfinite(value)])
    if not len(finite):
        return NONE
    mean = f"{finite.mean():,.{digits}f}"
    return f"{mean} ± {finite.std(ddof=1):,.{digits}f}" if len(finite) > 1 else mean


def gain_text(gain: Paired) -> str:
    """A paired difference in points, the seeds that agree, and ``ahead`` or ``behind`` where that is shown.

    >>> gain_text(Paired((0.02, 0.03, 0.025)))
    '+2.5 ± 0.5 (3/3) ahead'
    """
    n = len(gain.values)
    if n < 2:
        return f"{100 * gain.mean:+.1f}" if n else NONE
    verdict = "" if gain.verdict == LEVEL else f" {gain.verdict}"
    return f"{100 * gain.mean:+.1f} ± {100 * gain.sd:.1f} ({gain.agree}/{n}){verdict}"


def number(value: float, form: str) -> str:
    """*value* in the format *form*, or n/a."""
    return format(value, form) if math.isfinite(value) else NONE
