"""COCO's annotations: where they and their images lie, and what in them cannot be used."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, cast

from smp_feedback.data.files import natural_key, some
from smp_feedback.data.folders.finding import LeftOut, is_image, unread, walk
from smp_feedback.errors import InvalidInput, InvalidValue, nearest

ANNOTATIONS = (  # where tools put them; the first that is there counts
    *("annotations/instances_{split}.json", "annotations/instances_{split}2017.json", "annotations/{split}.json"),
    *("{split}/_annotations.coco.json", "{split}/annotations.json", "instances_{split}.json", "{split}.json"),
)
IMAGES = ("{split}", "images/{split}", "{split}/images", "{split}2017", "images/{split}2017", "images", ".")
SPELLINGS = {"val": ("val", "valid", "validation")}  # of a split, in those places


def find_annotations(root: Path, split: str, pattern: str | None) -> Path:
    """The JSON of *split*, by *pattern* or else where tools put it.

    Raises:
        InvalidValue: If there is none, with those that are there.
    """
    tried = list(_places(root, split, ANNOTATIONS if pattern is None else (pattern,)))
    found = next((path for path, _ in tried if path.is_file()), None)
    if found is None:
        there = sorted(str(path.relative_to(root)) for path in root.rglob("*.json")) if root.is_dir() else []
        exists = (
            f"There is: {some(there)}." if there else f"{root} has no JSON." if root.is_dir() else "No such folder."
        )
        raise InvalidValue(f"{tried[0][0]}: expected COCO's annotations, or annotations='...{{split}}.json'. {exists}")
    return found


def find_images(root: Path, split: str, pattern: str | None, first: str) -> tuple[Path, bool]:
    """The folder in which the image *first* is, and whether it belongs to *split* alone.

    Raises:
        InvalidValue: If it is nowhere.
    """
    places = _places(root, split, IMAGES if pattern is None else (pattern,))
    found = next(((folder, own) for folder, own in places if (folder / first).is_file()), None)
    if found is None:
        where = "" if pattern is None else f" in {pattern.replace('{split}', split)}"
        raise InvalidValue(f"{root}: expected the image {first}{where}; images='...' names the folder of its images.")
    return found


def _places(root: Path, split: str, patterns: Sequence[str]) -> Iterator[tuple[Path, bool]]:
    for pattern in patterns:
        for spelling in SPELLINGS.get(split, (split,)) if len(patterns) > 1 else (split,):
            yield root / pattern.replace("{split}", spelling), "{split}" in pattern


class CocoFile:
    """One JSON of COCO's kind, checked.

    Args:
        path: Its file.

    Attributes:
        categories: Names by id, in the order of the ids.
        images: Entries of the images, in the natural order of their names.
        annotations: Those of each image, by its id.

    Raises:
        InvalidInput: If it cannot be read, or something in it contradicts itself, naming the entry.
    """

    def __init__(self, path: Path) -> None:
        self.path, content = path, _content(path)
        self.categories = {entry["id"]: entry["name"] for entry in sorted(content["categories"], key=lambda e: e["id"])}
        self.images = sorted(content["images"], key=lambda entry: natural_key(Path(entry["file_name"])))
        self._refuse_twice("category", [entry["id"] for entry in content["categories"]])
        self._refuse_twice("category", [*self.categories.values()])
        self._refuse_twice("image", [entry["id"] for entry in self.images])
        self._refuse_twice("file", [file_name(entry) for entry in self.images])
        self.annotations: defaultdict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        known = {entry["id"] for entry in self.images}
        for entry in content["annotations"]:
            if wrong := self._wrong(entry, known):
                raise InvalidInput(f"{path}: annotation {entry.get('id')} {wrong}")
            self.annotations[entry["image_id"]].append(entry)

    def labels(self, classes: Sequence[str] | None) -> tuple[tuple[str, ...], dict[Any, int]]:
        """The classes without the background, and the label of each category that is among them, from 1.

        Raises:
            InvalidValue: If one of *classes* is no category.
        """
        names = tuple(self.categories.values()) if classes is None else tuple(classes)
        unknown = [name for name in names if name not in self.categories.values()]
        if unknown:
            hint = nearest(unknown[0], self.categories.values())
            raise InvalidValue(f"classes={list(names)!r}: {self.path} has no category {unknown[0]!r}. {hint}")
        numbers = {name: label for label, name in enumerate(names, 1)}
        return names, {key: numbers[name] for key, name in self.categories.items() if name in numbers}

    def _refuse_twice(self, kind: str, keys: Sequence[Any]) -> None:
        twice = [str(key) for key, times in Counter(keys).items() if times > 1]
        if twice:
            raise InvalidInput(f"{self.path}: expected each {kind} once, there twice: {some(twice)}.")

    def _wrong(self, entry: Mapping[str, Any], images: set[Any]) -> str | None:
        if entry.get("image_id") not in images:
            return f"is of image {entry.get('image_id')!r}, which is not among the images."
        if entry.get("category_id") not in self.categories:
            return f"is of category {entry.get('category_id')!r}, which is not among the categories."
        return wrong_segmentation(entry.get("segmentation"))


def file_name(entry: Mapping[str, Any]) -> str:
    """An image's path below the folder of images; some tools on Windows write it with backslashes."""
    return str(entry["file_name"]).replace("\\", "/")


def wrong_segmentation(outline: Any) -> str | None:
    """What is wrong with a segmentation, or None.

    >>> wrong_segmentation([[0, 0, 4, 0]]), wrong_segmentation([[0, 0, 4, 0, 4, 4]])
    ('has a polygon of 4 numbers; expected x and y of at least 3 corners.', None)
    """
    if not outline:
        return "has no segmentation; a box alone is no mask."
    if isinstance(outline, Mapping):
        size, counts = outline.get("size"), outline.get("counts")
        if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, (str, list)):
            return "has a run-length code without size [height, width] and counts."
        if isinstance(counts, list) and sum(counts) != math.prod(size):
            return f"has a run-length code of {sum(counts)} pixels; its size {size} has {math.prod(size)}."
        return None
    for polygon in outline:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            found = f"{len(polygon)} numbers" if isinstance(polygon, list) else repr(polygon)
            return f"has a polygon of {found}; expected x and y of at least 3 corners."
        if not all(isinstance(number, Real) and math.isfinite(number) for number in polygon):
            return "has a polygon with corners that are no numbers."
    return None


def unlisted(folder: Path, listed: set[str], file: Path) -> list[LeftOut]:
    """Files below *folder* that are not among the names *listed* in *file*, and look like images."""
    files = [path for path in walk(folder) if path.relative_to(folder).as_posix() not in listed]
    why = f"that {file.name} does not have"
    return [LeftOut(unread(path) or why, path) for path in files if is_image(path) or unread(path)]


def _content(path: Path) -> Mapping[str, list[Mapping[str, Any]]]:
    """The three tables, with the fields that each entry needs."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: expected COCO's JSON, but it cannot be read ({error}).") from error
    needs = {"images": ("id", "file_name"), "categories": ("id", "name"), "annotations": ()}
    for table, fields in needs.items():
        entries = content.get(table) if isinstance(content, Mapping) else None
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise InvalidInput(f"{path}: expected COCO's JSON, with a list of {table}.")
        lacking = [field for field in fields for entry in entries if field not in entry]
        if lacking:
            raise InvalidInput(f"{path}: expected {' and '.join(fields)} of all {table}; {lacking[0]!r} is missing.")
    return cast("Mapping[str, list[Mapping[str, Any]]]", content)
