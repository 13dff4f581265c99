"""Films of shapes that move, turn and pass behind occluders, drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smp_feedback.checks import check_bool, check_number
from smp_feedback.data.augment import Augmentation
from smp_feedback.data.corruption.corruptions import seen_through
from smp_feedback.data.items import checked_index, checked_int
from smp_feedback.data.seeding import scene_generator
from smp_feedback.data.synthetic.base import Scene, Synthetic
from smp_feedback.data.synthetic.rasterise import Floats, Pixels, around, fill_circle, fill_polygon
from smp_feedback.data.synthetic.shapes import random_colours
from smp_feedback.data.turbulence.simulator import preset
from smp_feedback.data.turbulence.wind import Wind
from smp_feedback.errors import InvalidInput

FRAMES = {"train": 8, "val": 32, "test": 128}  # of a film, where no number is given
COUNTS = {"train": 1000, "val": 320, "test": 1280}  # frames in all, where no count is given
RADIUS = (0.13, 0.22)  # of the shorter side
WIDTH, LENGTH = (0.12, 0.3), (0.5, 1.0)  # of an occluder, over the shorter side
PACE = (0.5, 1.5)  # of a shape's speed, over the one asked for
FRAME_RATE = 25.0  # a second, for the wind
COLOURS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 0.0))  # by class: red, green, blue, yellow
BLACK, GREY = (0.0, 0.0, 0.0), (0.5, 0.5, 0.5)
CORNERS = {"triangle": 3, "square": 4}
STAR, INNER = 10, 0.45  # corners of a star; the radius of every other one


class Mover(NamedTuple):
    """A shape: what it is, and where it is at any time, as (y, x) in pixels and radians."""

    label: int
    radius: float
    start: Floats
    velocity: Floats
    turn: float
    spin: float


class Script(NamedTuple):
    """All that happens in a scene."""

    movers: list[Mover]
    occluders: list[Floats]  # (y0, x0, y1, x1)
    colours: Floats  # of the ground, of each mover, of each occluder


class MovingShapes(Synthetic):
    """Films of triangles, squares, stars and discs that move and turn, some of them behind bars: ``moving``.

    Frames are the items, and ``films`` says which belong together. Shapes go straight, bounce off the border and pass
    over one another in a fixed order. Occluders stand still, in front of all. The
    mask keeps what they hide, unless *behind* is False. Frame k of a film is a function of (split, seed, film, k):
    drawn without the frames before it, and the same however many there are. Noise is each frame's own.

    Args:
        split: See `Synthetic`; the defaults of a film's length and of *count* go by it.
        frames: Of a film, >= 1; None is 8, 32, 128 for train, val, test.
        max_shapes: A scene has one to this many shapes, >= 1.
        speed: Of a shape, in shorter sides a frame, >= 0; each has half to one and a half of it.
        spin: The fastest turn, in radians a frame, either way, >= 0.
        occluders: Bars in front, >= 0.
        behind: Whether the mask labels what occluders hide; if not, it is background.
        coloured: Each class has a colour of its own, on black and behind grey, so that it can be told under the papers'
            noise (arXiv 2507.10143; sigma up to 4); without, colours are random and say nothing.
        scene: Frames after which a film cuts to another scene; None never does. See ``cuts``.
        wind: Of hot air before the camera, in m/s; None is no air. It moves the image's pixels and no label's.
        air: Which air that is: a name of `turbulence.PRESETS`, at any size as the corruption ``turbulence`` has it.
        root, size, seed, noise, transform: See `Synthetic`.
        count: Frames in all; None is 1000, 320, 1280. The last film may be cut short.

    >>> data = MovingShapes("test", frames=4, scene=2, count=10, size=32)
    >>> data.films, data.cuts
    ((range(0, 4), range(4, 8), range(8, 10)), (2, 6))
    >>> image, mask = data[3]
    >>> image.shape, mask.shape, data.hidden(3).dtype
    (torch.Size([3, 32, 32]), torch.Size([32, 32]), torch.bool)
    """

    kind = "moving"
    classes = ("background", "triangle", "square", "star", "disc")

    def __init__(
        self,
        split: str = "train",
        *,
        frames: int | None = None,
        max_shapes: int = 3,
        speed: float = 0.03,
        spin: float = 0.15,
        occluders: int = 2,
        behind: bool = True,
        coloured: bool = False,
        scene: int | None = None,
        wind: float | None = None,
        air: str = "strong",
        root: object = None,
        size: int | Sequence[int] | None = None,
        seed: int = 0,
        count: int | None = None,
        noise: float = 0.0,
        transform: Augmentation = None,
    ) -> None:
        count = COUNTS.get(split) if count is None else count
        super().__init__(split, root=root, size=size, seed=seed, count=count, noise=noise, transform=transform)
        self.frames = FRAMES[split] if frames is None else checked_int("frames", frames, least=1)
        self.max_shapes = checked_int("max_shapes", max_shapes, least=1)
        self.occluders = checked_int("occluders", occluders, least=0)
        check_number("speed", speed, least=0)
        check_number("spin", spin, least=0)
        check_bool("behind", behind)
        check_bool("coloured", coloured)
        self.speed, self.spin, self.behind, self.coloured = speed, spin, behind, coloured
        self.scene_frames = None if scene is None else checked_int("scene", scene, least=1)
        self.wind = None if wind is None else Wind(seen_through(preset(air), self.size), wind, FRAME_RATE)

    @property
    def films(self) -> tuple[range, ...]:
        """Of each film its frames."""
        return tuple(range(at, min(at + self.frames, self.count)) for at in range(0, self.count, self.frames))

    @property
    def cuts(self) -> tuple[int, ...]:
        """The frames at which a film has cut to another scene; its first frame is none."""
        every = self.scene_frames
        return () if every is None else tuple(f for film in self.films for f in film[every::every])

    def hidden(self, index: SupportsIndex) -> Tensor:
        """Where an occluder hides a shape in frame *index*: bool (H, W).

        Raises:
            InvalidInput: If frames are augmented: where it would be then, nobody knows; or if the mask labels nothing
                there (*behind* is False), so that nothing hidden could be found.
        """
        if self.transform is not None:
            raise InvalidInput(f"{self.name(index)}: what is hidden is known of frames without a transform alone.")
        if not self.behind:
            raise InvalidInput(
                f"{self.name(index)}: with behind=False the mask has no label where an occluder hides a shape; "
                "expected behind=True."
            )
        script, time, _ = self._at(checked_index(index, self.count))
        return torch.from_numpy((self._owners(script, time) > 0) & self._bars(script).any(axis=0))

    def scene(self, rng: np.random.Generator) -> Scene:
        """The first frame of a scene."""
        return self._shown(self._script(rng), 0)

    def drawn(self, index: int) -> Scene:
        """Frame *index*, of whatever film it is, without noise."""
        script, time, air = self._at(index)
        image, mask = self._shown(script, time)
        if self.wind is not None:
            place = index % self.frames
            image = self.wind.seen(torch.from_numpy(image), torch.Generator().manual_seed(air), place).numpy()
        return image, mask

    def _at(self, index: int) -> tuple[Script, int, int]:
        """The scene of frame *index*, the time in it, and the seed of the film's air."""
        film, frame = divmod(index, self.frames)
        rng = scene_generator(self.seed, film, self.split)
        air = int(rng.integers(2**63))
        number, time = divmod(frame, self.scene_frames or self.frames)
        scripts = [self._script(rng) for _ in range(number + 1)]
        return scripts[-1], time, air

    def _script(self, rng: np.random.Generator) -> Script:
        labels = rng.integers(1, len(self.classes), rng.integers(1, self.max_shapes + 1))
        movers = [self._mover(int(label), rng) for label in labels]
        bars = [_bar(self.size, rng) for _ in range(self.occluders)]
        colours = random_colours(1 + len(movers) + len(bars), rng)
        return Script(movers, bars, told_colours(labels, len(bars)) if self.coloured else colours)

    def _mover(self, label: int, rng: np.random.Generator) -> Mover:
        side = min(self.size)
        radius, way, turn = rng.uniform(*RADIUS) * side, rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
        pace = rng.uniform(*PACE) * self.speed * side
        start, spin = rng.uniform(0, np.array(self.size)), rng.uniform(-self.spin, self.spin)
        return Mover(label, radius, start, pace * np.array([np.sin(way), np.cos(way)]), turn, spin)

    def _shown(self, script: Script, time: int) -> Scene:
        owners = self._owners(script, time)
        labels = np.array([0, *(mover.label for mover in script.movers)], np.int64)[owners]
        bars = self._bars(script)
        for k, bar in enumerate(bars, start=1 + len(script.movers)):
            owners[bar] = k
        if not self.behind:
            labels[bars.any(axis=0)] = 0
        return np.take(script.colours.astype(np.float32).T, owners, axis=1), labels

    def _owners(self, script: Script, time: int) -> Any:
        """Which mover each pixel shows, from 1, or would without occluders; 0 is the ground."""
        owners = np.zeros(self.size, np.int64)
        for k, mover in enumerate(script.movers, start=1):
            owners[outline(self.classes[mover.label], mover, time, self.size)] = k
        return owners

    def _bars(self, script: Script) -> Any:
        """(occluders, H, W), bool."""
        bars = np.zeros((len(script.occluders), *self.size), bool)
        for bar, (y0, x0, y1, x1) in zip(bars, script.occluders, strict=True):
            bar[round(y0) : round(y1), round(x0) : round(x1)] = True
        return bars


