"""What the heads of image files say, without their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from smp_feedback.data.images.reader import head_of
from smp_feedback.data.items import files_of
from smp_feedback.errors import FeedbackError

FLIPPED = (2, 3, 4)  # orientations, as EXIF counts them, in which height and width stay
MOST_FILES = 10_000  # heads read where a sample is enough: seconds on a disk, minutes across a network


class Header(NamedTuple):
    """Of one file.

    Attributes:
        size: (H, W) in pixels, upright.
        bands: Values of a pixel.
        kind: Their dtype.
        turned: Whether it is stored in another position, of the same size: who overlooks that does not notice.
    """

    size: tuple[int, int]
    bands: int
    kind: str
    turned: bool = False

    def __str__(self) -> str:
        """Bands and dtype, such as ``3 x uint8``."""
        return f"{self.bands} x {self.kind}"


def header_of(dataset: Any, index: int) -> Header | None:
    """Of the image of item *index*; None where it has no file, or one that is no image."""
    files = files_of(dataset, index)
    return header(files[0]) if files else None


def header(path: Path) -> Header | None:
    """Of the image at *path*; None where there is none.

    >>> header(Path("/nowhere.png")) is None
    True
    """
    try:
        layout, size, turn = head_of(path)
        return Header(size, layout.bands, layout.kind, turned=turn in FLIPPED or (turn != 1 and size[0] == size[1]))
    except FeedbackError:  # who reads the image says so
        return None


def spread(count: int, most: int) -> Sequence[int]:
    """At most *most* of *count* places, evenly apart, the first among them.

    >>> list(spread(10, 4)), list(spread(3, 4))
    ([0, 2, 5, 7], [0, 1, 2])
    """
    return range(count) if count <= most else [i * count // most for i in range(most)]
