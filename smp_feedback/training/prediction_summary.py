"""``summary.csv``: a row an image, with the area of each class, how uncertain the answer is, and its looks."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smp_feedback.saving.files import replace_file

SUMMARY, NAMES = "summary.csv", "names.csv"
FACTS = ("image", "name", "height", "width", "looks", "uncertainty")


class PredictionSummary:
    """Rows of images, written all at once; an image that comes again replaces its row.

    ``CLASS_px`` is the area of a class in pixels, ``CLASS_m2`` in square metres where the image's georeference has a
    unit of length; ``uncertainty`` the mean entropy over pixels, in [0, 1]; ``name`` what its files are called.

    Args:
        classes: The classes' names.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.rows: dict[str, dict[str, str]] = {}

    def add(
        self,
        image: str,
        name: str,
        size: tuple[int, int],
        pixels: NDArray[np.int64],
        uncertainty: float,
        looks: int | None = None,
        square_metres: float | None = None,
    ) -> None:
        """Note an image's row; *square_metres* are a pixel's."""
        looked = "" if looks is None else str(looks)
        row = dict(zip(FACTS, (image, name, *map(str, size), looked, f"{uncertainty:.4f}"), strict=True))
        row |= {f"{one}_px": str(int(count)) for one, count in zip(self.classes, pixels, strict=True)}
        if square_metres is not None:
            areas = zip(self.classes, pixels, strict=True)
            row |= {f"{one}_m2": f"{float(count) * square_metres:.10g}" for one, count in areas}
        self.rows[image] = row

    def take_up(self, path: Path) -> int:
        """Go on from the rows that *path* has, if there are some of these classes; how many they are."""
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if {*FACTS, *self._pixels()} <= row.keys()]
            self.rows = {row["image"]: {k: v for k, v in row.items() if v is not None} for row in rows} | self.rows
        return len(self.rows)

    def write(self, folder: Path, name: str = SUMMARY) -> Path:
        """Write *name* in *folder*, whole or not at all."""
        metric = any(f"{one}_m2" in row for row in self.rows.values() for one in self.classes)
        columns = [*FACTS, *self._pixels(), *(f"{one}_m2" for one in self.classes if metric)]
        return replace_file(folder / name, lambda draft: write_rows(draft, columns, self.rows.values()))

    def shares(self) -> list[tuple[str, float, int]]:
        """Of each class its name, its share of all pixels, and how many images it is in."""
        total = sum(int(row["height"]) * int(row["width"]) for row in self.rows.values())
        found = []
        for name, column in zip(self.classes, self._pixels(), strict=True):
            counts = [int(row[column]) for row in self.rows.values()]
            found.append((name, sum(counts) / max(1, total), sum(count > 0 for count in counts)))
        return found

    def _pixels(self) -> list[str]:
        return [f"{one}_px" for one in self.classes]


def write_rows(path: Path, columns: Sequence[str], rows: object) -> None:
    """A table as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(columns), restval="")
        table.writeheader()
        table.writerows(rows)  # type: ignore[arg-type]
