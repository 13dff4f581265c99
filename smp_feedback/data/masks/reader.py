"""Label maps as tensors of class indices; what is neither a class nor ignored is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smp_feedback.data.masks.colours import Colours, colour_labels, labels_of_colours
from smp_feedback.data.masks.files import read_mask
from smp_feedback.data.masks.hints import expected_labels, hint, listed, wrong_labels
from smp_feedback.data.masks.labels import Lookup, value_labels, whole
from smp_feedback.data.masks.stored import Array, Stored
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue


@dataclass(frozen=True, kw_only=True)
class MaskReader:
    """How label maps are read, and what their values mean.

    A stored value is looked up in *values*; if it is not there, it is ignored where it is *ignore_index*, and otherwise
    *offset* is added to it, which has to give a class (or *ignore_index*). A class that *values* gives to other stored
    values is no longer that of its own number: with ``values={255: 1}``, 0 stays 0, and 1 is refused. Channels that are
    equal (grey saved as RGB) are one. Of a palette the indices count, or, with *colours*, the colours.

    Args:
        classes: Names of labels 0, 1, ...
        ignore_index: A label that counts for nothing; None if there is none.
        values: {stored value: label}, where they differ: ``{255: 1}``. A label may be a class's name, or ``"ignore"``.
        colours: {class: [r, g, b] or "#rrggbb"}, where masks hold colours, or the path of such a table, see
            `colours.colour_labels`.
        offset: Added to what is stored: -1 where labels are counted from 1.

    Raises:
        InvalidType: If *classes* is no sequence of names, or *ignore_index* or *offset* no whole number.
        InvalidValue: If the tables name no class, or the options say two things of one value.

    >>> MaskReader(classes=("ground", "leaf"), values={255: "leaf"}).lookup(np.array([0, 255]))[0]
    array([0, 1])
    """

    classes: Sequence[str]
    ignore_index: int | None = None
    values: Mapping[Any, Any] | None = None
    colours: Colours | None = None
    offset: int = 0
    lookup: Lookup = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", _checked_classes(self.classes))
        _check_label(self.ignore_index)
        self._check_offset()
        if self.colours is not None and (self.values is not None or self.offset):
            raise InvalidValue("colours= and values= or offset=: a mask holds colours or values, give one of them.")
        object.__setattr__(self, "lookup", Lookup.of(self.table()))

    def table(self) -> dict[int, int]:
        """The label of each stored value, or of each colour's code."""
        if self.colours is None:
            return value_labels(self.classes, self.ignore_index, self.values, self.offset)
        return colour_labels(self.colours, self.classes, self.ignore_index)

    def read(self, path: Path) -> Tensor:
        """The label map at *path*, int64 (H, W).

        Raises:
            InvalidInput: If it cannot be read, or holds a value or colour that stands for nothing, naming the file.
        """
        stored = read_mask(path)
        if self.colours is not None:
            return torch.from_numpy(labels_of_colours(stored, self.lookup, self.classes, path))
        values = _one_channel(stored, path)
        labels, known = self.lookup(values)
        if not known.all():
            raise InvalidInput(self._refusal(values, np.unique(values[~known]), stored, path))
        return torch.from_numpy(labels)

    def check(self, mask: Tensor, path: Path) -> None:
        """Every value of *mask*, which somebody else has read, is a class or ignored.

        Raises:
            InvalidInput: With those that are not.
        """
        if wrong := wrong_labels(mask, len(self.classes), self.ignore_index):
            raise InvalidInput(f"{path} has {wrong}")

    def _refusal(self, values: Array, unknown: Array, stored: Stored, path: Path) -> str:
        if self.values is not None or self.offset:
            expected = f"expected {listed(self.lookup.keys.tolist())} (by values= and offset={self.offset})"
            advice = f"Say what else it is, as in values={{{int(unknown[0])}: {self.classes[0]!r}}}, or 'ignore'."
            return f"{path} has values {listed(unknown.tolist())}; {expected}. {advice}"
        advice = hint(np.unique(values).tolist(), len(self.classes), self.ignore_index, stored.palette is not None)
        expected = expected_labels(len(self.classes), self.ignore_index)
        return f"{path} has labels {listed(unknown.tolist())}; expected {expected}. {advice}"

    def _check_offset(self) -> None:
        if isinstance(self.offset, bool) or whole(self.offset) != self.offset:
            raise InvalidType(f"offset={self.offset!r}: expected a whole number, such as -1 for labels from 1.")
        if not self.offset or self.ignore_index is None:
            return
        for place in (self.ignore_index, self.ignore_index + self.offset):  # read as a label, and as what is stored
            if 0 <= place < len(self.classes):
                raise InvalidValue(
                    f"ignore_index={self.ignore_index} is class {self.classes[place]!r} with offset={self.offset}; "
                    f"write ignore_index=255, and values={{{self.ignore_index}: 'ignore'}} if that is what is stored."
                )


