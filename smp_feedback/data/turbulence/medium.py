"""How far turbulent air moves the image of a point: the angle of arrival of a Kolmogorov medium, as one spectrum.

A lens of diameter D looks along a path of length L through air of even C_n^2. The light of a point at the field angle
theta crosses depth z at theta z, where the cone towards the point is 1 - z/L as wide as the lens (spherical wave), and
its image moves by the gradient of the optical path, averaged over the lens. With von Karman's spectrum of the
refractive index, ``Phi(k) = 0.033 C_n^2 (k^2 + k_0^2)^(-11/6)``, ``k_0 = 2 pi / L_0`` (Kolmogorov's, levelled off
beyond the outer scale L_0), the angle is a stationary Gaussian field over theta, the gradient of a scalar::

    S_ij(q) = q_i q_j / q^2 * P(q) / (pi q)                     spectrum over angular frequencies q (rad per rad)
    P(q)    = 2 pi^2 int_0^inf u^2 Phi(u + q / L) A(u)^2 du     A(u) = 2 J_1(u D / 2) / (u D / 2), the lens
    b_par, b_perp(theta) = int_0^inf P(q) (J_0 -+ J_2)(q theta) dq

q is fed from the depths z = q / k by eddies of frequency k, of which the lens sees u = k (1 - z / L) = k - q / L.
``P(q) dq`` is the variance of one axis, in all 1.064 C_n^2 L D^(-1/3) where L_0 is infinite: 3/8 of a plane wave's
2.837, the mean gradient over the aperture (Tatarskii 1971; Roggemann and Welsh 1996). Parallel and perpendicular
correlations over the image: Fried 1975; Schwartzman et al., *Turbulence-Induced 2D Correlated Image Distortion* (2017).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from smp_feedback.checks import check_number

Array = NDArray[np.float64]

KOLMOGOROV = (
    math.gamma(8 / 3) * math.sin(math.pi / 3) / (4 * math.pi**2)
)  # 0.033: of the structure function C_n^2 r^2/3
FRIED = 0.423 * 3 / 8  # r_0^(-5/3) of a spherical wave over C_n^2 L (2 pi / wavelength)^2 (Fried 1966)
LONG_EXPOSURE = 3.44  # of exp(-3.44 (wavelength f / r_0)^(5/3)), the transfer function of the air (Fried 1966)
DEPTHS, TURNS = 2048, 384  # nodes of the integral over u, and of its table over q: 1e-4 of the variance


@dataclass(frozen=True, kw_only=True, slots=True)
class Turbulence:
    """Air and the camera that looks through it; displacements follow from these alone.

    The defaults are a telescope of 2 m at f/10 that sees 4.7 m, in 224 pixels, over 2 km on a warm day. Rays are
    geometric, without diffraction, which asks for a lens wider than ``sqrt(wavelength * path)``.

    Args:
        cn2: C_n^2, structure constant of the refractive index, in m^(-2/3): near the ground from about 1e-15 (night)
            to 1e-12 (hot asphalt). Variances are proportional to it.
        path: Length of the path from the lens to what it looks at, in m.
        aperture: Diameter of the lens, in m: what is smaller is averaged.
        focal_length: In m.
        pixel_pitch: Between the centres of neighbouring pixels, in m; a pixel sees ``pixel_pitch / focal_length`` rad.
        outer_scale: Size of the largest eddies, in m, of the order of the height above ground. The larger, the more
            the whole image moves as one; with an infinite one the variance is Kolmogorov's.
        wavelength: In m; only the blur depends on it.

    Raises:
        InvalidType, InvalidValue: For what is no positive, finite number.

    >>> air = Turbulence(cn2=1e-13)
    >>> round(air.rms, 3), round(air.blur, 3)  # of one axis, in pixels
    (1.446, 3.364)
    >>> Turbulence(cn2=float("nan"))
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: cn2=nan: expected a number > 0 m^(-2/3).
    """

    cn2: float = 1e-13
    path: float = 2000.0
    aperture: float = 0.2
    focal_length: float = 2.0
    pixel_pitch: float = 21e-6
    outer_scale: float = 10.0
    wavelength: float = 550e-9

    def __post_init__(self) -> None:
        for field in fields(self):
            unit = " m^(-2/3)" if field.name == "cn2" else " m"
            check_number(field.name, getattr(self, field.name), above=0, unit=unit)

    @property
    def pixel(self) -> float:
        """What a pixel sees, in radians."""
        return self.pixel_pitch / self.focal_length

    @property
    def variance(self) -> float:
        """Of the displacement along one axis, in pixels squared."""
        waves, power = _profile(self.aperture, self.outer_scale)
        return float(self.cn2 * self.path * _integral(power, waves) / self.pixel**2)

    @property
    def rms(self) -> float:
        """Root of the variance: how far a pixel is moved along one axis, in pixels."""
        return math.sqrt(self.variance)

    @property
    def fried(self) -> float:
        """Fried's coherence length r_0 of a spherical wave, in m."""
        wave = 2 * math.pi / self.wavelength
        return float((FRIED * wave**2 * self.cn2 * self.path) ** (-3 / 5))

    @property
    def blur(self) -> float:
        """Standard deviation of the Gaussian blur that the displacement leaves to do, in pixels.

        A long exposure through the air is blurred by Fried's ``exp(-3.44 (wavelength f / r_0)^(5/3))``; the Gaussian
        that falls to 1/e at the same frequency has the standard deviation 0.472 wavelength / r_0. Part of it is the
        moving of the image, which the field does, so its variance is taken off: both together are the long exposure.
        """
        cut = LONG_EXPOSURE ** (-3 / 5) * self.fried / self.wavelength * self.pixel  # cycles per pixel
        return math.sqrt(max(0.0, 1 / (2 * (math.pi * cut) ** 2) - self.variance))

    def spectrum(self, frequency: Array) -> Array:
        """P: variance of one axis, in pixels squared, per radian per pixel.

        Args:
            frequency: Of any shape, in radians per pixel, >= 0.

        Returns:
            As *frequency*.
        """
        waves, power = _profile(self.aperture, self.outer_scale)
        wave = np.maximum(frequency / (self.pixel * self.path), waves[0])  # it is level towards 0
        found: Array = np.exp(np.interp(np.log(wave), np.log(waves), np.log(power), right=-np.inf))
        return self.cn2 * found / self.pixel**3

    def correlation(self, lags: Array) -> tuple[Array, Array]:
        """Covariance of two pixels' displacements along the line through them, and across it; in pixels squared.

        Args:
            lags: Their distance (N,), in pixels, >= 0.

        Returns:
            (parallel, perpendicular), each (N,); both are the variance at 0.

        >>> parallel, perpendicular = Turbulence().correlation(np.array([0.0, 20.0]))
        >>> (parallel / parallel[0]).round(2), (perpendicular / perpendicular[0]).round(2)
        (array([1.  , 0.57]), array([1.  , 0.76]))
        """
        waves, _ = _profile(self.aperture, self.outer_scale)
        near = self.pixel * self.path
        frequency = np.geomspace(waves[0] * near, waves[-1] * near, 8192)
        power = self.spectrum(frequency)
        both, first = (bessel(n, np.multiply.outer(lags, frequency)) for n in (0, 1))
        return _integral(power * (2 * both - first), frequency), _integral(power * first, frequency)


