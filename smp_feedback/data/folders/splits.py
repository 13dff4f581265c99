"""Which image is in which split, where the folders do not say: by shares, by folds, or by a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from smp_feedback.data.files import as_path, some
from smp_feedback.data.folders.finding import LeftOut
from smp_feedback.data.folders.grouping import check_together, checked_pattern, groups_of
from smp_feedback.data.folders.places import filled
from smp_feedback.data.folders.split_files import ALL, splits_in
from smp_feedback.data.seeding import SPLITS
from smp_feedback.errors import InvalidType, InvalidValue

RULES = "val_share=0.2 (and test_share=0.1), split_file='splits.csv', or folds=5 with fold=0"


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How images that lie together are told apart; see `MaskFolder` for each option.

    Raises:
        InvalidType, InvalidValue: If an option is no such thing, or two of them contradict each other.

    >>> SplitRule(val_share=0.2).makes
    ('train', 'val')
    >>> SplitRule(folds=5)
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: folds=5, fold=None: say which of them is val: fold=0 to 4.
    """

    val_share: float | None = None
    test_share: float | None = None
    split_file: str | Path | None = None
    folds: int | None = None
    fold: int | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        for name in ("val_share", "test_share"):
            _check_share(name, getattr(self, name))
        if sum(share or 0 for share in (self.val_share, self.test_share)) >= 1:
            raise InvalidValue(f"val_share={self.val_share} and test_share={self.test_share} leave nothing for train.")
        self._check_folds()
        others = {"val_share": self.val_share, "test_share": self.test_share, "folds": self.folds}
        also = next((name for name, value in others.items() if value is not None), None)
        if self.split_file is not None and also:
            raise InvalidValue(f"split_file={str(self.split_file)!r} says what is in each split: leave {also} out.")
        if self.group is not None:
            checked_pattern(self.group)
            if not self.given:
                raise InvalidValue(f"group={self.group!r} keeps together what a rule would part: add {RULES}.")

    def _check_folds(self) -> None:
        for name, value in (("folds", self.folds), ("fold", self.fold)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise InvalidType(f"{name}={value!r}: expected a whole number.")
        if self.folds is None:
            if self.fold is not None:
                raise InvalidValue(f"fold={self.fold}: say of how many: folds=5, for example.")
            return
        if self.folds < 2:
            raise InvalidValue(f"folds={self.folds}: expected at least 2.")
        if self.fold is None or not 0 <= self.fold < self.folds:
            last = self.folds - 1
            raise InvalidValue(f"folds={self.folds}, fold={self.fold}: say which of them is val: fold=0 to {last}.")
        if self.val_share is not None:
            raise InvalidValue(f"folds={self.folds} makes val, so does val_share={self.val_share}: leave one out.")

    @property
    def given(self) -> bool:
        """Whether there is a rule."""
        return any(value is not None for value in (self.val_share, self.test_share, self.split_file, self.folds))

    @property
    def makes(self) -> tuple[str, ...]:
        """The splits of shares or folds; a file has its own."""
        val = self.val_share is not None or self.folds is not None
        return ("train", *(["val"] if val else []), *(["test"] if self.test_share is not None else []))

    def source(self, split: str, images: str, root: Path) -> str:
        """What stands for ``{split}`` in a path when *split* is opened: itself, or ``train`` where a rule divides it.

        Raises:
            InvalidValue: If neither folder nor rule tells *split* from the others, or both do.
        """
        if "{split}" not in images:
            self._check_alone(split, images, root)
            return split
        if self.split_file is not None:
            raise InvalidValue(f"images={images!r} has {{split}}, and split_file says it, too: leave one out.")
        if not self.given or split not in self.makes:
            return split
        for made in self.makes[1:]:
            folder = root / filled(images, split=made).partition("{stem}")[0]
            if folder.exists():
                raise InvalidValue(f"{self.how} makes {made} from train, and {folder} is there, too: leave one out.")
        return "train"

    def _check_alone(self, split: str, images: str, root: Path) -> None:
        """Without ``{split}``, a rule has to tell the splits apart."""
        if split == ALL or self.split_file is not None:
            return
        if not self.given:
            with_split = f"images='{images}/{{split}}'" if (root / images / split).is_dir() else "{split} in the path"
            raise InvalidValue(
                f"images={images!r} has no {{split}}: train, val and test would be the same images. Write {RULES}, or "
                f"{with_split}; split='all' opens them all."
            )
        if split not in self.makes:
            more = "test_share=0.1" if split == "test" else "val_share=0.2" if split == "val" else None
            more = f" Add {more}." if more else ""
            raise InvalidValue(f"split={split!r}: {self.how} makes {_list(self.makes)}, and 'all' is all.{more}")

    @property
    def how(self) -> str:
        """The options given, as they are written."""
        names = ("val_share", "test_share", "split_file", "folds", "fold")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names if getattr(self, name) is not None)

    def choose(self, split: str, images: Mapping[str, Path], root: Path) -> tuple[dict[str, Path], list[LeftOut]]:
        """Those of *images* (by stem) that are in *split*, in their order, and those that are in none."""
        if not self.given or (self.split_file is None and split not in self.makes):
            return dict(images), []
        groups = groups_of(images, root, self.group)
        if self.split_file is None:
            _check_pool(images)
            of_group = self.divide(groups.values())
            where = {stem: of_group[group] for stem, group in groups.items()}
            return {stem: path for stem, path in images.items() if where[stem] == split}, []
        listed, unnamed = splits_in(as_path("split_file", self.split_file), split, images, root)
        check_together(groups, listed, self.group)
        why = f"in no split of {Path(self.split_file).name}"
        left_out = [LeftOut(why, images[stem]) for stem in unnamed]
        return {stem: path for stem, path in images.items() if split in (ALL, listed.get(stem))}, left_out

    def divide(self, groups: Iterable[str]) -> dict[str, str]:
        """The split of each group by its name's place among them all, in an order that nobody chose (a hash).

        Test has the first, in proportion to its share and at least one; val those that follow, or every so many-th.

        >>> SplitRule(val_share=0.25).divide("abcd")
        {'a': 'train', 'b': 'train', 'c': 'train', 'd': 'val'}
        """
        names = sorted(set(groups))
        order = sorted(names, key=lambda name: (hashlib.sha256(name.encode(errors="surrogateescape")).digest(), name))
        tests = _count(self.test_share, len(order))
        rest = order[tests:]
        if self.folds is None:
            vals = set(rest[: _count(self.val_share, len(order))])
        else:
            vals = set(rest[self.fold :: self.folds])
        if len(rest) - len(vals) < 1 or (self.folds is not None and len(rest) < self.folds):
            what = "images" if self.group is None else f"groups of {self.group!r}"
            raise InvalidValue(f"{self.how}: {len(order)} {what} are too few for {_list(self.makes)}.")
        tested = set(order[:tests])
        return {name: "test" if name in tested else "val" if name in vals else "train" for name in names}


def _check_pool(stems: Iterable[str]) -> None:
    """Folders of splits are not thrown together, to be parted anew."""
    folders = {stem.partition("/")[0] for stem in stems if "/" in stem}
    if len(folders & {*SPLITS, "valid", "validation"}) > 1:
        raise InvalidValue(
            f"the folder of images has the folders {some(sorted(folders), 10)}: a rule would mix them. Write "
            "images='.../{split}', or say in a split_file what is in each."
        )


def _count(share: float | None, total: int) -> int:
    """The groups of a share: the nearest number to it, but at least one."""
    return 0 if share is None else max(1, round(share * total))


def _check_share(name: str, share: object) -> None:
    if share is None:
        return
    if isinstance(share, bool) or not isinstance(share, (int, float)):
        raise InvalidType(f"{name}={share!r}: expected a share, such as 0.2.")
    if not 0 < share < 1:
        raise InvalidValue(f"{name}={share!r}: expected a share between 0 and 1, such as 0.2.")


def _list(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