def read_stored(path: Path) -> Tensor:
    """A label map as it is stored, int64 (H, W); of a palette, the indices.

    Raises:
        InvalidInput: If it cannot be read, or holds colours or fractions, naming the file.
    """
    return torch.from_numpy(_one_channel(read_mask(path), path).astype(np.int64))


def _one_channel(stored: Stored, path: Path) -> Array:
    """Values (H, W) that are whole numbers.

    Raises:
        InvalidInput: If they are not, or alpha hides some of them.
    """
    values, alpha = stored.values, stored.alpha
    if alpha is not None and stored.palette is None:
        raise InvalidInput(
            f"{path}: {int((alpha < 255).sum())} pixels are transparent; which label are they? Save it without alpha, "
            'or say it with colours=, as in colours={"ignore": "transparent", ...}.'
        )
    if values.ndim == 3:
        if not (values == values[..., :1]).all():
            raise InvalidInput(_colourful(values, path))
        values = values[..., 0]
    return _whole_numbers(values, path)


def _colourful(values: Array, path: Path) -> str:
    if values.shape[2] != 3:
        return f"{path} has {values.shape[2]} bands that differ; expected one of labels."
    found = np.unique(values.reshape(-1, 3), axis=0)
    shown = ", ".join(str(colour) for colour in found[:3].tolist()) + (", ..." if len(found) > 3 else "")
    advice = f"colours={{class: [r, g, b]}} says which is which, as in colours={{'...': {found[-1].tolist()}}}"
    return f"{path}: expected one channel of labels, found {len(found)} colours ({shown}); {advice}."


def _whole_numbers(values: Array, path: Path) -> Array:
    if values.dtype.kind == "f":
        wide = values.astype(np.float64)
        wrong = ~np.isfinite(wide) | (wide != np.rint(wide)) | (np.abs(wide) >= 2.0**53)
    elif values.dtype.kind in "iu":
        wrong = values > np.uint64(2**63 - 1) if values.dtype == np.uint64 else np.zeros(1, bool)
    else:
        raise InvalidInput(f"{path}: expected labels, whole numbers, found {values.dtype}.")
    if wrong.any():
        example = values[wrong][0]
        raise InvalidInput(f"{path}: expected labels, whole numbers, found {example:.6g} in {int(wrong.sum())} pixels.")
    return values if values.dtype == np.uint8 else values.astype(np.int64)


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes) if isinstance(classes, Sequence) and not isinstance(classes, str) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidType(f"classes={classes!r}: expected the names of labels 0, 1, ..., at least one.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InvalidValue(f"classes={list(names)}: {twice[0]!r} is there twice; expected a name a label.")
    return names


def _check_label(label: int | None) -> None:
    if isinstance(label, bool) or not isinstance(label, int | None):
        raise InvalidType(f"ignore_index={label!r}: expected a label (an int) or None.")
