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
RADII = (3.0, 8.0)  # pixels, of the closed curve: it bends no more than the others do
CLOSED_TRIES = 10  # places for it
TRIES = 15  # pixels of the image for each attempt to begin a curve

Draw = Callable[[], float]
Curve = list[tuple[int, int]]  # pixels, each the neighbour of the next


class Curves(Synthetic):
    """Bright curves with gaps on a noisy ground, the end of one of them red; the class of what is drawn of it is 1.

    Curves wind through the image, turn away from one another and from themselves, never cross, and end where they find
    no way; one is closed, an ellipse with radii of 3 to 8 pixels. They are one pixel wide, broken every 4 to 9 pixels
    by a gap of 1 to *gap*; where two curves come closest there are 2 *gap* + 1 dark pixels between them. So every image
    has one answer: drawn pixels with at most *gap* pixels between them belong together. Beside the long curves there
    are short ones, down to a dot.

    The marked curve is one of the two longest, or the longest if the second is less than half as long. What is drawn of
    it grows with the image, while what is near each of its pixels looks alike: train on small images, test on large
    ones. The closed curve is there for the rule that is learnt: where all curves have ends, taking away from loose ends
    what is not marked solves small images, but in large ones some long curve is always left.

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
        """Curves, one of the long ones marked."""
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
    """Curves that keep *apart* pixels from one another: a closed one, then others, until few places are free.

    The plane is kept flat, with a border in which nothing is free, so that no step need be checked for leading out.
    """
    height, width = size
    border = max(SIGHT, apart) + 1
    row = width + 2 * border
    rows = b"\1" * border + bytes(width) + b"\1" * border
    taken = bytearray(b"\1" * (border * row) + rows * height + b"\1" * (border * row))
    normal = stream(rng.standard_normal).__next__
    paths = []
    if closed := next((found for shape in rng.random((CLOSED_TRIES, 5)) if (found := ellipse(size, shape))), []):
        begins = int(rng.integers(len(closed)))
        paths.append([(border + y) * row + border + x for y, x in closed[begins:] + closed[:begins]])
        block(taken, row, paths[0], apart)
    for y, x, turn in rng.random((1 + height * width // TRIES, 3)).tolist():
        begin = border + y * height, border + x * width, 2 * pi * turn
        if not taken[int(begin[0]) * row + int(begin[1])]:
            paths.append(grown(taken, row, begin, apart, normal))
    return [[(place // row - border, place % row - border) for place in path] for path in paths]


def ellipse(size: tuple[int, int], shape: NDArray[np.float64]) -> Curve:
    """The pixels of an ellipse, or none where it leaves the image; five numbers in [0, 1) say place, radii and turn."""
    a, b = RADII[0] + (RADII[1] - RADII[0]) * shape[2:4]
    turn = pi * shape[4]
    around = np.arange(0, 2 * pi, 1 / (4 * RADII[1]))  # a pixel is met more than once
    along, across = a * np.cos(around), b * np.sin(around)
    ys = shape[0] * size[0] + along * sin(turn) + across * cos(turn)
    xs = shape[1] * size[1] + along * cos(turn) - across * sin(turn)
    if min(ys.min(), xs.min()) < 0 or ys.max() >= size[0] or xs.max() >= size[1]:
        return []
    return list(dict.fromkeys(zip(ys.astype(int).tolist(), xs.astype(int).tolist(), strict=True)))


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
