"""Masks of which several may hold for a pixel: one file a class, that is something where the class is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smp_feedback.data.files import LABEL_SUFFIXES, by, some
from smp_feedback.data.masks.colours import Colours
from smp_feedback.data.masks.reader import MaskReader
from smp_feedback.errors import InvalidInput, InvalidValue

CLASS = "{class}"  # of a path: one file a class
STATES = ("absent", "present")


@dataclass(frozen=True, kw_only=True)
class LayerReader:
    """How masks of one file a class are read: where a file holds 0, its class is not; where it holds 1 or 255, it is.

    Args:
        classes: Names of channels 0, 1, ..., which stand for ``{class}`` in paths.
        ignore_index: A stored value that counts for nothing, in its class alone; None if there is none.
        values: {stored value: 0 or 1, "absent" or "present", or "ignore"}, where files hold others.
        empty_masks: Whether a file that is missing says that its class is nowhere.

    Raises:
        InvalidValue: If *values* says what is none of these.
    """

    classes: Sequence[str]
    ignore_index: int | None = None
    values: Mapping[Any, Any] | None = None
    empty_masks: bool = False
    layer: MaskReader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = MaskReader(classes=self.classes, ignore_index=self.ignore_index).classes
        object.__setattr__(self, "classes", names)
        both = {} if self.values is not None else {0: 0, 1: 1} | ({} if self.ignore_index == 255 else {255: 1})
        values = self.values if self.values is not None else both
        reader = MaskReader(classes=STATES, ignore_index=self.ignore_index, values=values)
        object.__setattr__(self, "layer", reader)

    def read(self, path: Path) -> Tensor:
        """The masks of all classes, int64 (C, H, W) of 0, 1 and *ignore_index*; *path* has ``{class}``.

        With *empty_masks*, (C, 0, 0) where no class has a file: the image alone knows the size.

        Raises:
            InvalidInput: If one cannot be read, or has another size, naming the file.
        """
        files = [layer_file(path, name) for name in self.classes]
        layers = [None if file is None else self.layer.read(file) for file in files]
        there = [(file, layer) for file, layer in zip(files, layers, strict=True) if layer is not None]
        if len(there) < len(files) and not self.empty_masks:
            raise InvalidInput(f"{path}: expected a mask of every class, found {len(there)} of {len(files)}.")
        if not there:
            return torch.zeros(len(files), 0, 0, dtype=torch.int64)
        first, size = there[0][0], there[0][1].shape
        for file, layer in there:
            if layer.shape != size:
                raise InvalidInput(f"{file} has {by(layer.shape)} pixels, {first} has {by(size)}; expected one size.")
        return torch.stack([torch.zeros(size, dtype=torch.int64) if layer is None else layer for layer in layers])

    def check(self, mask: Tensor, path: Path) -> None:
        """Every value of *mask* is 0, 1 or ignored.

        Raises:
            InvalidInput: With those that are not.
        """
        self.layer.check(mask, path)

    def check_files(self, paths: Sequence[Path]) -> None:
        """Each of *paths*, which have ``{class}``, has the file of every class.

        Raises:
            InvalidValue: With how many of how many are missing, and which, unless *empty_masks* allows it.
        """
        if self.empty_masks:
            return
        wanted = [(path, name) for path in paths for name in self.classes]
        missing = [str(path).replace(CLASS, name) for path, name in wanted if layer_file(path, name) is None]
        if missing:
            raise InvalidValue(
                f"{len(missing)} of {len(wanted)} masks, one a class, are missing: {some(missing)}; where that says "
                "that nothing of the class is there, write empty_masks=True."
            )


def layer_file(path: Path, name: str) -> Path | None:
    """The mask of class *name*: *path* with it for ``{class}``, of any suffix that masks have; None if there is none.

    Raises:
        InvalidInput: If there are two.
    """
    told = Path(str(path).replace(CLASS, name))
    if told.is_file():
        return told
    stem = str(told.with_suffix("")) if told.suffix.lower() in LABEL_SUFFIXES else str(told)
    found = [
        file for suffix in LABEL_SUFFIXES for end in (suffix, suffix.upper()) if (file := Path(stem + end)).is_file()
    ]
    if len({file.resolve() for file in found}) > 1:
        raise InvalidInput(f"{told}: expected one mask of an image and class, found {some([p.name for p in found])}.")
    return found[0] if found else None


def mask_reader(
    masks: str,
    *,
    classes: Sequence[str],
    ignore_index: int | None,
    values: Mapping[Any, Any] | None = None,
    colours: Colours | None = None,
    offset: int = 0,
    empty_masks: bool = False,
) -> MaskReader | LayerReader:
    """What reads masks that lie where *masks* says, see `MaskFolder`: several a pixel where it has ``{class}``.

    Raises:
        InvalidValue: If an option belongs to the other kind.

    >>> type(mask_reader("{split}/{class}", classes=("hat", "red"), ignore_index=None)).__name__
    'LayerReader'
    """
    if CLASS not in str(masks):
        if empty_masks:
            raise InvalidValue(f"empty_masks=True: masks={masks!r} has no {CLASS}, so every image needs its mask.")
        mean = {"values": values, "colours": colours, "offset": offset}
        return MaskReader(classes=classes, ignore_index=ignore_index, **mean)  # type: ignore[arg-type]
    if colours is not None or offset:
        raise InvalidValue(f"masks={masks!r} is one file a class, of 0 and 1; leave colours= and offset= out.")
    return LayerReader(classes=classes, ignore_index=ignore_index, values=values, empty_masks=empty_masks)
