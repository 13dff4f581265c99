"""Broken curves: which pieces belong to the one that is marked?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

from smp_feedback.data.augment import Augmentation
from smp_feedback.data.items import checked_int
from smp_feedback.data.synthetic.base import Scene, Synthetic

MARK = (1.0, 0.0, 0.0)  # red
GROUND, LINES = (0.0, 0.4), (0.6, 1.0)  # grey levels, uniform: noisy, yet one threshold tells them apart
PIECES = (4, 9)  # pixels from one gap to the next
BEND, KEEP, SHAKE = 0.3, 0.9, 0.09  # radians a pixel: the most a curve turns, what it keeps of it, what is new
SIGHT = 4  # pixels that a curve looks ahead
BEHIND = 12  # pixels of its trail that a curve does not meet: it could not turn as sharply
TRIES = 15  # pixels of the image for each attempt to begin a curve

Draw = Callable[[], float]
Curve = list[tuple[int, int]]  # pixels, each the neighbour of the next


class Curves(Synthetic):
    """Bright curves with gaps on a noisy ground, the end of one of them red; the class of what is drawn of it is 1.

    Curves wind through the image, turn away from one another and from themselves, never cross, and end where they find
    no way. They are one pixel wide, broken every 4 to 9 pixels by a gap of 1 to *gap*; where two curves come closest
    there are 2 *gap* + 1 dark pixels between them. So every image has one answer: drawn pixels with at most *gap*
    pixels between them belong together. Beside the long curves there are short ones, down to a dot.

    The marked curve is one of the two longest, or the longest if the second is less than half as long. What is
    drawn of it is 1.2 sides long in the median at 20 pixels a side, 1.5 to 1.6 from 40 to 120, while what is near each
    of its pixels looks alike: train on small images, test on large ones.

    Args:
        split, root, size, seed, count, transform: See `Synthetic`.
        gap: The most pixels that a gap has, >= 0.
        noise: See `Synthetic`; without, ground (0 to 0.4) and curves (0.6 to 1) are noisy, but do not overlap.

    >>> image, mask = Curves("test", size=32)[0]
    >>> image.shape, mask.unique(), bool((image[0] >= 0.6 * mask).all())
    (torch.Size([3, 32, 32]), tensor([0, 1]), True)
    """

    kind = "curves"
    classes = ("background", "curve")

    def __init__(
        self,
        split: str = "train",
        *,
        gap: int = 2,
        root: object = None,
        size: int | Sequence[int] | None = None,
        seed: int = 0,
        count: int | None = None,
        noise: float = 0.0,
        transform: Augmentation = None,
    ) -> None:
        super().__init__(split, root=root, size=size, seed=seed, count=count, noise=noise, transform=transform)
        self.gap = checked_int("gap", gap, least=0)

    def scene(self, rng: np.random.Generator) -> Scene:
        """Curves, two of them long, one of those marked."""
        found = sorted(draw_curves(self.size, 2 * self.gap + 1, rng), key=len, reverse=True)
        which = int(rng.integers(sum(2 * len(curve) >= len(found[0]) for curve in found[:2])))
        marked = found[which][:: int(rng.choice((-1, 1)))]
        drawn = np.zeros(self.size, np.bool_)
        mask = np.zeros(self.size, np.int64)
        for k, curve in enumerate(found):
            at = tuple(np.transpose(broken(marked if k == which else curve, self.gap, rng)))
            drawn[at] = True
            mask[at] = int(k == which)
        grey = np.where(drawn, rng.uniform(*LINES, self.size), rng.uniform(*GROUND, self.size))
        image = np.repeat(grey[None].astype(np.float32), 3, axis=0)
        image[:, marked[0][0], marked[0][1]] = MARK
        return image, mask


def draw_curves(size: tuple[int, int], apart: int, rng: np.random.Generator) -> list[Curve]:
    """Curves that keep *apart* pixels from one another, begun at random places until few are free.

    The plane is kept flat, with a border in which nothing is free, so that no step need be checked for leading out.
    """
    height, width = size
    border = max(SIGHT, apart) + 1
    row = width + 2 * border
    rows = b"\1" * border + bytes(width) + b"\1" * border
    taken = bytearray(b"\1" * (border * row) + rows * height + b"\1" * (border * row))
    normal = stream(rng.standard_normal).__next__
    found = []
    for y, x, turn in rng.random((1 + height * width // TRIES, 3)).tolist():
        begin = border + y * height, border + x * width, 2 * pi * turn
        if not taken[int(begin[0]) * row + int(begin[1])]:
            curve = grown(taken, row, begin, apart, normal)
            found.append([(p // row - border, p % row - border) for p in curve])
    return found


def grown(taken: bytearray, row: int, begin: tuple[float, float, float], apart: int, normal: Draw) -> list[int]:
    """A curve from *begin* (y, x, and heading in radians) on until there is no way; what is too near it is taken then.

    It turns a little more or less at every pixel, and as much as it can where it would soon meet what is taken, its own
    trail among that.
    """
    y, x, heading = begin
    path, bend = [int(y) * row + int(x)], 0.0
    while not taken[here := int(y) * row + int(x)]:
        if here != path[-1]:
            path.append(here)
            block(taken, row, path[-BEHIND - 1 : -BEHIND], apart)
        bend = min(max(KEEP * bend + SHAKE * normal(), -BEND), BEND)
        sharp = BEND if bend > 0 else -BEND
        for turn in (bend, sharp, -sharp):
            far = heading + 2 * turn
            if not taken[int(y + SIGHT * sin(far)) * row + int(x + SIGHT * cos(far))]:
                break
        heading, bend = heading + turn, turn
        y, x = y + sin(heading), x + cos(heading)
    block(taken, row, path[-BEHIND:], apart)
    return path


def block(taken: bytearray, row: int, path: Sequence[int], apart: int) -> None:
    """Take every place that has at most *apart* - 1 others between itself and one of *path*."""
    line = b"\1" * (2 * apart + 1)
    for place in path:
        for left in range(place - apart * row - apart, place + apart * row, row):
            taken[left : left + len(line)] = line


def broken(curve: Curve, gap: int, rng: np.random.Generator) -> Curve:
    """What is drawn of *curve*: pieces of 4 to 9 pixels, between them 1 to *gap* that are not; both ends are."""
    if not gap:
        return curve
    kept, begin = [], 0
    while True:
        end = begin + int(rng.integers(PIECES[0], PIECES[1] + 1))
        kept += curve[begin:end]
        begin = end + int(rng.integers(1, gap + 1))
        if begin >= len(curve):
            return kept + curve[end:]


def stream(draw: Callable[[int], NDArray[np.float64]]) -> Iterator[float]:
    """Numbers without end, drawn by the hundred: one by one they would take most of the time."""
    while True:
        yield from draw(100).tolist()
