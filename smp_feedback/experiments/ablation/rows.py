"""The rows of an ablation of the restoration loop: each adds one part to the row before it. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

CLEAN, DISTORTED = "clean", "distorted"
IMAGES = (CLEAN, DISTORTED)


class AblationRow(NamedTuple):
    """What one model is trained on, and how.

    Attributes:
        says: What a reader is told.
        images: What it sees in training: ``clean`` or ``distorted``.
        restored: Whether R restores them first.
        fed_back: Whether R hears, T times, what changed in M's prediction.
        focal: Whether the focus of M's loss grows from step to step; otherwise it is cross-entropy at each.
        balanced: Whether rare classes weigh more in it.
        heard: Whether what is fed back is heard: else the loop runs as it would, and its weight is nothing.
    """

    says: str
    images: str = DISTORTED
    restored: bool = True
    fed_back: bool = False
    focal: bool = False
    balanced: bool = False
    heard: bool = True


ROWS = {
    "clean": AblationRow("M, trained on clean images", CLEAN, restored=False),
    "distorted": AblationRow("M, trained on distorted images", restored=False),
    "restoration": AblationRow("+ restoration"),
    "feedback": AblationRow("+ feedback", fed_back=True),
    "iterative-focal": AblationRow("+ iterative focal loss", fed_back=True, focal=True),
    "class-balanced": AblationRow("+ class-balanced weights", fed_back=True, focal=True, balanced=True),
    "plain-balanced": AblationRow("(control) M alone, class-balanced weights", restored=False, balanced=True),
    "unheard": AblationRow("(control) feedback that is not heard", fed_back=True, heard=False),
}
TRAINED = ("clean", "distorted", "restoration", "feedback", "iterative-focal", "class-balanced")
"""The paper's; the controls are trained if they are asked for."""
BEFORE = {"plain-balanced": "distorted", "unheard": "restoration"} | dict(zip(TRAINED[2:], TRAINED[1:], strict=False))
"""The row that a row adds one part to."""


class AblationLine(NamedTuple):
    """One line of the table: a model, and the images it is tested on."""

    row: str
    images: str = DISTORTED

    @property
    def label(self) -> str:
        """As tables and figures name it."""
        return f"{self.row}, on clean" if self.images == CLEAN else self.row

    @property
    def before(self) -> AblationLine | None:
        """The line that this one adds one part to; none of the first two of a table."""
        return AblationLine(BEFORE[self.row]) if self.row in BEFORE else None


PLAIN, UNTRAINED, FEEDBACK = AblationLine("distorted"), AblationLine("clean"), AblationLine("feedback")
WHOLE, BALANCED, UNHEARD = AblationLine("class-balanced"), AblationLine("plain-balanced"), AblationLine("unheard")


def lines(rows: Sequence[str]) -> list[AblationLine]:
    """Every line of a table of *rows*, in its order: that of clean images twice.

    >>> [line.label for line in lines(["feedback", "clean"])]
    ['clean, on clean', 'clean', 'feedback']
    """
    tested = {"clean": IMAGES}
    return [AblationLine(row, images) for row in ROWS if row in rows for images in tested.get(row, (DISTORTED,))]
