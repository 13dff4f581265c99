"""The looks at one image: each computed once, and kept on the CPU as label maps and small pictures."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from smp_feedback.app.served import ServedModel, maps_of
from smp_feedback.data.masks.writing import colours_of
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.ops.reading import MULTILABEL
from smp_feedback.plotting.legend import as_picture
from smp_feedback.plotting.overlay import RGB
from smp_feedback.training.answer_maps import answer_map
from smp_feedback.training.label_pictures import palette
from smp_feedback.training.output_kinds import background_of

SHOWN, LEAST = 768, 384  # px of the longer side of a picture on the page, at most and, of small images, about
Labels = NDArray[Any]
"""(H, W), or (classes, H, W) of 0 and 1 where a pixel may have several."""


class KeptLook(NamedTuple):
    """One look's answer.

    Attributes:
        packed: The label map at the image's own size, compressed: they are many, and mostly of one colour.
        doubt: How uncertain each pixel is, uint8, 255 for 1, as small as a picture on the page.
        uncertainty: The mean over pixels of the entropy over log C, in [0, 1].
        changed: The share of pixels whose label is another than after the look before; None of the first.
        classes: Those that any pixel has.
    """

    packed: bytes
    doubt: NDArray[np.uint8]
    uncertainty: float
    changed: float | None
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Looked:
    """An image, and the looks at it so far.

    Attributes:
        name: Of its file, without the ending.
        picture: The image as it is seen, at its own size.
        small: The same, as large as it is on the page.
        looks: The looks, the first first.
        base: The answer without feedback; None where there is none but the first look.
        base_said: What that answer is.
        channels: Of the logits.
        classes: The classes' names.
        colours: Of each class.
        background: The label that is not painted; None if every one is.
        task: ``segmentation`` or ``multilabel``.
        more: Looks that may still come.
    """

    name: str
    picture: RGB
    small: RGB
    looks: tuple[KeptLook, ...]
    base: KeptLook | None
    base_said: str
    channels: int
    classes: tuple[str, ...]
    colours: list[tuple[int, int, int]]
    background: int | None
    task: str
    more: int = 0

    @property
    def size(self) -> Size:
        """Height and width of the image."""
        return self.picture.shape[0], self.picture.shape[1]

    def labels(self, look: KeptLook) -> Labels:
        """The label map of *look*, at the image's own size."""
        return unpacked(look.packed, self.size, self.channels, self.task)

    @property
    def settled(self) -> int | None:
        """The look after which no label changed any more, from 1; None if one did at the last, or some are to come."""
        moved = [t for t, look in enumerate(self.looks, start=1) if look.changed != 0]
        return moved[-1] if moved[-1] < len(self.looks) and not self.more else None


def looks_of(found: ServedModel, path: Path) -> Looked:
    """The image at *path* and all looks at it, as `looking_at` makes them."""
    *_, looked = looking_at(found, path)
    return looked


def looking_at(found: ServedModel, path: Path) -> Iterator[Looked]:
    """Look at the image at *path* as often as *found* says, once per ``next()``, and keep what each look answered.

    Labels are read off logits at the image's own size, as ``predict`` reads them. Between two looks the model is free
    for others.

    Args:
        found: The model.
        path: The image; it is read before this returns.

    Returns:
        What there is after each look; nothing `more` is to come after the last.

    Raises:
        InvalidInput: If the image cannot be read, or the model cannot take it.
    """
    files = found.files(path)
    shown, whole = files[0][0], files.whole(0)
    picture = as_picture(whole)
    told = found.base_said, 0, *painting(found), found.config.task, found.most
    return _looking(found, shown, Looked(path.stem, picture, resized(picture, size_of(whole)), (), None, *told))


def _looking(found: ServedModel, shown: Tensor, looked: Looked) -> Iterator[Looked]:
    """*looked*, at which nobody has looked yet, with a look more each time."""
    size, task = looked.size, looked.task
    before: Labels | None = None
    with found.working():
        fed = found.fed(shown)
        base = None if found.base is None else read_look(maps_of(found.base(fed))[0], size, task, None)[0]
        answers = found.every_look(fed)
    while looked.more:
        with found.working():
            logits = next(answers, None)
            if logits is not None:
                look, before = read_look(logits[0], size, task, before)
        if logits is None:  # the loop rests
            looked = replace(looked, more=0)
        else:
            looks = (*looked.looks, look)
            looked = replace(looked, looks=looks, base=base, channels=logits.shape[1], more=found.most - len(looks))
        yield looked


