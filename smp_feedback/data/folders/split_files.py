"""Files that say which image is in which split: one table of all, or a list a split."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from smp_feedback.data.files import below, composed, meant, natural_key, some
from smp_feedback.data.folders.places import filled
from smp_feedback.data.seeding import SPLITS
from smp_feedback.errors import InvalidValue

ALL = "all"
COMMENT = "#"  # begins a line of a list that names nothing
EXPECTED = "expected a table with the columns image (or stem) and split, or a list of names a split, as {split}.txt"


class Line(NamedTuple):
    """What a file says of an image."""

    where: str  # the file, and the line in it
    image: str
    split: str


def splits_in(file: Path, split: str, images: Mapping[str, Path], root: Path) -> tuple[dict[str, str], list[str]]:
    """The split of each image that *file* names, and the images that it does not name; all by their stems.

    An image may be written as its stem, its name, or its path below *root* or below the folder of images, with or
    without suffix. Of lists, one a split, those of train, val, test and *split* itself count; their lines that begin
    with ``#`` name nothing.

    Args:
        file: A CSV file with a header, or, with ``{split}`` in its name, a text file a split; relative to *root*, or,
            where there is none, to the working directory.
        split: The one that is opened; ``all`` for all.
        images: Each image's path by its stem.
        root: See above.

    Raises:
        InvalidValue: If a file is missing or of another form, has no *split*, or names an image twice or one that is
            not there.
    """
    by_list = "{split}" in str(file)
    exists = _lists if by_list else Path.exists
    given = file if exists(file) and not exists(root / file) else root / file
    lines, also = _of_lists(given, split) if by_list else (_of_table(given), [])
    splits = list(dict.fromkeys(line.split for line in lines))
    if split not in (*splits, ALL):
        near = meant(split, splits)
        raise InvalidValue(f"{given}: no image is in split {split!r}; it has {some(splits, 10)}. {near}".strip())
    known = _names(images, root)
    stems = _resolved(lines, known, given)
    named = {*stems, *(next(iter(known[name])) for name in also if len(known.get(name, ())) == 1)}
    return {stem: line.split for stem, line in stems.items()}, [stem for stem in images if stem not in named]


def _of_table(file: Path) -> list[Line]:
    """The rows of a CSV file, of commas, semicolons or tabs."""
    text = _text(file)
    head = text.partition("\n")[0]
    between = next((sign for sign in ",;\t" if sign in head), ",")
    rows = csv.DictReader(text.splitlines(), delimiter=between)
    columns = {name.strip().lower(): name for name in rows.fieldnames or () if name}
    image = columns.get("image", columns.get("stem"))
    if image is None or "split" not in columns:
        raise InvalidValue(f"{file}: {EXPECTED}; found the columns {', '.join(columns) or 'of an empty file'}.")
    lines = [
        Line(f"line {rows.line_num}", _clean(row[image]), (row[columns["split"]] or "").strip())
        for row in rows
        if any(row.values())
    ]
    for line in lines:
        if not line.image or not line.split:
            raise InvalidValue(f"{file}, {line.where}: expected an image and its split, one of them is empty.")
    return lines


def _of_lists(pattern: Path, split: str) -> tuple[list[Line], list[str]]:
    """The lines of the lists that count, and the names in the others."""
    files = _lists(pattern)
    if split not in (*files, ALL):
        there = f"there are lists of {some(sorted(files), 10)}" if files else "there is no such list"
        raise InvalidValue(
            f"{filled(str(pattern), split=split)}: expected a list of names, a line each; {there}. "
            f"{meant(split, files)}".strip()
        )
    own = set(files) & {*SPLITS} if split in (*SPLITS, ALL) else {split}
    lines = [
        Line(f"{path.name}, line {number}", _clean(text), name)
        for name, path in files.items()
        for number, text in enumerate(_text(path).splitlines(), start=1)
        if text.strip() and not text.lstrip().startswith(COMMENT)
    ]
    counted = own or set(files)
    return [line for line in lines if line.split in counted], [
        line.image for line in lines if line.split not in counted
    ]


def _lists(pattern: Path) -> dict[str, Path]:
    """The files that *pattern* stands for, by their split."""
    whole = str(pattern)
    before, _, after = whole.partition("{split}")
    folder = Path(before + "x").parent
    if not folder.is_dir():
        return {}
    start, found = len(before), {}
    for path in sorted(folder.rglob("*") if "/" in after else folder.iterdir(), key=natural_key):
        text = str(path)
        name = text[start : len(text) - len(after)]
        if path.is_file() and text == f"{before}{name}{after}".replace("{split}", name) and "/" not in name and name:
            found[name] = path
    return found


def _resolved(lines: Iterable[Line], known: Mapping[str, set[str]], file: Path) -> dict[str, Line]:
    """Each line's image by its stem: one that is there, and no other line's."""
    found: dict[str, Line] = {}
    unknown, twice = [], []
    for line in lines:
        stems = known.get(line.image, set())
        if len(stems) > 1:
            raise InvalidValue(f"{file}, {line.where}: {line.image!r} may be {' or '.join(sorted(stems))}: say which.")
        if not stems:
            unknown.append(line)
            continue
        (stem,) = stems
        if stem in found:
            twice.append(f"{line.image} ({found[stem].split}, {line.split})")
        found.setdefault(stem, line)
    if unknown:
        near = meant(unknown[0].image, known)
        names = some([line.image for line in unknown])
        raise InvalidValue(f"{file} names {len(unknown)} images that are not there: {names}. {near}".strip())
    if twice:
        raise InvalidValue(f"{file} names {len(twice)} images twice: {some(twice)}.")
    return found


def _names(images: Mapping[str, Path], root: Path) -> dict[str, set[str]]:
    """What an image may be called, and the stems of those that are."""
    known: defaultdict[str, set[str]] = defaultdict(set)
    for stem, path in images.items():
        whole = below(root, path)
        for name in (whole, whole.with_suffix(""), path, Path(path.name), Path(stem), Path(f"{stem}{path.suffix}")):
            known[composed(name.as_posix())].add(stem)
        known[composed(path.stem)].add(stem)
    return {name: {name} if name in images else stems for name, stems in known.items()}


def _clean(name: str | None) -> str:
    text = composed((name or "").strip().replace("\\", "/"))
    return text.removeprefix("./")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "there is none" if isinstance(error, FileNotFoundError) else str(error)
        raise InvalidValue(f"split_file={str(file)!r}: {EXPECTED}; {why}.") from error
