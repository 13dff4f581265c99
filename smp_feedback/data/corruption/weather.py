"""Corruptions that go on from frame to frame of a film: rain that falls, and hot air in a wind.

Called like every corruption, with ``time``, the frame's place in its film, as a fourth argument: the same generator
state and another time is another frame of the same weather. A single image is frame 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from smp_feedback.data.corruption.corruptions import checked, scale, seen_through
from smp_feedback.data.items import checked_int
from smp_feedback.data.turbulence.simulator import PRESETS
from smp_feedback.data.turbulence.wind import Wind

RAIN = (0.04, 0.08, 0.16, 0.28, 0.45)  # of all pixels, what streaks would cover if none lay over another
STREAK = (12.0, 30.0)  # length in pixels at 224: of an exposure of some 10 ms, far and near
FALL = (0.15, 0.35)  # of the image's height a frame, far and near
SLANT = 0.3  # radians off the vertical at most, all alike
BRIGHT, OPAQUE = 0.85, 0.8  # grey of a streak, and how much of what is behind it is lost
WIND, FRAME_RATE = 2.0, 25.0  # m/s, and frames a second


@checked
def rain(image: Tensor, severity: int, generator: torch.Generator, *, time: int = 0) -> Tensor:
    """Bright streaks that fall: `RAIN` of the pixels, less what lies over one another; the mask keeps what they hide.

    A drop goes straight from frame to frame, all at one slant, and comes in again at the other side. Those of a lower
    severity are among those of a higher one.

    >>> street, seeded = torch.zeros(3, 64, 64), lambda: torch.Generator().manual_seed(0)
    >>> first, second = (rain(street, 3, seeded(), time=time) for time in (0, 1))
    >>> torch.equal(first, rain(street, 3, seeded())), torch.equal(first, second)
    (True, False)
    """
    hidden = streaks((image.shape[1], image.shape[2]), severity, generator, checked_int("time", time, least=0))
    return torch.where(hidden.to(image.device), torch.lerp(image, torch.full_like(image, BRIGHT), OPAQUE), image)


@checked
def shimmer(image: Tensor, severity: int, generator: torch.Generator, *, time: int = 0) -> Tensor:
    """The corruption ``turbulence``, of a film: a wind of 2 m/s carries the air past, 25 frames a second."""
    air = seen_through(list(PRESETS.values())[severity - 1], image.shape[-2:])
    return Wind(air, WIND, FRAME_RATE).seen(image, generator, checked_int("time", time, least=0))


def streaks(size: tuple[int, int], severity: int, generator: torch.Generator, time: int) -> Tensor:
    """Which pixels of (H, W) = *size* a streak covers in frame *time*: bool."""
    height, width = size
    grown = scale(size)
    thick = max(1, round(grown))
    mean = sum(STREAK) / 2 * grown
    counts = [max(1, math.ceil(share * height * width / (mean * thick))) for share in RAIN]
    drawn = torch.rand(counts[-1] + 1, 3, generator=generator, dtype=torch.float64, device=generator.device).cpu()
    slant = SLANT * (2 * float(drawn[-1, 0]) - 1)
    y, x, near = drawn[: counts[severity - 1]].T
    length = grown * (STREAK[0] + near * (STREAK[1] - STREAK[0]))
    fallen = time * height * (FALL[0] + near * (FALL[1] - FALL[0]))
    along = torch.arange(math.ceil(STREAK[1] * grown) + 1, dtype=torch.float64)
    rows = (y * height + fallen)[:, None] + along * math.cos(slant)
    columns = (x * width + fallen * math.tan(slant))[:, None] + along * math.sin(slant)
    seen = along <= length[:, None]
    covered = torch.zeros(size, dtype=torch.bool)
    for k in range(thick):
        covered[rows[seen].long() % height, (columns[seen] + k).floor().long() % width] = True
    return covered
