"""The law of Hoffmann et al. (arXiv:2203.15556): L = E + A / N^a + B / D^b.

N is non-embedding parameters (as in arXiv:2001.08361), D tokens learnt from, L a loss. The law with
the least squared relative residuals is taken (`projection.py` searches it); while they are small,
they are those of log L, of which Hoffmann et al. minimise a Huber loss from many starts.

Intervals refit data drawn from the law with normal noise. Its size is itself drawn, as uncertain as
n - 5 residuals leave it (chi squared), which makes the tails those of Student's t. They hold the
truth only as far as the law does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyllm.evaluation.scaling.projection import search
from tinyllm.evaluation.statistics import Interval

N_UNKNOWNS = 5
FEWEST_POINTS = 6
FEWEST_KINDS = 3
"""So many different sizes, and amounts of data: an exponent takes three."""

_MOST_ALIKE = 0.99
"""Correlation of log N and log D. At 1 the law adds two powers of N, and either may be size's."""

_N_DRAWS = 400

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """One trained model."""

    n_parameters: float
    n_tokens: float
    loss: float


@dataclass(frozen=True, slots=True)
class Law:
    """The five numbers."""

    irreducible: float
    size_factor: float
    size_exponent: float
    data_factor: float
    data_exponent: float

    def loss(self, n_parameters: float, n_tokens: float) -> float:
        """Return the loss that the law expects."""
        of_size: float = self.size_factor * n_parameters**-self.size_exponent
        of_data: float = self.data_factor * n_tokens**-self.data_exponent
        return self.irreducible + of_size + of_data


@dataclass(frozen=True, slots=True)
class Fit:
    """The law, how well it meets the points, and how sure its numbers are.

    Errors are relative: 0.01 is one percent of the loss. `left_out_error` is that of predicting
    each point from all others.
    """

    law: Law
    residual_error: float
    largest_residual: float
    left_out_error: float | None
    intervals: dict[str, Interval]
    n_points: int


def why_not(points: Sequence[Point]) -> str | None:
    """Say in one sentence why no law can be fitted to these points; None where one can."""
    n_sizes = len({p.n_parameters for p in points})
    n_amounts = len({p.n_tokens for p in points})
    if len(points) < FEWEST_POINTS:
        return (
            f"the law has {N_UNKNOWNS} unknowns, and {len(points)} models are too few for it: "
            f"train {FEWEST_POINTS} or more"
        )
    if n_sizes < FEWEST_KINDS or n_amounts < FEWEST_KINDS:
        return (
            f"these models have {n_sizes} different sizes and {n_amounts} different amounts of "
            f"tokens, and an exponent takes {FEWEST_KINDS} of each"
        )
    if abs(float(np.corrcoef(*_logs(points))[0, 1])) > _MOST_ALIKE:
        return (
            "sizes and tokens of these models go up in one proportion, so what size does and what "
            "data does cannot be told apart: train some size on two amounts"
        )
    return None


def fit(points: Sequence[Point], *, seed: int) -> Fit:
    """Fit the law. Raises ValueError for points of which `why_not` says why not."""
    reason = why_not(points)
    if reason is not None:
        raise ValueError(reason)
    losses = np.array([p.loss for p in points])
    law = _fit_once(points, losses)
    expected = np.array([law.loss(p.n_parameters, p.n_tokens) for p in points])
    residuals = losses / expected - 1
    noise = math.sqrt(float(residuals @ residuals) / (len(points) - N_UNKNOWNS))
    return Fit(
        law=law,
        residual_error=noise,
        largest_residual=float(np.abs(residuals).max()),
        left_out_error=_left_out_error(points),
        intervals=_intervals(points, law, expected, residuals, seed),
        n_points=len(points),
    )


def _fit_once(points: Sequence[Point], losses: Array) -> Law:
    """Find the law of least squared relative residuals; losses are (points,)."""
    log_sizes, log_tokens = _logs(points)
    solved = search(log_sizes, log_tokens, losses[:, None])
    a, b = (float(x) for x in solved.exponents[0])
    irreducible, of_size, of_data = (float(x) for x in solved.parts[0])
    return Law(
        irreducible,
        of_size * math.exp(a * log_sizes.mean()),
        a,
        of_data * math.exp(b * log_tokens.mean()),
        b,
    )


def _logs(points: Sequence[Point]) -> tuple[Array, Array]:
    """Return the logarithms of sizes and tokens."""
    return np.log([p.n_parameters for p in points]), np.log([p.n_tokens for p in points])


def _intervals(
    points: Sequence[Point], law: Law, expected: Array, residuals: Array, seed: int
) -> dict[str, Interval]:
    """Return 95 % intervals of E, a and b."""
    generator = np.random.default_rng(seed)
    degrees = len(points) - N_UNKNOWNS
    spread = np.sqrt(float(residuals @ residuals) / generator.chisquare(degrees, _N_DRAWS))
    noise = generator.normal(size=(len(points), _N_DRAWS)) * spread
    solved = search(*_logs(points), expected[:, None] * np.exp(noise))
    values = {
        "irreducible": solved.parts[:, 0],
        "size_exponent": solved.exponents[:, 0],
        "data_exponent": solved.exponents[:, 1],
    }
    return {name: _around(getattr(law, name), drawn) for name, drawn in values.items()}


def _around(value: float, drawn: Array) -> Interval:
    """Return the middle 95 % of what was drawn, the value itself included."""
    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    return Interval(min(low, value), max(high, value))


def _left_out_error(points: Sequence[Point]) -> float | None:
    """Return the root mean square of relative errors of predicting each point from the others."""
    errors = []
    for i, point in enumerate(points):
        others = [*points[:i], *points[i + 1 :]]
        if why_not(others) is not None:
            return None
        law = _fit_once(others, np.array([p.loss for p in others]))
        errors.append(law.loss(point.n_parameters, point.n_tokens) / point.loss - 1)
    return math.sqrt(sum(error * error for error in errors) / len(errors))