def painting(found: ServedModel) -> tuple[tuple[str, ...], list[tuple[int, int, int]], int | None]:
    """The classes of *found*, their colours, and which is not painted: a background, or the first of unnamed ones."""
    classes, task = found.config.classes, found.config.task
    several = task == MULTILABEL
    own = None if several else colours_of(found.config.mask_values)
    colours = palette(own)[several:]  # the first is black, and no class is the background
    unnamed = classes == tuple(map(str, range(len(classes))))
    background = None if several else 0 if unnamed else background_of(classes)
    return classes, [colours[k % 255] for k in range(len(classes))], background


def read_look(logits: Tensor, size: Size, task: str, before: Labels | None) -> tuple[KeptLook, Labels]:
    """What *logits* (C, h, w) say of an image of *size*, whose labels were *before*; and its labels now.

    >>> import torch
    >>> look, labels = read_look(torch.tensor([[[3.0, 3.0]], [[0.0, 9.0]]]), (1, 2), "segmentation", np.zeros((1, 2)))
    >>> labels.tolist(), look.changed, round(look.uncertainty, 2)
    ([[0, 1]], 0.5, 0.15)
    """
    parts = [logits[k : k + 1] for k in range(len(logits))] if task == MULTILABEL else [logits]
    maps = [answer_map(part, size, doubt=True) for part in parts]
    labels = np.stack([one.labels for one in maps]) if task == MULTILABEL else maps[0].labels
    doubt = np.rint(np.mean([cast(Any, one.doubt) for one in maps], axis=0)).astype(np.uint8)
    moved = None if before is None else float((labels != before).mean())
    small = np.asarray(Image.fromarray(doubt).resize(on_page(size)[::-1], _filter(size)))
    uncertainty = float(np.mean([one.uncertainty for one in maps]))
    present = [one.pixels[1] for one in maps] if task == MULTILABEL else maps[0].pixels
    packed = zlib.compress(np.ascontiguousarray(labels).tobytes(), 1)
    return KeptLook(packed, small, uncertainty, moved, tuple(np.flatnonzero(present).tolist())), labels


def unpacked(packed: bytes, size: Size, channels: int, task: str) -> Labels:
    """The inverse of what `read_look` keeps."""
    shape = (channels, *size) if task == MULTILABEL else size
    dtype = np.uint16 if task != MULTILABEL and channels > 256 else np.uint8
    return np.frombuffer(zlib.decompress(packed), dtype).reshape(shape)


def on_page(size: Size) -> Size:
    """Height and width of a picture on the page: at most 768 pixels, of small images a whole number of times larger.

    >>> on_page((3000, 4000)), on_page((43, 43)), on_page((1, 1)), on_page((500, 500))
    ((576, 768), (387, 387), (384, 384), (500, 500))
    """
    longer = max(size)
    if longer > SHOWN:
        return max(1, round(size[0] * SHOWN / longer)), max(1, round(size[1] * SHOWN / longer))
    times = max(1, -(-LEAST // longer))
    return size[0] * times, size[1] * times


def resized(picture: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """*picture* of an image of *size* as it is on the page: smoothed where it shrinks, each pixel a square else."""
    return np.array(Image.fromarray(picture).resize(on_page(size)[::-1], _filter(size)))


def nearest(labels: Labels, size: Size) -> Labels:
    """*labels* (..., H, W) of an image of *size* at the pixels of the page."""
    height, width = on_page(size)
    rows = (2 * np.arange(height) + 1) * size[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * size[1] // (2 * width)
    taken: Labels = labels[..., rows[:, None], columns]
    return taken


def _filter(size: Size) -> Image.Resampling:
    return Image.Resampling.BOX if max(size) > SHOWN else Image.Resampling.NEAREST