def bessel(order: int, x: Array) -> Array:
    """J_0(x), or, as *order* 1, 2 J_1(x) / x, which is 1 at 0."""
    values = torch.from_numpy(np.maximum(x, 1e-9))
    found: Array = (
        torch.special.bessel_j0(values) if order == 0 else 2 * torch.special.bessel_j1(values) / values
    ).numpy()
    return found


def eddies(aperture: float, outer_scale: float, waves: Array) -> tuple[Array, Array]:
    """The integrand of P over log u, for C_n^2 = 1.

    Args:
        aperture: D, in m.
        outer_scale: L_0, in m.
        waves: q / L (N,), in radians per m.

    Returns:
        u (M,), in radians per m, and the integrand (N, M).
    """
    largest = 2 * math.pi / outer_scale
    u = np.geomspace(1e-3 * min(largest, 1 / aperture), 120 / aperture, DEPTHS)
    index = KOLMOGOROV * ((u + waves[:, None]) ** 2 + largest**2) ** (-11 / 6)
    return u, 2 * math.pi**2 * u**3 * index * bessel(1, u * aperture / 2) ** 2


@functools.lru_cache(maxsize=16)
def _profile(aperture: float, outer_scale: float) -> tuple[Array, Array]:
    """P over q / L, for C_n^2 = 1: (nodes, values)."""
    waves = np.geomspace(1e-4 * min(2 * math.pi / outer_scale, 1 / aperture), 400 / aperture, TURNS)
    u, integrand = eddies(aperture, outer_scale, waves)
    return waves, _trapezoid(integrand, np.log(u))


def _integral(values: Array, nodes: Array) -> Array:
    """Over all positive numbers, of what is level below the first node; *nodes* are even in the logarithm."""
    total: Array = _trapezoid(values * nodes, np.log(nodes)) + values[..., 0] * nodes[0]
    return total


def _trapezoid(values: Array, nodes: Array) -> Array:
    total: Array = ((values[..., 1:] + values[..., :-1]) * np.diff(nodes)).sum(-1) / 2
    return total
