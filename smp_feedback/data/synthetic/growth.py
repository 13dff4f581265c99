"""Branching vessels of known topology: a branch is kept if it changes the mask's Euler number as its kind should."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import pi
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from smp_feedback.data.synthetic.rasterise import Floats, Pixels
from smp_feedback.data.synthetic.strokes import Stroke, corners, stroke

THINNEST = 1.0  # pixels, radius: a thinner one would break into pixels that touch at corners
TRUNKS = (1.8, 3.0)  # pixels, radius
TWIGS = (0.6, 0.9)  # of the parent's radius, where a branch leaves it; by Murray's law equal twins have 0.79
TAPER = 0.012  # of its radius that a vessel loses with each pixel
ANGLES = (0.5, 1.2)  # radians between a branch and its parent
LENGTHS = (12, 45)  # pixels that a branch may grow
SHORTEST = 9  # pixels: a shorter branch is a bump
BEND, KNOT = 0.07, 9  # radians a pixel, the standard deviation of how a vessel turns; pixels until it turns otherwise
CLEAR = 1.5  # pixels around each vessel that no other enters, but for one that joins it: 3 between two
PLACES = 12  # where a trunk may begin, before there is no room for it
AREA = 180  # pixels of the image for each attempt at a branch
ACROSS = 12  # pixels within which a branch that shall join a vessel has to meet it
FRAME = 14  # pixels around the image in which nothing grows, so that looking ahead never leaves the grid

Kind = TypeVar("Kind", bound=np.generic)


class Way(NamedTuple):
    """The middle of a vessel.

    Attributes:
        path: (N, 2) as (y, x), a pixel apart.
        headings: (N,) in radians, 0 to the right and pi / 2 down.
    """

    path: Floats
    headings: Floats


class Vessel(NamedTuple):
    """One branch as it is drawn.

    Attributes:
        way: Its middle.
        radii: (N,) in pixels.
        drawn: What it covers, with `CLEAR` pixels around.
        tree: Of which tree, from 1.
    """

    way: Way
    radii: Floats
    drawn: Stroke
    tree: int


@dataclass
class Growth:
    """Vessels as they grow, and what is known of them.

    Attributes:
        size: (H, W) in pixels.
        trees: How many trunks there are. Trees never meet, so these are the components.
        loops: How many branches end in a vessel of their tree: the holes.
        vessels: In the order in which they grew, a branch after its parent.
    """

    size: tuple[int, int]
    trees: int = 0
    loops: int = 0
    vessels: list[Vessel] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)  # points of all paths up to each vessel, its own among them
    framed: Pixels = field(init=False)  # what is covered, with a frame
    owner: NDArray[np.uint8] = field(init=False)  # so is this: the tree that keeps a pixel clear; 0 where there is none

    def __post_init__(self) -> None:
        height, width = self.size
        self.framed = np.zeros((height + 2 * FRAME, width + 2 * FRAME), np.bool_)
        self.owner = np.zeros(self.framed.shape, np.uint8)

    @property
    def mask(self) -> Pixels:
        """(H, W), True where there is a vessel."""
        return self.framed[FRAME:-FRAME, FRAME:-FRAME]

    def inside(self, points: Floats) -> Pixels:
        """Which of *points* (N, 2) lie in the image."""
        (y, x), (height, width) = points.T, self.size
        return np.asarray((y >= 0) & (y < height) & (x >= 0) & (x < width))

    def owners(self, points: Floats) -> NDArray[np.uint8]:
        """The tree that keeps clear where each of *points* lies; 0 where none does."""
        return _at(self.owner, points)

    def covers(self, points: Floats) -> Pixels:
        """Which of *points* lie in a vessel."""
        return _at(self.framed, points)

    def add(self, way: Way, radii: Floats, tree: int, change: int) -> bool:
        """Draw a vessel of *tree* if that changes the Euler number by *change*, as it is and `CLEAR` pixels wider.

        A trunk meets nothing (+1); a branch meets its tree in one piece (0), or in two if it closes a loop (-1). Not
        drawn is what would close one by chance, come too near another tree, or shut in some pixels beside its parent.
        """
        drawn = stroke(way.path.astype(np.float32), radii, self.size, CLEAR)
        rows, columns = (slice(side.start + FRAME - 1, side.stop + FRAME + 1) for side in drawn.window)
        covered, owner = self.framed[rows, columns], self.owner[rows, columns]
        new = np.zeros((2, *owner.shape), np.bool_)
        new[:, 1:-1, 1:-1] = drawn.depth >= 0, drawn.depth >= -CLEAR
        if (new[1] & (owner != 0) & (owner != tree)).any():
            return False
        old = np.stack([covered, owner != 0])
        before, after = corners(np.stack([old, old | new]))  # the others are in both
        if (after - before != 4 * change).any():
            return False
        covered |= new[0]
        owner[new[1]] = tree
        self.vessels.append(Vessel(way, radii, drawn, tree))
        self.steps.append(len(radii) + (self.steps[-1] if self.steps else 0))
        return True


def grow(size: tuple[int, int], trees: int, joined: float, rng: np.random.Generator) -> Growth:
    """One to *trees* trees, which branch for as long as there is room; a share *joined* of tips may close loops."""
    growth = Growth(size)
    for tree in range(1, int(rng.integers(trees)) + 2):
        growth.trees += any(_plant(growth, tree, rng) for _ in range(PLACES))
    attempts = size[0] * size[1] // AREA if growth.trees else 0
    bends = rng.standard_normal((attempts, LENGTHS[1] // KNOT + 2))
    for chances, turns in zip(rng.random((attempts, 6)).tolist(), bends, strict=True):
        _branch(growth, joined, chances, turns)
    return growth


def _plant(growth: Growth, tree: int, rng: np.random.Generator) -> bool:
    """A trunk that comes in from the border, if there is room for it."""
    height, width = growth.size
    place, turn, thick = rng.random(3).tolist()
    bends = rng.standard_normal((height + width) // KNOT + 2) / 2  # a trunk goes straighter than its branches
    side, along = divmod(4 * place, 1)
    begin, inward = {
        0: ((0.5, along * width), pi / 2),
        1: ((height - 0.5, along * width), -pi / 2),
        2: ((along * height, 0.5), 0.0),
        3: ((along * height, width - 0.5), pi),
    }[int(side)]
    radius = TRUNKS[0] + (TRUNKS[1] - TRUNKS[0]) * thick
    way, _ = _wander(growth, begin, inward + turn - 0.5, height + width, bends, reach=radius)
    return len(way.path) >= SHORTEST and growth.add(way, _radii(radius, len(way.path)), tree, +1)


def _branch(growth: Growth, joined: float, chances: list[float], bends: Floats) -> None:
    """A branch that leaves some vessel somewhere, and ends before it meets another, or in it."""
    where, side, angle, twig, joins, longer = chances
    along = int(where * growth.steps[-1])
    which = bisect_right(growth.steps, along)
    parent = growth.vessels[which]
    at = along - growth.steps[which] + len(parent.radii)
    thick = float(parent.radii[at])
    radius = max(THINNEST, thick * (TWIGS[0] + (TWIGS[1] - TWIGS[0]) * twig))
    turn = (ANGLES[0] + (ANGLES[1] - ANGLES[0]) * angle) * (1 if side < 0.5 else -1)
    steps = int(LENGTHS[0] + (LENGTHS[1] - LENGTHS[0]) * longer)
    begin, heading = parent.way.path[at].tolist(), float(parent.way.headings[at]) + turn
    own = parent.tree if joins < joined else 0
    way, closes = _wander(growth, begin, heading, steps, bends, reach=radius, free=thick + radius, joins=own)
    if len(way.path) >= SHORTEST + thick:
        radii = _radii(radius, len(way.path))
        growth.loops += growth.add(way, radii, parent.tree, -int(closes)) and closes


def _at(framed: NDArray[Kind], points: Floats) -> NDArray[Kind]:
    """The values of a framed grid at *points*."""
    places = (points + FRAME).astype(np.intp)
    return framed[places[:, 0], places[:, 1]]


def _radii(radius: float, count: int) -> Floats:
    return np.asarray(np.maximum(radius * np.exp(-TAPER * np.arange(count)), THINNEST), np.float32)


def _wander(
    growth: Growth,
    begin: Sequence[float],
    heading: float,
    steps: int,
    bends: Floats,
    *,
    reach: float,
    free: float = 0.0,
    joins: int = 0,
) -> tuple[Way, bool]:
    """A way that ends after so many steps, out of the image, or at another vessel; and whether it enters that.

    Args:
        growth: What has grown so far.
        begin: (y, x).
        heading: In radians, at the beginning.
        steps: Pixels that it has at most.
        bends: How it turns, standard normal, at knots between which it does so evenly.
        reach: Its radius, in pixels.
        free: Radii of it and its parent, which it is too near to at first to look for what it meets.
        joins: The tree whose vessels it goes straight into; others it ends before.
    """
    turns = BEND * np.interp(np.arange(steps) / KNOT, np.arange(len(bends)), bends)
    headings = heading + turns.cumsum()
    there = np.empty((steps, 2))
    np.sin(headings, out=there[:, 0])
    np.cos(headings, out=there[:, 1])
    path = begin + there.cumsum(axis=0)
    inside = growth.inside(path)
    length = steps if inside.all() else int(inside.argmin())
    first = int(free + 2 * CLEAR) + 1
    met = growth.owners(path[first:length] + (reach + CLEAR + 1) * there[first:length])
    if not met.any():
        return Way(path[:length], headings[:length]), False
    end = first + int((met != 0).argmax())
    if met[end - first] != joins:
        return Way(path[:end], headings[:end]), False
    on = path[end] + np.arange(1, ACROSS)[:, None] * there[end]
    covered = growth.covers(on)
    if not covered.any():
        return Way(path[:end], headings[:end]), False
    last = int(covered.argmax()) + 1
    straight = np.full(last, headings[end])
    return Way(np.concatenate([path[: end + 1], on[:last]]), np.concatenate([headings[: end + 1], straight])), True
