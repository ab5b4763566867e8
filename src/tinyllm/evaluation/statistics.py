"""How sure a score is: intervals, standard errors and tests. Pure functions.

Items (questions) are independent. Clusters are groups of items that are not: ten completions of
one prompt are one cluster, and only clusters are ever resampled or exchanged.
"""

import math
import random
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""

_N_SIGN_FLIPS = 9999
_MOST_EXACT_FLIPS = 14
"""Up to so many clusters that differ, all 2^n assignments of signs are gone through."""
_VALUES_AT_ONCE = 1 << 22
_ROUNDING = 1e-12
"""Sums that differ by this share are equal but for the order of addition."""


class Interval(NamedTuple):
    """A range that holds the true value with the stated confidence."""

    low: float
    high: float


class PairedDifference(NamedTuple):
    """How much higher the first of two models scores on the same clusters."""

    mean: float
    interval: Interval
    p_value: float


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
    low = 0.0 if n_successes == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if n_successes == n else min(1.0, (centre + half) / scale)
    return Interval(low, high)


def mcnemar_exact(n_only_a: int, n_only_b: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (1947).

    `n_only_a` questions only the first model answered rightly, `n_only_b` only the second; those
    that both or neither knew say nothing.
    """
    if n_only_a < 0 or n_only_b < 0:
        raise ValueError(f"counts are not negative, found {n_only_a} and {n_only_b}")
    return min(1.0, 2 * binomial_tail(max(n_only_a, n_only_b), n_only_a + n_only_b, 0.5))


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


def cluster_means(clusters: Sequence[Sequence[float]]) -> list[float]:
    """Return each cluster's mean. Raises ValueError without clusters, or for an empty one."""
    if not clusters:
        raise ValueError("no clusters to resample")
    return [mean(cluster) for cluster in clusters]


def cluster_bootstrap_interval(
    clusters: Sequence[Sequence[float]],
    *,
    seed: int,
    n_resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return the interval of the mean over clusters of their means, resampling whole clusters.

    The percentiles taken are those of the expanded percentile interval (Hesterberg 2015,
    doi:10.1080/00031305.2015.1089789): the plain ones make intervals that are too narrow by about
    sqrt((n - 1) / n) and by the normal's tails in place of Student's, which tells at 50 clusters.
    One cluster shows nothing of how clusters differ: its interval is NaN to NaN.
    """
    centres = np.asarray(cluster_means(clusters))
    n = len(centres)
    if n < 2:
        return Interval(math.nan, math.nan)
    generator = np.random.default_rng(seed)
    drawn = np.concatenate(
        [
            centres[generator.integers(0, n, (rows, n))].mean(axis=1)
            for rows in _portions(n_resamples, n)
        ]
    )
    reach = math.sqrt(n / (n - 1)) * student_t_quantile((1 + confidence) / 2, n - 1)
    tail = NormalDist().cdf(-reach)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(low), float(high))


def paired_difference(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], *, seed: int
) -> PairedDifference:
    """Compare two models on the same clusters, in the same order: `mean` is of a minus b.

    The p-value is that of the two-sided sign-flip permutation test: for equal models, which could
    be swapped cluster by cluster, it is below x at most as often as x, at every n and whatever the
    grades look like. Student's t promises that for normal differences only. In simulation both
    reject equal models at their nominal rate at 50 clusters; where only a handful of them differ,
    this one rejects more rarely.
    Raises ValueError unless both have the same number of clusters.
    """
    if len(a) != len(b):
        raise ValueError(f"wanted the same clusters of both models, found {len(a)} and {len(b)}")
    differences = [x - y for x, y in zip(cluster_means(a), cluster_means(b), strict=True)]
    return PairedDifference(
        mean(differences),
        cluster_bootstrap_interval([[d] for d in differences], seed=seed),
        sign_flip_p_value(differences, seed=seed),
    )


def sign_flip_p_value(differences: Sequence[float], *, seed: int) -> float:
    """Return the two-sided p-value that the differences are symmetric around 0.

    All assignments of signs are counted where they are few; otherwise 9,999 random ones and the
    one that was seen, so that p is never 0 (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).
    """
    sizes = np.abs([d for d in differences if d != 0])
    if not len(sizes):
        return 1.0
    observed = abs(math.fsum(differences)) - _ROUNDING * float(sizes.sum())
    if len(sizes) <= _MOST_EXACT_FLIPS:
        codes = np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes))
        return float(np.mean(_flipped_sums(sizes, codes & 1) >= observed))
    generator = np.random.default_rng(seed)
    n_as_far = sum(
        int(
            np.sum(
                _flipped_sums(sizes, generator.integers(0, 2, (rows, len(sizes)), dtype=np.int8))
                >= observed
            )
        )
        for rows in _portions(_N_SIGN_FLIPS, len(sizes))
    )
    return (n_as_far + 1) / (_N_SIGN_FLIPS + 1)


def _flipped_sums(
    sizes: NDArray[np.float64], bits: NDArray[np.signedinteger]
) -> NDArray[np.float64]:
    """Return |sum of sizes, negative where the bit is 1|; bits is (rows, n), the result (rows,)."""
    sums: NDArray[np.float64] = np.abs(sizes.sum() - 2 * (bits @ sizes))
    return sums


def _portions(total: int, width: int) -> list[int]:
    """Part `total` rows of `width` values so that no part is large in memory."""
    most = max(1, _VALUES_AT_ONCE // width)
    return [min(most, total - begin) for begin in range(0, total, most)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for being several (Holm 1979), in the order given."""
    n = len(p_values)
    adjusted, least = [0.0] * n, 0.0
    for rank, i in enumerate(sorted(range(n), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (n - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def student_t_quantile(probability: float, degrees: int) -> float:
    """Return the point below which Student's t with so many degrees of freedom lies.

    `probability` is between 0.5 and 1.
    """
    low, high = 0.0, 1.0
    while _student_t_cdf(high, degrees) < probability:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if _student_t_cdf(middle, degrees) < probability else (low, middle)
        )
    return (low + high) / 2


def _student_t_cdf(t: float, degrees: int) -> float:
    """Sum the finite series for whole degrees (Abramowitz and Stegun 26.7.3 and 26.7.4); t >= 0."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(angle)
    is_odd = degrees % 2
    term = cosine if is_odd else 1.0
    series = term if degrees > 1 else 0.0
    for k in range(2 + is_odd, degrees - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        series += term
    inside = series * math.sin(angle)
    if is_odd:
        inside = 2 / math.pi * (angle + inside)
    return (1 + inside) / 2
