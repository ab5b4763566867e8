"""Search the two exponents of a law by variable projection (Golub and Pereyra, 1973).

L = E + x A + y B with x = (N / N0)^-a and y = (D / D0)^-b, N0 and D0 the geometric means of the
points. For given a and b that is linear: E, A and B, none below 0, are solved for and leave two
unknowns of five. The search starts at the best pair of a grid, which puts it into the deepest
valley, and goes on in Levenberg-Marquardt steps of log a and log b (with the derivative of Kaufman,
1975) until they stand still. Many sets of losses are searched side by side.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_EXPONENTS = (0.02, 2.0)
_N_GRID = 20
_MOST_STEPS = 200
_STILL = 1e-10
_DAMPING = (1e-12, 1e-3, 1e12)
_SUBSETS = [s for n in (3, 2, 1) for s in combinations(range(3), n)]


@dataclass(frozen=True, slots=True)
class Solved:
    """The best law of each set: exponents (sets, 2); E, A, B at the geometric means (sets, 3)."""

    exponents: Array
    parts: Array


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the search of each set stands: what one pair of exponents gives."""

    logs: Array  # of a and b, (sets, 2)
    columns: Array  # weighted 1, x and y, (sets, points, 3)
    parts: Array  # (sets, 3)
    errors: Array  # (sets,)

    def of(self, sets: NDArray[Any]) -> "_Place":
        """Return where some sets stand."""
        return _Place(self.logs[sets], self.columns[sets], self.parts[sets], self.errors[sets])

    def put(self, sets: NDArray[Any], new: "_Place") -> None:
        """Move these sets to other places."""
        self.logs[sets], self.columns[sets] = new.logs, new.columns
        self.parts[sets], self.errors[sets] = new.parts, new.errors


def search(log_sizes: Array, log_tokens: Array, losses: Array) -> Solved:
    """Minimise squared relative residuals. Logarithms are (points,), losses (points, sets)."""
    weights = 1 / np.median(losses, axis=1)  # about 1 / L, the same for all sets
    wanted = losses * weights[:, None]
    design = _Design(log_sizes - log_sizes.mean(), log_tokens - log_tokens.mean(), weights)
    axis = np.log(np.geomspace(*_EXPONENTS, _N_GRID))
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    _, errors = _solve(design.columns(grid), wanted)
    at = _descend(design, wanted.T, grid[errors.argmin(axis=0)])
    return Solved(np.exp(at.logs), at.parts)


@dataclass(frozen=True, slots=True)
class _Design:
    """The points as the linear problem sees them; every array is (points,)."""

    log_sizes: Array
    log_tokens: Array
    weights: Array

    def columns(self, logs: Array) -> Array:
        """Return weighted 1, x and y for pairs of logarithms (pairs, 2): (pairs, points, 3)."""
        a, b = np.exp(logs).T[:, :, None]
        x, y = np.exp(-a * self.log_sizes), np.exp(-b * self.log_tokens)
        return np.stack([np.ones_like(x), x, y], axis=2) * self.weights[:, None]

    def place(self, logs: Array, wanted: Array) -> _Place:
        """Solve set i, a row of `wanted` (sets, points), at pair i."""
        columns = self.columns(logs)
        parts, errors = _solve(columns, wanted[:, :, None])
        return _Place(logs, columns, parts[:, :, 0], errors[:, 0])

    def slopes(self, at: _Place) -> Array:
        """Return how fitted losses change with log a and log b, the parts following.

        (sets, points, 2). What E, A and B can take up of the change is projected away.
        """
        factors = -np.exp(at.logs) * at.parts[:, 1:]
        along = np.stack([self.log_sizes, self.log_tokens], axis=1)
        raw = at.columns[:, :, 1:] * along * factors[:, None, :]
        used = at.columns * (at.parts > 0)[:, None, :]
        projected: Array = raw - used @ (np.linalg.pinv(used) @ raw)
        return projected


def _descend(design: _Design, wanted: Array, logs: Array) -> _Place:
    """Go from pairs (sets, 2) to where no step is left; `wanted` is (sets, points)."""
    least, first, most = _DAMPING
    damping = np.full(len(logs), first)
    at = design.place(logs, wanted)
    going = np.arange(len(logs))
    for _ in range(_MOST_STEPS):
        here = at.of(going)
        step = _step(design.slopes(here), here, wanted[going], damping[going])
        tried = design.place(np.clip(here.logs + step, *np.log(_EXPONENTS)), wanted[going])
        better = tried.errors < here.errors
        at.put(going[better], tried.of(better))
        less, more = damping[going] / 10, damping[going] * 5
        damping[going] = np.clip(np.where(better, less, more), least, most)
        going = going[np.abs(tried.logs - here.logs).max(axis=1) >= _STILL]
        if not len(going):
            break
    return at


def _step(slopes: Array, at: _Place, wanted: Array, damping: Array) -> Array:
    """Return a damped Gauss-Newton step of the logarithms (sets, 2), at most 1 in each.

    An exponent at its bound that would leave it stays, and the other goes alone.
    """
    residuals = wanted - (at.columns @ at.parts[:, :, None])[:, :, 0]
    downhill = (slopes * residuals[:, :, None]).sum(axis=1)
    low, high = np.log(_EXPONENTS)
    held = ((at.logs <= low) & (downhill < 0)) | ((at.logs >= high) & (downhill > 0))
    slopes = np.where(held[:, None, :], 0, slopes)
    downhill = np.where(held, 0, downhill)
    curvature = slopes.swapaxes(1, 2) @ slopes
    diagonal = np.einsum("sii->si", curvature)
    added = np.where(diagonal > 0, damping[:, None] * diagonal, 1)
    damped = curvature + np.eye(2) * added[:, :, None]
    return np.clip(np.linalg.solve(damped, downhill[:, :, None])[:, :, 0], -1, 1)


def _solve(columns: Array, wanted: Array) -> tuple[Array, Array]:
    """Solve for E, A and B, none below 0; a part that would be is left out instead.

    columns are (pairs, points, 3), wanted (points, sets) or (pairs, points, sets). Returns parts
    (pairs, 3, sets) and squared errors (pairs, sets).
    """
    n_pairs, n_sets = len(columns), wanted.shape[-1]
    best = np.full((n_pairs, n_sets), np.inf)
    parts = np.zeros((n_pairs, 3, n_sets))
    for subset in _SUBSETS:
        some = columns[:, :, subset]
        across, upper = np.linalg.qr(some)
        solved = np.linalg.solve(upper, across.swapaxes(1, 2) @ wanted)  # (pairs, parts, sets)
        errors = ((some @ solved - wanted) ** 2).sum(axis=1)
        better = (solved >= 0).all(axis=1) & (errors < best)
        whole = np.zeros_like(parts)
        whole[:, subset, :] = solved
        parts = np.where(better[:, None, :], whole, parts)
        best = np.where(better, errors, best)
    return parts, best
