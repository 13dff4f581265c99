"""What a look at every item of a dataset found, as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from smp_feedback.data.files import by
from smp_feedback.errors import InvalidInput

MOST = 20  # lines of an error
ERROR, WARNING = "error", "warning"
Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something to mend, or to know, before a model learns.

    Attributes:
        severity: ``error`` where training would stop or learn nothing, else ``warning``.
        split: Whose; None concerns several.
        item: The item, by its file if it has one; None concerns many.
        words: One sentence: what is, and what to write instead.
    """

    severity: str
    split: str | None
    item: str | None
    words: str

    def __str__(self) -> str:
        """Such as ``train: a.png: ...``, the item named once."""
        named = [self.split, None if self.item is not None and self.item in self.words else self.item]
        return ": ".join([*(one for one in named if one is not None), self.words])


@dataclass(frozen=True, kw_only=True)
class ClassFacts:
    """How often a class is.

    Attributes:
        name: What it is called.
        pixels: How many have it; of labels, how many images.
        images: How many have it somewhere.
        share: Of the pixels that count, in [0, 1]; 0 where none does.
        image_share: Of the images looked at.
    """

    name: str
    pixels: int
    images: int
    share: float
    image_share: float


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """One split.

    Attributes:
        items: How many there are.
        looked: At how many of them; all, unless a sample was enough.
        task: ``segmentation``, ``multilabel`` or ``classification``.
        sizes: How many images have which (H, W), as training sees them, the most frequent first.
        channels: How many have how many channels.
        stored: How many have which (H, W) as files, where the dataset knows its files.
        kinds: How many files are of which kind, such as ``3 x uint8``, bands and dtype.
        examples: An item of each of *sizes*.
        of_channels: An item of each of *channels*.
        measured: Of how many images *low* and *high* are.
        low: The smallest value of an image; None where nothing was read.
        high: The largest.
        classes: One for each, in order; none where nobody says how many there are.
        ignored: The share of pixels that count for nothing, in [0, 1].
        ignore_index: Their label; None if there is none.
        void: Items in which every pixel is ignored.
        constant: Items whose image has one value.
        turned: Items whose file says, by EXIF, that it is to be turned or mirrored, which leaves its size as it is.
        left_out: Files that lie beside those that are read.
        unusable: (item, what is wrong), of those that cannot be used.
    """

    items: int
    looked: int
    task: str = "segmentation"
    sizes: dict[Size, int] = field(default_factory=dict)
    channels: dict[int, int] = field(default_factory=dict)
    stored: dict[Size, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    examples: dict[Size, str] = field(default_factory=dict)
    of_channels: dict[int, str] = field(default_factory=dict)
    measured: int = 0
    low: float | None = None
    high: float | None = None
    classes: tuple[ClassFacts, ...] = ()
    ignored: float = 0.0
    ignore_index: int | None = None
    void: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    turned: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unusable: tuple[tuple[str, str], ...] = ()

    def class_called(self, name: str) -> ClassFacts | None:
        """That of the classes which is called *name*; None if there is none."""
        return next((one for one in self.classes if one.name == name), None)


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """All splits, and what is wrong with them.

    Attributes:
        splits: Each by its name; a dataset that was given alone is ``dataset``.
        problems: Worst first.
    """

    splits: dict[str, SplitReport]
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Those of the problems that training would not survive."""
        return tuple(one for one in self.problems if one.severity == ERROR)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them; sizes are ``"H x W"``."""
        return {
            "splits": {name: _plain(asdict(split)) for name, split in self.splits.items()},
            "problems": [asdict(problem) for problem in self.problems],
        }

    def raise_unusable(self) -> None:
        """Raise for items that cannot be used.

        Raises:
            InvalidInput: One line per item.
        """
        bad = [words for split in self.splits.values() for _, words in split.unusable]
        if bad:
            total = sum(split.items for split in self.splits.values())
            more = [f"... and {len(bad) - MOST} more."] if len(bad) > MOST else []
            raise InvalidInput("\n".join([f"{len(bad)} of {total} items cannot be used:", *bad[:MOST], *more]))


def _plain(value: Any) -> Any:
    """*value* with lists for tuples, and words for keys."""
    if isinstance(value, dict):
        return {by(key) if isinstance(key, tuple) else str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
