"""How sure a score is: intervals, standard errors and exact tests. Pure functions.

Samples are independent items (questions), each with a score between 0 and 1.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

Z_95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


class Interval(NamedTuple):
    """A range that holds the true value with the stated confidence."""

    low: float
    high: float


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean. Raises ValueError for no values."""
    if not values:
        raise ValueError("the mean of no values does not exist")
    return math.fsum(values) / len(values)


def standard_error(values: Sequence[float]) -> float:
    """Return sd/sqrt(n) with the sample standard deviation (n - 1); NaN below two values."""
    n = len(values)
    if n < 2:
        return math.nan
    centre = mean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (n - 1) / n)


def binomial_tail(n_successes: int, n: int, probability: float) -> float:
    """Return P(X >= n_successes) for X ~ Binomial(n, probability): the exact one-sided p-value."""
    if not 0 <= probability <= 1:
        raise ValueError(f"a probability lies in 0 to 1, found {probability}")
    if n_successes <= 0:
        return 1.0
    if n_successes > n:
        return 0.0
    if probability in (0, 1):
        return probability
    terms = (_log_binomial(k, n, probability) for k in range(n_successes, n + 1))
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def _log_binomial(k: int, n: int, probability: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return ways + k * math.log(probability) + (n - k) * math.log1p(-probability)


def wilson_interval(n_successes: float, n: int, z: float = Z_95) -> Interval:
    """Return the Wilson score interval of a proportion (Wilson 1927); 95 % by default.

    Fractional successes (shared ties) are taken as they are.
    """
    if n <= 0 or not 0 <= n_successes <= n:
        raise ValueError(f"wanted 0 <= successes <= n with n > 0, found {n_successes} of {n}")
    share = n_successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Interval(max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def bootstrap_interval(
    values: Sequence[float],
    *,
    seed: int,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    statistic: Callable[[Sequence[float]], float] = mean,
) -> Interval:
    """Return the percentile bootstrap interval of a statistic (Efron 1979), by seed."""
    if not values:
        raise ValueError("no values to resample")
    generator = random.Random(seed)
    drawn = sorted(statistic(generator.choices(values, k=len(values))) for _ in range(n_resamples))
    tail = (1 - confidence) / 2
    return Interval(_quantile(drawn, tail), _quantile(drawn, 1 - tail))


def _quantile(ordered: Sequence[float], q: float) -> float:
    """Interpolate linearly between the two nearest ordered values."""
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
