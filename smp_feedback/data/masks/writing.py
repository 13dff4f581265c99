"""Label maps as the masks of a dataset are stored, so that what was read can be written back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from smp_feedback.config.data import MaskValues
from smp_feedback.data.masks.colours import TRANSPARENT, code_of
from smp_feedback.data.masks.multilabel import LayerReader
from smp_feedback.data.masks.reader import MaskReader
from smp_feedback.data.masks.stored import Array
from smp_feedback.errors import InvalidValue

MOST = 65535  # of what a PNG has room for


def mask_values(reader: MaskReader | LayerReader) -> MaskValues | None:
    """What the files that *reader* reads hold for each class, the first where there are several; None is the label.

    Of one file a class it is what they hold where the class is not, and where it is.

    >>> mask_values(MaskReader(classes=("ground", "leaf"), values={255: "leaf"}))
    (0, 255)
    >>> mask_values(MaskReader(classes=("ground", "leaf"), colours={"leaf": "#00ff00", "ground": [0, 0, 0]}))
    ('#000000', '#00ff00')
    """
    layer = reader.layer if isinstance(reader, LayerReader) else reader
    first: dict[int, int] = {}
    for stored, label in layer.table().items():
        first.setdefault(label, stored)
    found = tuple(first.get(label) for label in range(len(layer.classes)))
    if layer.colours is not None:
        return tuple(code if code is None else _word(code) for code in found)
    return None if found == tuple(range(len(found))) else found


def check_writable(values: MaskValues, classes: Sequence[str]) -> None:
    """A mask with *values* can hold every class.

    Raises:
        InvalidValue: If one of *classes* has none, or one that a PNG has no room for.
    """
    for name, value in zip(classes, values, strict=True):
        if value is None:
            raise InvalidValue(f"The masks that were trained on have no value or colour for {name!r}: write labels.")
        if isinstance(value, int) and not 0 <= value <= MOST:
            raise InvalidValue(f"The masks that were trained on hold {value} for {name!r}, a PNG holds 0 to {MOST}.")


def colours_of(values: MaskValues | None) -> list[tuple[int, int, int]] | None:
    """The colour of each class, (0, 0, 0) where it has none to be seen; None of masks that hold no colours.

    >>> colours_of(("#000102", "transparent")), colours_of((0, 255)), colours_of(None)
    ([(0, 1, 2), (0, 0, 0)], None, None)
    """
    if values is None or not any(isinstance(value, str) for value in values):
        return None
    codes = [0 if value is None else code_of(value, "") & 0xFFFFFF for value in values]
    return [(code >> 16, code >> 8 & 255, code & 255) for code in codes]


def as_stored(labels: Array, values: MaskValues) -> Array:
    """*labels* (H, W) as a mask holds them: values (H, W), of 8 or 16 bits, or colours (H, W, 3), with alpha 4.

    >>> as_stored(np.array([[0, 1]]), (0, 255)), as_stored(np.array([[1]]), ("transparent", "#000102")).tolist()
    (array([[  0, 255]], dtype=uint8), [[[0, 1, 2, 255]]])
    """
    if (colours := colours_of(values)) is not None:
        clear = [value == "transparent" for value in values]
        if not any(clear):
            return np.array(colours, np.uint8)[labels]
        return np.array([(*rgb, 0 if gone else 255) for rgb, gone in zip(colours, clear, strict=True)], np.uint8)[
            labels
        ]
    table = np.array(values)
    return table.astype(np.uint8 if table.max() < 256 else np.uint16)[labels]


def mask_picture(labels: Array, values: MaskValues) -> Image.Image:
    """The same as a picture, for a PNG."""
    return Image.fromarray(as_stored(labels, values))


def _word(code: int) -> str:
    return "transparent" if code == TRANSPARENT else f"#{code:06x}"
