"""Images that two splits have in common: one file in both, or two files of equal content; and masks, as files."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from smp_feedback.data.items import files_of
from smp_feedback.data.masks.multilabel import CLASS

HEAD = 1 << 16  # bytes by which most files of one size differ already


class Twins(NamedTuple):
    """An image of one split, and one of another that is the same file or has the same bytes."""

    split: str
    path: Path
    other: str
    twin: Path
    same: bool = False  # one file, be it under two names
    what: str = "images"  # or masks


def duplicates(paths_by_split: Mapping[str, Sequence[Path]]) -> list[Twins]:
    """Files of equal content in different splits, each once for every pair of splits; what is held out comes first.

    Only what agrees in size is read, and only what agrees in its first bytes is read whole.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name, text in ("a", "one"), ("b", "two"), ("c", "two"):
    ...     _ = (folder / name).write_text(text)
    >>> found = duplicates({"train": [folder / "a", folder / "b"], "val": [folder / "c"]})
    >>> [(two.split, two.path.name, two.other, two.twin.name) for two in found]
    [('val', 'c', 'train', 'b')]
    """
    times = Counter(path for paths in paths_by_split.values() for path in set(paths))
    keys: dict[Path, tuple[Hashable, ...]] = dict.fromkeys(filter(Path.is_file, times), ())
    for look in (_size, _head, _whole):
        count: Counter[Hashable] = Counter()
        for path, key in keys.items():
            count[key] += times[path]
        keys = {path: (*key, look(path)) for path, key in keys.items() if count[key] > 1}
    return _twins(paths_by_split, keys)


def links(paths_by_split: Mapping[str, Sequence[Path]]) -> list[Twins]:
    """Files that are in different splits at once, under one name or several: through links of either kind."""
    files = {path for paths in paths_by_split.values() for path in paths if path.is_file()}
    found = _twins(paths_by_split, {path: _node(path) for path in files})
    return [two._replace(same=True) for two in found]


def twins(datasets_by_split: Mapping[str, Any]) -> list[Twins]:
    """What two of these datasets share, whatever those are wrapped in: first files that are in both.

    Of masks, which are often equal where nothing is, only files that are in both, and those of other images.
    """
    paths = {split: image_paths(dataset) for split, dataset in datasets_by_split.items()}
    same = links(paths)
    known = {two[:3] for two in same}
    parted = {(two.split, two.other) for two in same}
    masks = [two for two in shared_masks(datasets_by_split) if (two.split, two.other) not in parted]
    return same + masks + [two for two in duplicates(paths) if two[:3] not in known]


def shared_masks(datasets_by_split: Mapping[str, Any]) -> list[Twins]:
    """Masks that are in two of these datasets at once; a JSON has the outlines of many images, and is none."""
    paths = {
        split: [path for i in range(len(dataset)) for path in files_of(dataset, i)[1:] if path.suffix != ".json"]
        for split, dataset in datasets_by_split.items()
    }
    several = {path for of_split in paths.values() for path in of_split if CLASS in str(path)}
    keys: dict[Path, Hashable] = {path: path.absolute() for path in several}
    found = [*links(paths), *_twins(paths, keys)]
    return [two._replace(same=True, what="masks") for two in found]


def image_paths(dataset: Any) -> list[Path]:
    """The files of *dataset*'s images, see `files_of`; none where it has none."""
    found = (files_of(dataset, i) for i in range(len(dataset)))
    return [files[0] for files in found if files]


def _twins(paths_by_split: Mapping[str, Sequence[Path]], keys: Mapping[Path, Hashable]) -> list[Twins]:
    """Pairs of one key in two splits, those of train last, in the order of the first."""
    found = []
    for split, other in combinations(sorted(paths_by_split, key=lambda name: name == "train"), 2):
        there = {keys[path]: path for path in reversed(paths_by_split[other]) if path in keys}
        mine = dict.fromkeys(path for path in paths_by_split[split] if path in keys)
        found += [Twins(split, path, other, there[keys[path]]) for path in mine if keys[path] in there]
    return found


def _node(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _size(path: Path) -> int:
    return path.stat().st_size


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(HEAD)).digest()


def _whole(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()
