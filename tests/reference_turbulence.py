"""The angle of arrival in von Karman's turbulence in plain NumPy, float64: what the package is compared with.

Nothing here imports torch or the package. Covariances are integrals over depth and over the frequency of the eddies, as
the theory says them; the package integrates over the frequencies of the image, after a change of variables.
"""

from math import gamma, pi, sin

import numpy as np

TABLE = 60.0
_x = np.linspace(0, TABLE, 12001)
_turn = pi * (np.arange(128) + 0.5) / 128
_integrals = [np.cos(n * _turn - _x[:, None] * np.sin(_turn)).mean(1) for n in (0, 1)]  # Bessel's own definition


def bessel(order, x):
    """J_n(x), n = 0 or 1: from a table, and beyond it from the first two terms of its asymptotic series."""
    x = np.abs(x)
    far = np.maximum(x, TABLE)
    phase = far - (order / 2 + 1 / 4) * pi
    series = np.sqrt(2 / (pi * far)) * (np.cos(phase) - (4 * order**2 - 1) / (8 * far) * np.sin(phase))
    return np.where(x < TABLE, np.interp(x, _x, _integrals[order]), series)


def jinc(x):
    """2 J_1(x) / x."""
    return np.where(x < 1e-6, 1.0, 2 * bessel(1, x) / np.maximum(x, 1e-6))


def covariances(lags, drift=0.0, *, cn2, path, aperture, focal_length, pixel_pitch, outer_scale, wavelength=None):
    """(parallel, perpendicular) in pixels squared, of two pixels *lags* (N,) apart while the air moves *drift* metres.

    The air moves along the line through both: light at depth z is ``lag * pixel * z - drift`` apart.
    """
    pixel = pixel_pitch / focal_length
    node, weight = np.polynomial.legendre.leggauss(160)
    depth, weight = path * (node + 1) / 2, path * weight / 2
    cone = 1 - depth / path  # the width of what a point sees of the lens
    largest = 2 * pi / outer_scale
    k = np.geomspace(1e-3 * min(largest, 1 / aperture), 300 / aperture, 2500)
    index = gamma(8 / 3) * sin(pi / 3) / (4 * pi**2) * cn2 * (k**2 + largest**2) ** (-11 / 6)
    lens = jinc(np.outer(cone, k) * aperture / 2)
    power = 2 * pi * pi * k**4 * index * (weight * cone**2)[:, None] * lens**2 / pixel**2  # over log k
    found = []
    for lag in np.atleast_1d(lags):
        apart = np.outer(lag * pixel * depth - drift, k)
        both, across = 2 * bessel(0, apart), jinc(np.abs(apart))  # J_0 + J_2 = 2 J_1(x) / x
        found.append([_trapezoid(power * part, np.log(k)).sum() for part in (both - across, across)])
    return np.array(found).T


def bilinear(image, field):
    """(C, H, W) read at (i + d_row, j + d_column), clamped to the border."""
    _, height, width = image.shape
    out = np.empty_like(image)
    for i in range(height):
        for j in range(width):
            y = np.clip(i + field[0, i, j], 0, height - 1)
            x = np.clip(j + field[1, i, j], 0, width - 1)
            a, b = min(int(y), max(height - 2, 0)), min(int(x), max(width - 2, 0))
            c, d = min(a + 1, height - 1), min(b + 1, width - 1)
            top = image[:, a, b] * (1 - (x - b)) + image[:, a, d] * (x - b)
            low = image[:, c, b] * (1 - (x - b)) + image[:, c, d] * (x - b)
            out[:, i, j] = top * (1 - (y - a)) + low * (y - a)
    return out


def _trapezoid(values, nodes):
    return ((values[..., 1:] + values[..., :-1]) * np.diff(nodes)).sum(-1) / 2
