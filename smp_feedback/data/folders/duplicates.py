"""Images that two splits share: one file in both, or two files of equal content."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from smp_feedback.checks import check_choice
from smp_feedback.data.files import below
from smp_feedback.errors import DataWarning, InvalidValue

SHARED = ("warn", "refuse", "allow")
HEAD = 1 << 16  # bytes by which most files of one size differ already
WRITE = "say data.shared=allow (shared='allow') if that is meant"


class Twins(NamedTuple):
    """An image of one split, and one of another that is the same file or has the same bytes."""

    split: str
    path: Path
    other: str
    twin: Path


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
    return _twins(paths_by_split, {path: _node(path) for path in files})


def check_shared(
    datasets_by_split: Mapping[str, Any], shared: str = "warn", *, unused: Mapping[str, Any] | None = None
) -> list[Twins]:
    """See that no image is in two splits.

    Args:
        datasets_by_split: Datasets, whatever they are wrapped in; those without files are passed over.
        shared: ``warn`` refuses a file that is in two splits at once, and warns of files of equal content, one line for
            each pair of splits; ``refuse`` refuses both, ``allow`` neither.
        unused: Other splits, which nothing is done with now: of a file that is in one of them, too, ``warn`` warns.

    Returns:
        What is shared, files first.

    Raises:
        InvalidValue: See *shared*.
    """
    check_choice("shared", shared, SHARED)
    later = unused or {}
    paths = {split: image_paths(dataset) for split, dataset in {**later, **datasets_by_split}.items()}
    same = links(paths)
    if shared != "allow" and any(shared == "refuse" or not {two.split, two.other} & later.keys() for two in same):
        raise InvalidValue("; ".join(_lines(same, paths, "the same files")) + f": {WRITE}.")
    known = {(two.split, two.path, two.other) for two in same}
    equal = [two for two in duplicates(paths) if two[:3] not in known]
    lines = _lines(equal, paths, "byte for byte")
    if equal and shared == "refuse":
        raise InvalidValue("; ".join(lines) + ": leave them out of one.")
    for line in [*_lines(same, paths, "the same files"), *lines] if shared == "warn" else ():
        warnings.warn(f"{line}: scores will be too good; {WRITE}.", DataWarning, stacklevel=2)
    return same + equal


def image_paths(dataset: Any) -> list[Path]:
    """The files of *dataset*'s images, through ``Subset`` and other wrappers; none if it has no ``samples``.

    >>> from torch.utils.data import Subset
    >>> class Mine(list):
    ...     samples = [("a.png", 0), ("b.png", 1)]
    >>> [path.name for path in image_paths(Subset(Mine(), [1]))]
    ['b.png']
    """
    chosen: Callable[[Sequence[Any]], list[Any]] = list
    while not hasattr(dataset, "samples") and hasattr(dataset, "dataset"):
        chosen = _after(chosen, getattr(dataset, "indices", None))
        dataset = dataset.dataset
    samples = getattr(dataset, "samples", ())
    if not isinstance(samples, (list, tuple)):
        return []
    named = [sample[0] if isinstance(sample, (list, tuple)) and sample else None for sample in samples]
    return [Path(name) for name in chosen(named) if isinstance(name, (str, os.PathLike))]


def _after(chosen: Callable[[Sequence[Any]], list[Any]], indices: Sequence[int] | None) -> Any:
    """*chosen* of what *indices* leave."""
    return chosen if indices is None else lambda items: chosen([items[int(i)] for i in indices])


def _twins(paths_by_split: Mapping[str, Sequence[Path]], keys: Mapping[Path, Hashable]) -> list[Twins]:
    """Pairs of one key in two splits, those of train last, in the order of the first."""
    found = []
    for split, other in combinations(sorted(paths_by_split, key=lambda name: name == "train"), 2):
        there = {keys[path]: path for path in reversed(paths_by_split[other]) if path in keys}
        mine = dict.fromkeys(path for path in paths_by_split[split] if path in keys)
        found += [Twins(split, path, other, there[keys[path]]) for path in mine if keys[path] in there]
    return found


def _lines(found: Iterable[Twins], paths: Mapping[str, Sequence[Path]], how: str) -> list[str]:
    """One sentence a pair of splits."""
    by_pair: defaultdict[tuple[str, str], list[Twins]] = defaultdict(list)
    for two in found:
        by_pair[two.split, two.other].append(two)
    return [
        f"{len(pairs)} of {len(paths[split])} images of {split} are in {other}, too, {how} ({_both(pairs[0])})"
        for (split, other), pairs in by_pair.items()
    ]


def _both(two: Twins) -> str:
    """Both names, from where their paths part."""
    if two.path == two.twin:
        return two.path.name
    around = Path(os.path.commonpath([two.path.absolute(), two.twin.absolute()]))
    return f"{below(around, two.path.absolute()).as_posix()} = {below(around, two.twin.absolute()).as_posix()}"


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
