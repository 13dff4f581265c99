"""What `predict` says at its end: how many images, how much of each class, where files are, what could not be read."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from smp_feedback.cli.tables import per_cent, say
from smp_feedback.saving.files import replace_file
from smp_feedback.training.image_outputs import ImageOutputs
from smp_feedback.training.prediction_summary import write_rows

FAILED = "failed.csv"
MOST = 10  # rows of a table, and lines of the same kind
SOME_FAILED = 1  # the process's status


class Predicted(NamedTuple):
    """What came of images.

    Attributes:
        folder: Where files are.
        written: How many images have been answered.
        unread: Those that could not be read, and why.
    """

    folder: Path
    written: int
    unread: dict[str, str]

    @property
    def status(self) -> int:
        """The process's."""
        return SOME_FAILED if self.unread else 0

    def after(self, images: Iterable[str], written: int, unread: dict[str, str]) -> Predicted:
        """The same after more *images*, of which some may have failed before."""
        left = {image: why for image, why in self.unread.items() if image not in {*images}}
        return Predicted(self.folder, written, left | unread)


def tell_predicted(found: Predicted, outputs: ImageOutputs | None) -> None:
    """Print it."""
    failed = _write_failed(found)
    count = f"{found.written} image{'s' * (found.written != 1)} answered"
    say(f"{count}, {len(found.unread)} could not be read" if found.unread else count)
    if outputs is not None and outputs.summary is not None and found.written:
        Console().print(class_table(outputs.summary.shares()))
        _tell_renamed(outputs)
    _tell_files(found.folder)
    for why in [*found.unread.values()][:MOST]:
        print(f"smp-feedback: left out: {why}", file=sys.stderr)
    if failed is not None and len(found.unread) > MOST:
        print(f"smp-feedback: left out: {len(found.unread) - MOST} more, see {failed}", file=sys.stderr)


def class_table(shares: list[tuple[str, float, int]]) -> Table:
    """A row a class: its share of all pixels, and in how many images it is; the largest of many.

    >>> table = class_table([("sky", 0.75, 2), ("car", 0.25, 1)])
    >>> [list(column.cells) for column in table.columns]
    [['sky', 'car'], ['75.0', '25.0'], ['2', '1']]
    """
    shown = sorted(shares, key=lambda one: -one[1])[:MOST] if len(shares) > MOST else shares
    caption = f"the {MOST} largest of {len(shares)} classes" if len(shares) > MOST else None
    table = Table("class", caption=caption)
    for head in ("% of pixels", "images"):
        table.add_column(head, justify="right")
    for name, share, images in shown:
        table.add_row(name, per_cent(share), str(images))
    return table


def _tell_renamed(outputs: ImageOutputs) -> None:
    for image, name in [*outputs.renamed.items()][:MOST]:
        say(f"{image} is called {name}, as its own name was taken")
    if (more := len(outputs.renamed) - MOST) > 0:
        say(f"{more} more have other names, too")


def _tell_files(folder: Path) -> None:
    """The tables by name, all else by number."""
    there = [path for path in folder.rglob("*") if path.is_file()]
    tables = sorted(path for path in there if path.suffix in (".csv", ".json") and path.parent == folder)
    for path in tables:
        say(f"wrote {path}")
    say(f"wrote {len(there)} file{'s' * (len(there) != 1)} in all to {folder}")


def _write_failed(found: Predicted) -> Path | None:
    """``failed.csv``; none where all could be read, and one of before is removed."""
    path = found.folder / FAILED
    if not found.unread:
        path.unlink(missing_ok=True)
        return None
    rows = [{"image": image, "why": why} for image, why in found.unread.items()]
    return replace_file(path, lambda draft: write_rows(draft, ("image", "why"), rows))
