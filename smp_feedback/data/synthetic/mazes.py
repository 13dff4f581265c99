"""Mazes: a way from start to goal, which no part of the image shows alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from smp_feedback.checks import check_number
from smp_feedback.data.augment import Augmentation
from smp_feedback.data.items import checked_int
from smp_feedback.data.synthetic.base import Scene, Synthetic
from smp_feedback.data.synthetic.grids import pixels_at, shortest_paths
from smp_feedback.errors import InvalidValue

START, GOAL = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)  # red, green


class Mazes(Synthetic):
    """White corridors between black walls, a red start and a green goal; the class of every pixel on the way is 1.

    A maze of n x n cells has (2n + 1) x (2n + 1) pixels: cells stand at odd rows and columns, walls or openings
    between them. Depth-first search carves it (from a random cell to a random neighbour that is not carved yet, back
    where there is none), so that between any two cells there is one way, and it winds: whoever wants to know it has to
    walk it. Start and goal are two random cells; both belong to the way. A larger maze follows the same rules with a
    longer way: train on small ones, test on large ones.

    Args:
        split, root, seed, count, noise, transform: See `Synthetic`.
        size: Cells to a side, or (rows, columns) of them, each >= 2; None is 9. Pixels are 2 * size + 1.
        loops: The share of the walls between two cells, of those that the search left, that is opened, in [0, 1). There
            are several ways then, and the class of every pixel on a shortest one is 1.
        scale: Pixels that a wall or corridor is wide, >= 1: 2 or 4 for bases whose features are coarser than the image.
            There are then (2 * size + 1) * scale pixels.

    Raises:
        InvalidType, InvalidValue: As `Synthetic`, and for *loops* out of its range.

    >>> image, mask = Mazes("test", size=5)[0]
    >>> image.shape, mask.unique(), Mazes(size=(4, 6), scale=2)[0][1].shape
    (torch.Size([3, 11, 11]), tensor([0, 1]), torch.Size([18, 26]))
    """

    kind = "mazes"
    classes = ("background", "path")
    least: ClassVar[int] = 2
    side: ClassVar[int] = 9
    unit: ClassVar[str] = "cells"

    def __init__(
        self,
        split: str = "train",
        *,
        loops: float = 0.0,
        scale: int = 1,
        root: object = None,
        size: int | Sequence[int] | None = None,
        seed: int = 0,
        count: int | None = None,
        noise: float = 0.0,
        transform: Augmentation = None,
    ) -> None:
        super().__init__(split, root=root, size=size, seed=seed, count=count, noise=noise, transform=transform)
        check_number("loops", loops, least=0)
        if loops >= 1:
            raise InvalidValue(f"loops={loops!r}: expected a share of the walls, >= 0 and below 1.")
        self.loops, self.scale = loops, checked_int("scale", scale, least=1)

    def scene(self, rng: np.random.Generator) -> Scene:
        """A maze, and the way through it."""
        rows, columns = self.size
        free = carved(self.size, rng)
        if self.loops:
            open_walls(free, self.size, self.loops, rng)
        first = int(rng.integers(rows * columns))
        other = (first + int(rng.integers(1, rows * columns))) % (rows * columns)
        start, goal = (place(divmod(cell, columns), columns) for cell in (first, other))
        pixels = 2 * rows + 1, 2 * columns + 1
        way = pixels_at(shortest_paths(free, row_of(columns), start, goal), pixels)
        grid = np.frombuffer(free, np.uint8).reshape(pixels[0] + 2, pixels[1] + 2)
        image = np.repeat(grid[None], 3, axis=0).astype(np.float32)
        flat = image.reshape(3, -1)
        flat[:, start], flat[:, goal] = START, GOAL
        return self._scaled(image[:, 1:-1, 1:-1]), self._scaled(way.astype(np.int64))

    def _scaled(self, drawn: NDArray[Any]) -> NDArray[Any]:
        """Each pixel of the last two axes as a square of *scale* to a side."""
        return np.ascontiguousarray(drawn.repeat(self.scale, -2).repeat(self.scale, -1))


def row_of(columns: int) -> int:
    """Places in a row of the flat grid of a maze: its pixels, and a border on either side."""
    return 2 * columns + 3


def place(cell: tuple[int, int], columns: int) -> int:
    """Where the flat grid has a *cell*, given by row and column."""
    return (2 * cell[0] + 2) * row_of(columns) + 2 * cell[1] + 2


def carved(size: tuple[int, int], rng: np.random.Generator) -> bytearray:
    """A maze without loops: the flat grid of its pixels in a border, 1 where one may walk (and in the border).

    The border counts as carved, so that no step need be checked for leading out; a wall is between it and the cells.

    Args:
        size: Rows and columns of cells.
        rng: Drawn from once for each cell but the first.

    >>> sum(carved((1, 3), np.random.default_rng(0))[2 * 9 : 3 * 9])  # three cells, two openings, two of the border
    7
    """
    rows, columns = size
    row = row_of(columns)
    free = bytearray(b"\1" * row + (b"\1" + bytes(row - 2) + b"\1") * (2 * rows + 1) + b"\1" * row)
    draws = iter(rng.random(rows * columns).tolist())
    first = place(divmod(int(next(draws) * rows * columns), columns), columns)
    free[first] = 1
    trail = [first]
    while trail:
        here = trail[-1]
        ways = [step for step in (-row, -1, 1, row) if not free[here + 2 * step]]
        if not ways:
            trail.pop()
            continue
        step = ways[int(next(draws) * len(ways))]
        free[here + step] = free[here + 2 * step] = 1
        trail.append(here + 2 * step)
    return free


def open_walls(free: bytearray, size: tuple[int, int], share: float, rng: np.random.Generator) -> None:
    """Open a *share* of the walls between two cells, to the nearest whole number of them, in place."""
    inner = np.frombuffer(free, np.uint8).reshape(-1, row_of(size[1]))[2:-2, 2:-2]
    y, x = np.nonzero(inner == 0)
    walls = ((y + 2) * row_of(size[1]) + x + 2)[(y + x) % 2 == 1]  # even, even: cells; odd, odd: between four of them
    for wall in rng.permutation(walls)[: round(share * len(walls))].tolist():
        free[wall] = 1
