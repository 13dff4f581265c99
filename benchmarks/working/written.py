"""What the page says already: what is not asked now stays as it is, be it a table or a column of one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

VERSIONS = re.compile(r"^Random weights, CPU, float32; (?:.* asked with )?(.*?)\.$", re.MULTILINE)
REASON = re.compile(r"^- \*\*(.*?)\*\*: (.*)$", re.MULTILINE)
ROW = re.compile(r"^\| ([^|]*[^|\s]) \| (\d+) \| (\d+) \|$", re.MULTILINE)


class Written(NamedTuple):
    """A page in parts.

    Attributes:
        versions: Of its libraries, in words; where it names two, those of its oldest part. Empty where there are none.
        counts: How many were asked of each kind and how many work, by the kind in words.
        sections: Whole sections, heading and all, by heading.
        reasons: The same of what does not work.
        cells: What a table says, by heading, row and column.
    """

    versions: str
    counts: dict[str, list[str]]
    sections: dict[str, str]
    reasons: dict[str, str]
    cells: dict[tuple[str, str, str], str]

    def of_table(self, title: str) -> dict[tuple[str, str], str]:
        """The cells under one heading, by row and column."""
        return {(row, column): cell for (section, row, column), cell in self.cells.items() if section == title}

    def column(self, title: str, name: str) -> dict[str, str]:
        """What the rows under one heading say in the column *name*, where they were asked."""
        cells = self.of_table(title).items()
        return {row: cell for (row, column), cell in cells if column == name and cell != "-"}

    @classmethod
    def of(cls, text: str) -> Written:
        r"""*text* in parts.

        >>> text = "# Works\n\n| vgg | 2 | 1 |\n\n## A\n\nall\n\n## B\n\n### C\n\n- no\n"
        >>> page = Written.of(text)
        >>> page.counts, page.sections["A"], page.reasons["C"]
        ({'vgg': ['2', '1']}, '## A\n\nall\n', '### C\n\n- no\n')
        """
        head, sections = _parts(text, "##")
        found = VERSIONS.search(head)
        counts = {name: [asked, work] for name, asked, work in ROW.findall(head)}
        reasons = [_parts(section, "###")[1] for section in sections.values()]
        cells = {(title, *place): cell for title, section in sections.items() for place, cell in _cells(section)}
        said = {title: text for part in reasons for title, text in part.items()}
        return cls(found[1] if found else "", counts, sections, said, cells)


def refused(section: str, asked: Collection[str]) -> dict[str, list[str]]:
    r"""Whom each reason in *section* is given for, but for those who were *asked* again.

    >>> refused("### Here\n\n- **a, b**: No.\n- **c**: Never.\n", {"a", "c"})
    {'No.': ['b']}
    """
    found = {
        words: [name for name in names.split(", ") if name not in asked] for names, words in REASON.findall(section)
    }
    return {words: names for words, names in found.items() if names}


def _cells(section: str) -> Iterator[tuple[tuple[str, str], str]]:
    """What stands in the only table of *section*, by row and column."""
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    columns = [cell.strip("`|") for cell in rows[0]] if rows else []
    for name, *cells in rows[1:]:
        yield from (((name, column), cell) for column, cell in zip(columns[-len(cells) :], cells, strict=True))


def _parts(text: str, mark: str) -> tuple[str, dict[str, str]]:
    """What stands before the first heading of *mark*, and each section by its heading."""
    head, *rest = re.split(rf"^{mark} (.*)$", text, flags=re.MULTILINE)
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return head, {title: f"{mark} {title}{body.rstrip()}\n" for title, body in pairs}
