"""One screen of help: what is typed, what it does, and its options in the order in which one needs them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import NamedTuple

WIDTH, LINES = 80, 40
COLUMN = 25  # where descriptions begin
Words = Mapping[str, str]
"""What is typed, by what it means."""


class Page(NamedTuple):
    """The help of one verb.

    Attributes:
        usage: What is typed behind the program's name.
        says: What the verb does.
        groups: By their titles, options and what stands beside each.
        stages: Whether the groups are of verbs of its own, not of options.
    """

    usage: str
    says: str
    groups: Mapping[str, Words]
    stages: bool = False

    def text(self) -> str:
        """The page, at most 80 characters wide."""
        lines = [f"usage: smp-feedback {self.usage}", "", *textwrap.wrap(self.says, WIDTH)]
        for title, words in self.groups.items():
            lines += ["", f"{title}:", *(line for pair in words.items() for line in _entry(*pair))]
        verb = f"smp-feedback {self.usage.partition(' [')[0]}"
        more = f"{verb} VERB --help has the options of each" if self.stages else f"All settings: {verb} --help_all"
        return "\n".join([*lines, "", f"{more}."])

    @property
    def flags(self) -> list[str]:
        """The options on it."""
        return [] if self.stages else [word.split()[0] for words in self.groups.values() for word in words]


def _entry(word: str, says: str) -> list[str]:
    """An option and what it means, in lines."""
    lines = textwrap.wrap(says, WIDTH - COLUMN)
    if len(word) > COLUMN - 4:
        return [f"  {word}", *(" " * COLUMN + line for line in lines)]
    return [f"  {word:{COLUMN - 2}}{lines[0]}", *(" " * COLUMN + line for line in lines[1:])]
