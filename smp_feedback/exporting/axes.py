"""Which axes of the image stay open: what is tried, with images of which shapes, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.exporting.formats import PLACES
from smp_feedback.exporting.serving import Served, Shape, first_line

Axes = tuple[str, ...]
ALL, BATCH, NONE = ("batch", "height", "width"), ("batch",), ()
TRIED: dict[bool | str, list[Axes]] = {True: [ALL, BATCH, NONE], "batch": [BATCH, NONE], False: [NONE]}
GIVE_SIZE = "give an image of the size to serve, image=torch.rand(1, {}, H, W) (--size H W)."


class Plan(NamedTuple):
    """What is tried.

    Attributes:
        shape: The image's (B, C, H, W).
        at_a_size: Whether this is the size to serve, and not one that was picked.
        tried: The dynamic axes, from most to least.
        refused: Why the model itself takes no other size.
    """

    shape: Shape
    at_a_size: bool
    tried: list[Axes]
    refused: Exception | None


def make_plan(served: Served, image: Tensor | None, dynamic: bool | str) -> Plan:
    """Which axes to try with which image.

    Raises:
        InvalidInput: If the model cannot read *image*.
        InvalidValue: If the size shall be fixed and nothing says at what.
    """
    shape = served.readable() if image is None else served.checked(image)
    refused: Exception | None = served.closed()
    at_a_size = image is not None
    if refused is None:
        try:
            served.answer(shapes(shape, ALL, served.stride)[-1])
        except InvalidInput as error:  # a base made for one size, which is then the one to serve
            refused, at_a_size = error, True
    tried = [axes for axes in TRIED[dynamic] if (refused is None if "height" in axes else at_a_size)]
    if not tried:
        why = f"dynamic={dynamic!r} fixes the size" if refused is None else first_line(refused).rstrip(".")
        raise InvalidValue(f"{why}: {GIVE_SIZE.format(served.channels)}")
    return Plan(shape, at_a_size, tried, refused if dynamic is True else None)


def shapes(shape: Shape, axes: Sequence[str], stride: int) -> list[Shape]:
    """The shape to trace with, then those to check with: where an axis is open, another one.

    An open batch is traced at 2 or more, as a single image is taken for a constant.

    >>> shapes((1, 3, 64, 64), ("batch", "height", "width"), 32)
    [(2, 3, 64, 64), (1, 3, 64, 64), (3, 3, 96, 128)]
    """
    batch, channels, height, width = shape
    if not axes:
        return [shape]
    batch = max(batch, 2)
    others = [(1, channels, height, width)]
    if "height" in axes:
        others.append((batch + 1, channels, height + stride, width + 2 * stride))
    return [(batch, channels, height, width), *others]


def named_axes(shape: Shape, axes: Sequence[str], strides: Sequence[int]) -> tuple[int | str, ...]:
    """The axes of an image or a state, open ones by name.

    >>> named_axes((1, 3, 64, 64), ("batch", "height", "width"), (32, 1))
    ('batch', 3, '32*height', 'width')
    """
    times = {"height": strides[0], "width": strides[1]}
    names = {PLACES[a]: a if times.get(a, 1) == 1 else f"{times[a]}*{a}" for a in axes}
    return tuple(names.get(place, size) for place, size in enumerate(shape))