def outline(kind: str, mover: Mover, time: int, size: tuple[int, int]) -> Pixels:
    """The pixels of *mover*, a *kind* of shape, at *time*."""
    centre = bounced(mover.start + mover.velocity * time, np.array(size, float))
    if kind == "disc":
        return fill_circle(centre, mover.radius, size)
    corners = CORNERS.get(kind, STAR)
    reach = np.full(corners, mover.radius)
    if corners == STAR:
        reach[1::2] *= INNER
    return fill_polygon(around(centre, reach, mover.turn + mover.spin * time), size)


def told_colours(labels: NDArray[np.int64], bars: int) -> Floats:
    """The colours of the ground, of shapes of these *labels*, and of occluders."""
    return np.array([BLACK, *(COLOURS[label - 1] for label in labels), *(bars * [GREY])])


def bounced(place: Floats, side: Floats) -> Floats:
    """Where what goes straight is if it bounces off 0 and *side*; at any time, without the way to it.

    >>> bounced(np.array([3.0, 5.0, 9.0, -1.0]), np.array(4.0)).tolist()
    [3.0, 3.0, 1.0, 1.0]
    """
    return np.asarray(side - np.abs(np.mod(place, 2 * side) - side))


def _bar(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """The corners of an occluder, upright or lying."""
    sides = np.array([rng.uniform(*LENGTH), rng.uniform(*WIDTH)]) * min(size)
    sides = sides if rng.random() < 0.5 else sides[::-1]
    corner = rng.uniform(0, 1, 2) * np.maximum(np.array(size) - sides, 0)
    return np.concatenate([corner, corner + sides])
