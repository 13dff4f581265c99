"""Uneven ground, and what on it looks like a vessel and is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from smp_feedback.data.synthetic.rasterise import Floats
from smp_feedback.data.synthetic.strokes import stroke

GREY = (0.45, 0.75)  # of the ground, in the mean
WAVES = 4  # of light that lie over one another
WAVE_LENGTHS = (40.0, 160.0)  # pixels: longer than anything that is to be found
WAVE_HEIGHTS = 0.06  # standard deviation of each one's amplitude, in grey levels
SPOTS = (1.2, 3.5)  # pixels, standard deviation of a spot's Gaussian
STEPS = (0.05, 0.15)  # grey levels between the sides of a step
STROKES, STROKE_RADII = (3.0, 6.0), (1.0, 1.6)  # pixels: shorter than what is seen of a vessel between two gaps
DARK = (0.1, 0.3)  # grey levels of spots and strokes, as of vessels
PART = 64 * 64  # pixels in which distractors are counted

Distract = Callable[[Floats, np.random.Generator], None]


def light(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Ground under light that changes slowly, (H, W): long waves in any direction."""
    ys, xs = (np.arange(side, dtype=np.float32) for side in size)
    ground = np.full(size, rng.uniform(*GREY), np.float32)
    for turn, length, phase, height in zip(*rng.random((3, WAVES)), rng.standard_normal(WAVES), strict=True):
        wave = 2 * np.pi / (WAVE_LENGTHS[0] + (WAVE_LENGTHS[1] - WAVE_LENGTHS[0]) * length)
        rows, columns = ys * (wave * np.sin(2 * np.pi * turn)), xs * (wave * np.cos(2 * np.pi * turn))
        ground += WAVE_HEIGHTS * height * np.sin(rows[:, None] + (columns + 2 * np.pi * phase))
    return ground


def distract(ground: Floats, density: float, rng: np.random.Generator) -> Floats:
    """*ground* with spots, steps and strokes, *density* of them in each 64 x 64 pixels, in the mean."""
    count = rng.poisson(density * ground.size / PART)
    for kind in rng.integers(len(KINDS), size=count).tolist():
        KINDS[kind](ground, rng)
    return ground


def _spot(ground: Floats, rng: np.random.Generator) -> None:
    """A round stain, darker or lighter."""
    (y, x), sigma = rng.uniform(0, ground.shape), rng.uniform(*SPOTS)
    ys, xs = (np.square((np.arange(side) + 0.5 - at) / sigma) for side, at in zip(ground.shape, (y, x), strict=True))
    dark = rng.uniform(*DARK) * rng.choice((-1, 1))
    ground -= dark * np.exp(-ys / 2)[:, None] * np.exp(-xs / 2)


def _step(ground: Floats, rng: np.random.Generator) -> None:
    """A square of the ground that is darker or lighter: its sides are edges, and lead on."""
    (y, x), turn, side = rng.uniform(0, ground.shape), rng.uniform(0, np.pi), rng.uniform(8, 24)
    ys, xs = np.arange(ground.shape[0]) + 0.5 - y, np.arange(ground.shape[1]) + 0.5 - x
    along = ys[:, None] * np.sin(turn) + xs * np.cos(turn)
    across = ys[:, None] * np.cos(turn) - xs * np.sin(turn)
    away = np.maximum(np.abs(along), np.abs(across)) - side / 2
    ground -= rng.uniform(*STEPS) * rng.choice((-1, 1)) * (0.5 - away).clip(0, 1)


def _stroke(ground: Floats, rng: np.random.Generator) -> None:
    """A short piece, as dark as a vessel and as wide, which comes from nowhere and leads nowhere."""
    begin, turn, length = rng.uniform(0, ground.shape), rng.uniform(0, 2 * np.pi), rng.uniform(*STROKES)
    path = begin + np.arange(0, length)[:, None] * (np.sin(turn), np.cos(turn))
    drawn = stroke(path, np.full(len(path), rng.uniform(*STROKE_RADII)), ground.shape, reach=1)
    ground[drawn.window] -= rng.uniform(*DARK) * (drawn.depth + 0.5).clip(0, 1)


KINDS: tuple[Distract, ...] = (_spot, _step, _stroke)
