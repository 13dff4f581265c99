"""Ways through a grid: how far places are apart, and which lie on a shortest path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from smp_feedback.data.synthetic.rasterise import Pixels


def distances(free: Sequence[int], row: int, start: int) -> dict[int, int]:
    """How many steps each place is from *start*, nearest first; a step leads to one of four neighbours that is free.

    Plain Python on flat indices: on grids this small it is faster than arrays are.

    Args:
        free: Flat grid, other than 0 where one may walk; its border is 0, as nothing else ends a row.
        row: Places in a row.
        start: A free place.

    Returns:
        Steps by place, of those that can be reached.

    >>> distances(bytes([0, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0]), 5, 6)
    {6: 0, 7: 1}
    """
    steps, places = {start: 0}, [start]
    for place in places:  # grows as it is walked through
        for there in (place - row, place - 1, place + 1, place + row):
            if free[there] and there not in steps:
                steps[there] = steps[place] + 1
                places.append(there)
    return steps


def shortest_paths(free: Sequence[int], row: int, start: int, goal: int) -> set[int]:
    """Every place on some shortest path from *start* to *goal*, both included; arguments as of `distances`.

    >>> free = np.pad(np.ones((2, 2), np.uint8), 1)  # two ways round, equally long
    >>> sorted(shortest_paths(free.tobytes(), 4, 5, 10))
    [5, 6, 9, 10]
    """
    left = distances(free, row, goal)
    found = layer = {start}
    for steps in reversed(range(left[start])):
        layer = {p for q in layer for p in (q - row, q - 1, q + 1, q + row) if left.get(p) == steps}
        found = found | layer
    return found


def framed(pixels: Pixels) -> bytes:
    """*pixels* (H, W) as a flat grid of rows of W + 2, with a border of 0.

    >>> list(framed(np.ones((1, 2), bool)))
    [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    """
    return np.pad(pixels.view(np.uint8), 1).tobytes()


def pixels_at(places: Iterable[int], size: tuple[int, int]) -> Pixels:
    """The pixels (H, W) at flat *places* of a grid that has a border around *size*."""
    flat = bytearray((size[0] + 2) * (size[1] + 2))
    for place in places:
        flat[place] = 1
    return np.frombuffer(flat, np.bool_).reshape(size[0] + 2, size[1] + 2)[1:-1, 1:-1]
