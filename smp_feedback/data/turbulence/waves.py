"""The waves that a displacement field is summed of, so that any two of its pixels covary as in `medium`.

Most are on an FFT grid that is longer than the image by its longer side. A grid has no frequency below its own length,
where turbulence has most of its power (an image largely moves as one), so the spectrum is parted smoothly: what is slow
is a sum of waves on rings of frequency, placed by Gaussian quadrature, and only the rest is on the grid, together with
what is too fine for it: sampled at pixels, that looks like a coarser wave. All covariances are the model's to 0.001 of
the variance, for pixels that see up to 1.5 times the lens's width at the far end of the path (0.003 for any).
"""

from __future__ import annotations

import functools
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smp_feedback.data.turbulence.medium import Array, Turbulence, eddies

SLOW = 5.0  # where the spectrum is parted, in radians over what the grid is longer than the image
FASTEST = 4.2  # of the slow waves, over where the spectrum is parted: 3e-4 is left beyond
RINGS, SPOKES = 20, 20  # of the slow waves: quadrature to 5e-4 of the variance
GUARD = 16  # pixels: the least that a grid is longer
FEEDS, QUANTILES = 64, 256  # of the table of eddies that feed a wave


class Waves(NamedTuple):
    """Amplitudes of the displacement along rows and columns, in pixels, for standard normal coefficients."""

    period: tuple[int, int]  # (H', W') of the grid
    grid: Tensor  # (2, H', W' / 2 + 1)
    slow: Tensor  # (2, M)
    rows: Tensor  # complex (H, M): what the slow waves are, down a column of pixels
    columns: Tensor  # complex (M, W): along a row
    fine: Tensor  # (3, H', W' / 2 + 1): the lower half of a root of what is finer than pixels


