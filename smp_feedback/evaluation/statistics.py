"""Paired statistics over seeds: what a few repetitions can say, and what they cannot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from smp_feedback.errors import InvalidValue

AHEAD = "ahead"
BEHIND = "behind"
LEVEL = "not shown"
ONE_SEED = "one seed: no spread"
NO_SEED = "nothing to compare"
EXACT = 12  # seeds up to which all 2^n signs are tried
DRAWS = 99_999  # signs drawn beyond that
CHANCE = 0.025  # of a 95 % interval, where there is nothing, to lie above zero


@dataclass(frozen=True)
class Paired:
    """Differences feedback - twin, one per seed: the seed's data, order and initial weights are shared.

    >>> gains = Paired((0.02, 0.03, 0.025))
    >>> round(gains.mean, 3), round(gains.sd, 3), gains.agree, gains.p, gains.verdict
    (0.025, 0.005, 3, 0.25, 'ahead')
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over seeds; NaN without any."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan

    @property
    def sd(self) -> float:
        """The standard deviation over seeds (n - 1); NaN below two."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % t interval of the mean; NaN below two seeds."""
        if len(self.values) < 2:
            return math.nan, math.nan
        half = t_quantile(len(self.values) - 1) * self.sd / math.sqrt(len(self.values))
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Two-sided sign-flip permutation p value; NaN without any seed."""
        return sign_flip(self.values) if self.values else math.nan

    @property
    def agree(self) -> int:
        """Number of seeds whose difference has the sign of the mean."""
        sign = np.sign(self.mean)
        return int(sum(np.sign(value) == sign != 0 for value in self.values))

    @property
    def verdict(self) -> str:
        """``ahead`` (or ``behind``) if the 95 % interval is on one side of zero; else that is ``not shown``."""
        if len(self.values) < 2:
            return ONE_SEED if self.values else NO_SEED
        low, high = self.interval
        return AHEAD if low > 0 else BEHIND if high < 0 else LEVEL


def sign_flip(values: Sequence[float]) -> float:
    """Share of the ways to choose each difference's sign whose mean is at least as far from 0 as the one seen.

    If feedback and twin were the same, either could have had either score: all signs would be as likely. Up to 12
    seeds every choice is counted; beyond, 99,999 are drawn with a fixed seed, and the one seen counts among them.

    >>> sign_flip([1.0, 2.0, 3.0])
    0.25
    """
    seen = np.asarray(values, dtype=np.float64)
    exact = len(seen) <= EXACT
    if exact:
        signs = np.array(list(product((1, -1), repeat=len(seen))), dtype=np.int8)
    else:
        signs = np.random.default_rng(0).integers(0, 2, (DRAWS, len(seen)), dtype=np.int8) * 2 - 1
    ties = 1e-9 * np.abs(seen).sum()
    hits = int((np.abs(signs @ seen) >= abs(seen.sum()) - ties).sum())
    return hits / len(signs) if exact else (hits + 1) / (DRAWS + 1)


def smallest_p(n: int) -> float:
    """The smallest p value that *n* seeds can reach: all signs alike, or all opposite.

    >>> smallest_p(3)
    0.25
    """
    return min(1.0, 2.0 ** (1 - n)) if n <= EXACT else max(2.0 ** (1 - n), 1 / (DRAWS + 1))


def t_probability(t: float, df: int) -> float:
    """P(-t <= T <= t) of Student's t with *df* degrees of freedom, in closed form (Abramowitz & Stegun 26.7.3-4).

    >>> t_probability(1.0, 1)
    0.5
    """
    angle = math.atan(t / math.sqrt(df))
    odd, cos, total = df % 2, math.cos(angle), 0.0
    term = cos if odd else 1.0
    for k in range(odd, df - 1, 2):
        total += term
        term *= (k + 1) / (k + 2) * cos**2
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total


def t_quantile(df: int, level: float = 0.95) -> float:
    """The t with P(-t <= T <= t) = *level*, by bisection.

    Args:
        df: Degrees of freedom, >= 1.
        level: In (0, 1).

    >>> round(t_quantile(2), 3)
    4.303
    """
    if df < 1 or not 0 < level < 1:
        raise InvalidValue(f"df={df!r}, level={level!r}: expected df >= 1 and 0 < level < 1.")
    low, high = 0.0, math.pi / 2  # t = sqrt(df) tan(angle): a bounded search
    for _ in range(60):
        middle = (low + high) / 2
        if t_probability(math.sqrt(df) * math.tan(middle), df) < level:
            low = middle
        else:
            high = middle
    return math.sqrt(df) * math.tan(low)


def significance(n: int) -> str:
    """One sentence on what *n* seeds can show."""
    if n < 1:
        return "No seed was scored for feedback and a twin alike: nothing can be said."
    if n == 1:
        return "With 1 seed there is no spread, and no test: any difference may be chance; repeat with 3 seeds or more."
    if smallest_p(n) >= 0.05:
        return (
            f"With {n} seeds no test can reach p < 0.05 (the smallest possible is {smallest_p(n):.2g}): "
            "read the differences beside their spread."
        )
    return (
        f"With {n} seeds the smallest possible p is {smallest_p(n):.2g}; p values are of sign-flip permutations, and "
        "are not corrected for the number of conditions looked at."
    )
