"""What the page says already: sections and counts of tables that are not asked now stay as they are."""

from __future__ import annotations

import re
from typing import NamedTuple

VERSIONS = re.compile(r"^Random weights, CPU, float32; (?:.* asked with )?(.*?)\.$", re.MULTILINE)
ROW = re.compile(r"^\| ([^|]*[^|\s]) \| (\d+) \| (\d+) \|$", re.MULTILINE)


class Written(NamedTuple):
    """A page in parts.

    Attributes:
        versions: Of its libraries, in words; where it names two, those of its oldest part. Empty where there are none.
        counts: How many were asked of each kind and how many work, by the kind in words.
        sections: Whole sections, heading and all, by heading.
        reasons: The same of what does not work.
    """

    versions: str
    counts: dict[str, list[str]]
    sections: dict[str, str]
    reasons: dict[str, str]

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
        return cls(found[1] if found else "", counts, sections, {k: v for part in reasons for k, v in part.items()})


def _parts(text: str, mark: str) -> tuple[str, dict[str, str]]:
    """What stands before the first heading of *mark*, and each section by its heading."""
    head, *rest = re.split(rf"^{mark} (.*)$", text, flags=re.MULTILINE)
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return head, {title: f"{mark} {title}{body.rstrip()}\n" for title, body in pairs}