@functools.lru_cache(maxsize=8)
def waves(turbulence: Turbulence, size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Waves:
    """For images of *size* (H, W); kept, so that a batch costs its noise and its Fourier transforms alone."""
    on_grid, on_rings = frequencies(size)
    period = on_grid.shape[1], 2 * (on_grid.shape[2] - 1)
    slow = np.sqrt(_ring_power(turbulence, size)) * _direction(on_rings)
    power = _grid_power(turbulence, size, on_grid) * (1 - _nyquist(on_grid))
    grid, fine = np.sqrt(power) * _direction(on_grid), _aliases(turbulence, size, on_grid)
    down, along = (
        np.exp(1j * np.multiply.outer(np.arange(side) - side / 2, f)) for side, f in zip(size, on_rings, strict=True)
    )
    real = (torch.as_tensor(part, dtype=dtype, device=device) for part in (grid, slow, fine))
    waving = torch.promote_types(dtype, torch.complex64)
    rows, columns = (torch.as_tensor(part, dtype=waving, device=device) for part in (down, along.T))
    return Waves(period, next(real), next(real), rows, columns, next(real))


def frequencies(size: tuple[int, int]) -> tuple[Array, Array]:
    """Where the waves for images of *size* are: on the grid (2, H', W' / 2 + 1) and on rings (2, M); radians per pixel.

    They depend on the image alone, so that the same noise is the same pattern for air of any strength.
    """
    guard = max(*size, GUARD)
    height, width = (_even(side + guard) for side in size)
    turns = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    angles = np.pi * (np.arange(SPOKES) + 0.5) / SPOKES  # half a turn: the other half is the same waves
    ring = _rings(size)[0]
    return 2 * np.pi * np.stack(turns), (ring[:, None] * _pair(angles)[:, None]).reshape(2, -1)


def crossing(turbulence: Turbulence, frequency: Array, chosen: Array) -> Array:
    """How fast waves pass in a wind along the columns, in radians per metre of wind.

    A wave of angular frequency q is fed by eddies of frequency ``u + q / L``, each as large as ``eddies`` says.

    Args:
        turbulence: Air and camera.
        frequency: (2, ...), in radians per pixel.
        chosen: (...), uniform in [0, 1): which of the eddies, in order of u.

    Returns:
        As *chosen*: the frequency of the eddy along the columns, in radians per metre.
    """
    wave = np.hypot(*frequency) / (turbulence.pixel * turbulence.path)
    nodes, table = _feeds(turbulence.aperture, turbulence.outer_scale)
    row = np.interp(np.log(np.maximum(wave, 1e-30)), nodes, np.arange(FEEDS, dtype=float))
    column = np.clip(chosen * QUANTILES - 0.5, 0, QUANTILES - 1)
    seen: Array = np.exp(_between(table, row, column))
    along: Array = (seen + wave) * _direction(frequency)[1]
    return along


def _grid_power(turbulence: Turbulence, size: tuple[int, int], frequency: Array) -> Array:
    """Of both axes, for half of the plane: a wave of the other half counts with its mirror image."""
    cell = (2 * np.pi) ** 2 / (frequency.shape[1] * 2 * (frequency.shape[2] - 1))
    length = np.maximum(np.hypot(*frequency), 1e-30)
    power: Array = turbulence.spectrum(length) * _fast(length, size) * cell / (2 * np.pi * length)
    return power


def _aliases(turbulence: Turbulence, size: tuple[int, int], frequency: Array) -> Array:
    """What looks on pixels like each wave of the grid: Cholesky's root of its covariance, rows with columns.

    At Nyquist's frequency the wave itself is among them, for pixels do not tell it from its mirror image.
    """
    shared = np.zeros((3, *frequency.shape[1:]))
    for turns in product((-1, 0, 1), repeat=2):
        finer = frequency + 2 * np.pi * np.array(turns)[:, None, None]
        row, column = _direction(finer)
        counts = 1.0 if any(turns) else _nyquist(frequency)
        shared += counts * _grid_power(turbulence, size, finer) * np.stack([row * row, row * column, column * column])
    shared[[0, 2]] += _rest(turbulence) / (4 * frequency.shape[1] * (frequency.shape[2] - 1))  # on pixels it is white
    first = np.sqrt(np.maximum(shared[0], 1e-300))
    second = shared[1] / first
    return np.stack([first, second, np.sqrt(np.maximum(shared[2] - second**2, 0))])


def _rest(turbulence: Turbulence) -> float:
    """Variance of the waves that are finer than the nearest eight aliases: beyond a square in the plane."""
    edge = 3 * np.pi
    length = edge * np.geomspace(1, 1e9, 2048)
    beyond = np.minimum(4 / np.pi * np.arccos(edge / length), 1)  # of a ring's circumference
    power = turbulence.spectrum(length) * beyond * length
    return float(((power[1:] + power[:-1]) * np.diff(np.log(length))).sum() / 2)


def _nyquist(frequency: Array) -> Array:
    """Where waves are that change sign from pixel to pixel along an axis: 1, elsewhere 0."""
    there: Array = (np.abs(frequency).max(0) > np.pi * (1 - 1e-9)).astype(float)
    return there


def _ring_power(turbulence: Turbulence, size: tuple[int, int]) -> Array:
    ring, weight = _rings(size)
    power = 2 * turbulence.spectrum(ring) * (1 - _fast(ring, size)) * weight / SPOKES
    return np.repeat(power, SPOKES)


def _rings(size: tuple[int, int]) -> tuple[Array, Array]:
    """Frequencies and weights: Gauss and Legendre's in the third root, for the spectrum falls as q^(-2/3)."""
    node, weight = np.polynomial.legendre.leggauss(RINGS)
    root, last = (node + 1) / 2, FASTEST * SLOW / max(*size, GUARD)
    return last * root**3, 3 * last * root**2 * weight / 2


def _fast(frequency: Array, size: tuple[int, int]) -> Array:
    """The share of a frequency's power that is on the grid: 0 at 0, so flat there that its covariance ends soon."""
    share: Array = (1 - np.exp(-((frequency * max(*size, GUARD) / SLOW) ** 2) / 2)) ** 2
    return share


def _direction(frequency: Array) -> Array:
    unit: Array = frequency / np.maximum(np.hypot(*frequency), 1e-30)
    return unit


def _pair(angle: Array) -> Array:
    return np.stack([np.sin(angle), np.cos(angle)])


def _even(side: int) -> int:
    """The least even length from *side* on that has no prime factor above 5, which transforms fast."""
    length = side + side % 2
    while 30**20 % length:
        length += 2
    return length


@functools.lru_cache(maxsize=8)
def _feeds(aperture: float, outer_scale: float) -> tuple[Array, Array]:
    """log u at even quantiles of the variance that feeds a wave: nodes log(q / L) (N,), table (N, quantiles)."""
    nodes = np.linspace(np.log(1e-4 * min(1 / outer_scale, 1 / aperture)), np.log(400 / aperture), FEEDS)
    u, integrand = eddies(aperture, outer_scale, np.exp(nodes))
    share = integrand.cumsum(1) - integrand / 2  # u is even in the logarithm
    level = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return nodes, np.stack(
        [np.interp(level, row / total, np.log(u)) for row, total in zip(share, integrand.sum(1), strict=True)]
    )


def _between(table: Array, row: Array, column: Array) -> Array:
    """Bilinear, at places in units of rows and columns."""
    i, j = (np.minimum(place.astype(int), side - 2) for place, side in zip((row, column), table.shape, strict=True))
    y, x = row - i, column - j
    upper, lower = (table[i + k, j] * (1 - x) + table[i + k, j + 1] * x for k in (0, 1))
    found: Array = upper * (1 - y) + lower * y
    return found
