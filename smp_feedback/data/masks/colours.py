"""Tables of colours: which label each colour of a mask stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smp_feedback.data.masks.colour_files import read_colours
from smp_feedback.data.masks.labels import Labels, Lookup, label_of, whole
from smp_feedback.data.masks.stored import Stored
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue

Colours = Mapping[Any, Any] | str | Path
TRANSPARENT = 1 << 24  # the code of a pixel whose colour is not seen; a colour's is its 24 bits
EXAMPLE = 'colours={"road": [128, 64, 128], "car": "#00008e"}'
MOST = 3  # unknown colours that an error names


def colour_labels(colours: Colours, classes: Sequence[str], ignore_index: int | None) -> dict[int, int]:
    """The label of each colour's code.

    Args:
        colours: {class, label or "ignore": colour, or a list of them}, or the path of a file with such a table, see
            `colour_files.read_colours`. A colour is [r, g, b] (0 to 255), "#rrggbb" or "transparent".
        classes: Names of labels 0, 1, ...
        ignore_index: What "ignore" stands for.

    Raises:
        InvalidType: If *colours* is no table.
        InvalidValue: If it names no class, has no colours, or one colour of two labels.

    >>> colour_labels({"car": "#00008e", "ignore": [[0, 0, 0], "transparent"]}, ("road", "car"), 255)
    {142: 1, 0: 255, 16777216: 255}
    """
    codes: dict[int, int] = {}
    for where, name, colour in _entries(colours):
        label, code = label_of(name, classes, ignore_index, where), code_of(colour, where)
        if codes.setdefault(code, label) != label:
            raise InvalidValue(f"{where}: {name!r} has the colour {said(code)}, which another label has, too.")
    if not codes:
        raise InvalidValue(f"colours={colours!r}: expected at least one colour, as in {EXAMPLE}.")
    return codes


def _entries(colours: Colours) -> Iterator[tuple[str, Any, Any]]:
    """Where each is given, whose it is, and the colour."""
    if isinstance(colours, str) and colours.lstrip().startswith(("{", "[")):  # YAML that was none
        raise InvalidValue(
            f"colours={colours!r}: expected a table {{class: colour}} or the path of one; in YAML, quote what begins "
            'with #, as in {road: "#804080", car: [0, 0, 142]}.'
        )
    if isinstance(colours, (str, Path)):
        yield from read_colours(Path(colours).expanduser())
        return
    if not isinstance(colours, Mapping):
        raise InvalidType(f"colours={colours!r}: expected a table or the path of one, as in {EXAMPLE}.")
    for name, one in colours.items():
        several = isinstance(one, Sequence) and not isinstance(one, str) and any(whole(part) is None for part in one)
        yield from ((f"colours, {name!r}", name, colour) for colour in (one if several else [one]))


def code_of(colour: Any, where: str) -> int:
    """[r, g, b] or "#rrggbb" as one number, "transparent" as `TRANSPARENT`.

    Raises:
        InvalidValue: If it is no colour, after *where* it was given.

    >>> code_of([0, 1, 2], "") == code_of("#000102", "") == 258
    True
    """
    if isinstance(colour, str) and colour.lower() == "transparent":
        return TRANSPARENT
    if isinstance(colour, str):
        digits = colour.strip().removeprefix("#")
        pairs = [digits[k : k + 2] for k in (0, 2, 4)] if len(digits) == 6 else []
        parts = [int(pair, 16) if set(pair) <= set("0123456789abcdefABCDEF") else None for pair in pairs]
    else:
        parts = [whole(part) for part in colour] if isinstance(colour, Sequence) else []
    if len(parts) != 3 or not all(part is not None and 0 <= part <= 255 for part in parts):
        comment = "" if colour is not None else " (YAML and --data.options take what begins with # for a comment)"
        raise InvalidValue(f'{where}: expected a colour, [r, g, b] of 0 to 255 or "#rrggbb", not {colour!r}{comment}.')
    return sum((part or 0) << shift for part, shift in zip(parts, (16, 8, 0), strict=True))


def said(code: int) -> str:
    """A colour for people.

    >>> said(258)
    '#000102 (0, 1, 2)'
    """
    red, green, blue = code >> 16, code >> 8 & 255, code & 255
    return "transparent" if code == TRANSPARENT else f"#{code:06x} ({red}, {green}, {blue})"


def codes_of(stored: Stored, path: Path) -> Labels:
    """The colour's code of each pixel, (H, W); greys and palettes have colours, too.

    Raises:
        InvalidInput: If they are no colours of 8 bits, or partly transparent.
    """
    values = stored.values if stored.palette is None else stored.palette[stored.values]
    if values.dtype != np.uint8 or (values.ndim == 3 and values.shape[2] != 3):
        kind = values.dtype if values.ndim == 2 else f"{values.shape[2]} channels of {values.dtype}"
        raise InvalidInput(
            f"{path}: expected colours of 8 bits a channel, found {kind}; without colours=, use values=."
        )
    red, green, blue = np.moveaxis(values, 2, 0) if values.ndim == 3 else (values,) * 3
    codes = red.astype(np.int64) << 16 | green.astype(np.int64) << 8 | blue
    if stored.alpha is None:
        return codes
    if (half := (stored.alpha % 255 > 0).sum()) > 0:
        raise InvalidInput(f"{path}: {half} pixels are half transparent; which label are they? Save it without alpha.")
    return np.where(stored.alpha == 0, TRANSPARENT, codes)


def labels_of_colours(stored: Stored, lookup: Lookup, classes: Sequence[str], path: Path) -> Labels:
    """The label of each pixel, int64 (H, W).

    Raises:
        InvalidInput: If a colour has none: which, how often, and the nearest that has.
    """
    codes = codes_of(stored, path)
    labels, known = lookup(codes)
    if known.all():
        return labels
    unknown, times = np.unique(codes[~known], return_counts=True)
    most = np.argsort(-times, kind="stable")[:MOST]
    listed = ", ".join(
        f"{said(int(unknown[k]))} in {times[k]} pixels{_nearest(unknown[k], lookup, classes)}" for k in most
    )
    more = f" and {len(unknown) - MOST} more" if len(unknown) > MOST else ""
    raise InvalidInput(
        f"{path} has colours that are not in colours=: {listed}{more}. Add them, as a class or as 'ignore'."
    )


def _nearest(code: int, lookup: Lookup, classes: Sequence[str]) -> str:
    seen = lookup.keys != TRANSPARENT
    if code == TRANSPARENT or not seen.any():
        return ""
    keys, labels = lookup.keys[seen], lookup.labels[seen]
    best = int(np.square(_rgb(keys) - _rgb(np.array([code]))).sum(1).argmin())
    label = int(labels[best])
    return f" (nearest: {said(int(keys[best]))}, {classes[label] if label < len(classes) else 'ignored'})"


def _rgb(codes: Labels) -> NDArray[np.int64]:
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
