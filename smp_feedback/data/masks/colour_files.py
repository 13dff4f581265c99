"""Tables of colours as files: CSV, JSON, CVAT's label map and CamVid's list of colours."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smp_feedback.data.masks.labels import whole
from smp_feedback.errors import InvalidValue

Entry = tuple[str, Any, Any]  # where it stands, whose colour it is, the colour
EXPECTED = "expected name,r,g,b or name,#rrggbb (CSV), name:r,g,b:: (CVAT's labelmap.txt) or {name: [r, g, b]} (JSON)"


def read_colours(path: Path) -> Iterator[Entry]:
    """Every colour of the file *path*.

    ``.json`` holds {name: colour}, or a list of {"name": name, "color": colour}; ``.csv`` the name, then three numbers
    or ``#rrggbb``, below a header or not, apart by commas, semicolons or tabs; ``.txt`` is CVAT's label map
    (``name:r,g,b:parts:actions``), or has ``r g b name`` in each line, as CamVid's ``label_colors.txt`` has.

    Raises:
        InvalidValue: If it cannot be read, naming file and line.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labelmap.txt"
    >>> _ = path.write_text("# label:color_rgb:parts:actions" + chr(10) + "car:0,0,142::")
    >>> [entry[1:] for entry in read_colours(path)]
    [('car', ['0', '0', '142'])]
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"colours={str(path)!r}: {getattr(error, 'strerror', None) or error}.") from error
    if path.suffix.lower() == ".json":
        yield from _of_json(path, text)
        return
    lines = [(f"{path}, line {n}", line.strip()) for n, line in enumerate(text.splitlines(), 1)]
    lines = [(where, line) for where, line in lines if line and not line.startswith("#")]
    apart = next((mark for mark in ("\t", ";", ",") if lines and mark in lines[0][1]), ",")
    for k, (where, line) in enumerate(lines):
        if path.suffix.lower() == ".txt":
            yield (where, *_of_text(where, line))
        elif (entry := _of_row(where, next(csv.reader([line], delimiter=apart)), first=k == 0)) is not None:
            yield (where, *entry)


def _of_json(path: Path, text: str) -> Iterator[Entry]:
    try:
        table = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidValue(f"{path}, line {error.lineno}: no JSON ({error.msg}).") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits, or lists nested too deeply
        raise InvalidValue(f"{path}: no JSON ({error}).") from error
    entries = table if isinstance(table, list) else [{"name": k, "color": v} for k, v in _pairs(table, path)]
    for k, entry in enumerate(entries, 1):
        name, colour = (_value(entry, words) for words in (("name", "label"), ("color", "colour")))
        if name is None or colour is None:
            raise InvalidValue(f"{path}, entry {k}: {EXPECTED}, not {entry!r:.60}.")
        several = isinstance(colour, list) and any(whole(part) is None for part in colour)
        yield from ((f"{path}, {name!r}", name, one) for one in (colour if several else [colour]))


def _pairs(table: Any, path: Path) -> Any:
    if not isinstance(table, Mapping):
        raise InvalidValue(f"{path}: {EXPECTED}, not {table!r:.60}.")
    return table.items()


def _value(entry: Any, words: tuple[str, ...]) -> Any:
    return next((entry[word] for word in words if word in entry), None) if isinstance(entry, Mapping) else None


def _of_text(where: str, line: str) -> tuple[str, Any]:
    """A line of CVAT's, or of CamVid's."""
    if ":" in line:
        name, parts = line.split(":")[:2]
        return name.strip(), _colour(where, parts.split(","))
    *colour, name = line.split(maxsplit=3)
    return name.strip(), _colour(where, colour)


def _of_row(where: str, cells: list[str], *, first: bool) -> tuple[str, Any] | None:
    """A row of a CSV; None for the header."""
    cells = [cell.strip() for cell in cells]
    while cells and not cells[-1]:
        cells.pop()
    if first and not any(whole(cell) is not None or cell.startswith("#") for cell in cells[1:]):
        return None
    if len(cells) not in (2, 4):
        raise InvalidValue(f"{where}: {EXPECTED}, not {','.join(cells)!r}.")
    return cells[0], cells[1] if len(cells) == 2 else _colour(where, cells[1:])


def _colour(where: str, parts: list[str]) -> list[str]:
    parts = [part.strip() for part in parts]
    if len(parts) != 3 or any(whole(part) is None for part in parts):
        raise InvalidValue(f"{where}: {EXPECTED}, not {','.join(parts)!r}.")
    return parts
