"""The law of Hoffmann et al. (arXiv:2203.15556): L = E + A / N^a + B / D^b.

N is non-embedding parameters (as in arXiv:2001.08361), D tokens learnt from, L a loss. Once a and b
are fixed the rest is linear, so no search can end in a wrong valley: all pairs (a, b) of a grid are
solved at once, E, A and B not below 0, and the grid is narrowed around the best. Squared residuals
are relative ones, which are those of log L while they are small. (Hoffmann et al. minimise a Huber
loss of log L from many starts.)

Intervals refit data drawn from the law with normal noise. Its size is itself drawn, as uncertain as
n - 5 residuals leave it (chi squared), which makes the tails those of Student's t. They hold the
truth only as far as the law does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tinyllm.evaluation.statistics import Interval

N_UNKNOWNS = 5
FEWEST_POINTS = 6
FEWEST_KINDS = 3
"""So many different sizes, and amounts of data: an exponent takes three."""

_EXPONENTS = (0.02, 2.0)
_COARSE, _FINE, _N_ZOOMS = 40, 9, 24
_N_DRAWS = 400
_SUBSETS = [s for n in (3, 2, 1) for s in combinations(range(3), n)]

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
    """Narrow the grid of exponents around the best pair until it no longer moves."""
    a_axis = b_axis = np.geomspace(*_EXPONENTS, _COARSE)
    for _ in range(_N_ZOOMS):
        a, b = (grid.ravel() for grid in np.meshgrid(a_axis, b_axis, indexing="ij"))
        parts, errors = _solve(points, losses[:, None], a, b)
        best = int(errors[:, 0].argmin())
        a_axis, b_axis = _narrowed(a_axis, a[best]), _narrowed(b_axis, b[best])
    size_scale, data_scale = _scales(points)
    irreducible, size_part, data_part = (float(x) for x in parts[best, :, 0])
    return Law(
        irreducible,
        size_part * size_scale ** float(a[best]),
        float(a[best]),
        data_part * data_scale ** float(b[best]),
        float(b[best]),
    )


def _narrowed(axis: Array, best: float) -> Array:
    """Return an axis of two steps around the best value, half as wide or less.

    One step would be too few: the valley is long and narrow, and lies aslant in the grid.
    """
    at = int(np.abs(axis - best).argmin())
    return np.geomspace(axis[max(0, at - 2)], axis[min(len(axis) - 1, at + 2)], _FINE)


def _scales(points: Sequence[Point]) -> tuple[float, float]:
    """Return the geometric means of sizes and tokens: in their units the equations are tame."""
    sizes = float(np.exp(np.mean(np.log([p.n_parameters for p in points]))))
    tokens = float(np.exp(np.mean(np.log([p.n_tokens for p in points]))))
    return sizes, tokens


def _solve(points: Sequence[Point], losses: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Solve for E, A and B, none below 0, at every pair of exponents and for every set of losses.

    losses is (points, sets), a and b are (pairs,). Returns the parts at the points' geometric mean
    (pairs, 3, sets) and the relative squared errors (pairs, sets).
    """
    size_scale, data_scale = _scales(points)
    sizes = np.array([p.n_parameters for p in points]) / size_scale
    tokens = np.array([p.n_tokens for p in points]) / data_scale
    columns = [np.ones((len(a), len(points))), sizes ** -a[:, None], tokens ** -b[:, None]]
    design = np.stack(columns, axis=2)  # (pairs, points, 3)
    weights = 1 / losses.mean(axis=1)  # about 1 / L, the same for all sets
    design = design * weights[:, None]
    wanted = losses * weights[:, None]
    best = np.full((len(a), losses.shape[1]), np.inf)
    parts = np.zeros((len(a), 3, losses.shape[1]))
    for subset in _SUBSETS:  # a part that would be below 0 is left out instead
        some = design[:, :, subset]
        across, upper = np.linalg.qr(some)
        solved = np.linalg.solve(upper, across.swapaxes(1, 2) @ wanted)  # (pairs, parts, sets)
        errors = ((some @ solved - wanted) ** 2).sum(axis=1)
        better = (solved >= 0).all(axis=1) & (errors < best)
        whole = np.zeros_like(parts)
        whole[:, subset, :] = solved
        parts = np.where(better[:, None, :], whole, parts)
        best = np.where(better, errors, best)
    return parts, best


def _intervals(
    points: Sequence[Point], law: Law, expected: Array, residuals: Array, seed: int
) -> dict[str, Interval]:
    """Return 95 % intervals, which are as coarse as the first grid: steps of an eighth."""
    generator = np.random.default_rng(seed)
    degrees = len(points) - N_UNKNOWNS
    spread = np.sqrt(float(residuals @ residuals) / generator.chisquare(degrees, _N_DRAWS))
    noise = generator.normal(size=(len(points), _N_DRAWS)) * spread
    drawn = expected[:, None] * np.exp(noise)
    axis = np.geomspace(*_EXPONENTS, _COARSE)
    a, b = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    parts, errors = _solve(points, drawn, a, b)
    best = errors.argmin(axis=0)
    values = {
        "irreducible": parts[best, 0, np.arange(_N_DRAWS)],
        "size_exponent": a[best],
        "data_exponent": b[best],
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
