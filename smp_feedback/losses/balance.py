"""Class weights by the effective number of samples: what another pixel of a class still adds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, SupportsFloat

from smp_feedback.checks import check_bool, check_number, check_whole
from smp_feedback.errors import InvalidType, InvalidValue

OFFSET = 1.1  # the published frequencies were weighed by 1 / log(1.1 + share)


def class_balanced_weights(
    counts: Iterable[SupportsFloat],
    beta: float = 0.9999,
    *,
    samples: float | Literal["log"] | None = None,
    ignore_index: int | None = None,
    normalise: bool = False,
) -> list[float]:
    """``(1 - beta) / (1 - beta^n_c)`` for each class c: one over its effective number of samples.

    With n_c samples the effective number runs from 1 (n_c = 1) to at most ``1 / (1 - beta)``, 10,000 by default. Far
    below that the weight is 1 / n_c, far above it is the same for all classes. Pixels are far above: neighbours say the
    same, so that a dataset has fewer samples than pixels; *samples* is how many it has. A class that does not occur
    has the weight 0: there is nothing to weigh, and 1 / 0 would drown the rest.

    Args:
        counts: Pixels or images of each class, as :func:`smp_feedback.data.count_classes` gives them, or their
            shares; each >= 0.
        beta: How much of its forerunners a sample repeats, in [0, 1); 0 weighs all classes alike, 0.9999 as published.
        samples: What n_c is. None: the count itself. A number > 0: that many samples in all, shared as the counts are.
            ``log``: ``100 log(1.1 + share)``, of which the published weights are made: 10 to 74 samples, which temper
            the weights to a ratio of 7.8 at most.
        ignore_index: A class that is not to count, with the weight 0; the shares are those of all counts, its own too.
        normalise: Whether the weights that are not 0 are divided by their mean. The losses here do not mind.

    Raises:
        InvalidType, InvalidValue: For counts that are not numbers >= 0 or all 0, and other arguments out of range.

    Source:
        Cui et al., *Class-Balanced Loss Based on Effective Number of Samples* (2019). ``log``: the class weights of
        ENet, ``1 / log(c + share)`` (Paszke et al. 2016, arXiv 1606.02147), with c = 1.1, which were taken for
        frequencies in percent.

    >>> class_balanced_weights([0, 1, 2, 1000], beta=0.5)
    [0.0, 1.0, 0.6666666666666666, 0.5]
    >>> [round(weight, 4) for weight in class_balanced_weights([0.9, 0.1], samples="log")]
    [0.0145, 0.0549]
    """
    check_number("beta", beta, least=0)
    if beta >= 1:
        raise InvalidValue(f"beta={beta!r}: expected a number from 0 to less than 1, such as 0.9999.")
    check_bool("normalise", normalise)
    numbers = _counts(counts)
    if ignore_index is not None and check_whole("ignore_index", ignore_index, least=0) >= len(numbers):
        raise InvalidValue(f"ignore_index={ignore_index}: expected one of the {len(numbers)} classes counted, or None.")
    weights = [
        _weight(n, beta) if count and c != ignore_index else 0.0
        for c, (count, n) in enumerate(zip(numbers, _samples(numbers, samples), strict=True))
    ]
    if not any(weights):
        raise InvalidValue(f"counts={numbers}: expected at least one number > 0 besides that of ignore_index.")
    return _of_mean_one(weights) if normalise else weights


def _counts(counts: Iterable[SupportsFloat]) -> list[float]:
    try:
        numbers = [float(count) for count in counts]
    except (TypeError, ValueError):
        raise InvalidType(f"counts={counts!r}: expected one number >= 0 for each class.") from None
    for number in numbers:
        check_number("counts", number, least=0)
    return numbers


def _samples(counts: list[float], samples: float | str | None) -> list[float]:
    """n_c of each class."""
    total = math.fsum(counts) or 1.0
    if samples is None:
        return counts
    if samples == "log":
        return [100 * math.log(OFFSET + count / total) for count in counts]
    if isinstance(samples, str):
        raise InvalidValue(f"samples={samples!r}: expected None, 'log' or a number > 0.")
    check_number("samples", samples, above=0)
    return [samples * count / total for count in counts]


def _weight(n: float, beta: float) -> float:
    """Exact for small n, too, where 1 - beta^n is not."""
    return (1 - beta) / -math.expm1(n * math.log(beta)) if beta else 1.0


def _of_mean_one(weights: list[float]) -> list[float]:
    there = [weight for weight in weights if weight]
    return [weight * len(there) / math.fsum(there) for weight in weights]
