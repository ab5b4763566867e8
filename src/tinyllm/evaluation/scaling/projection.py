"""Search the two exponents of a law by variable projection (Golub and Pereyra, 1973).

L = E + x A + y B with x = (N / N0)^-a and y = (D / D0)^-b, N0 and D0 the geometric means of the
points. For given a and b that is linear: E, A and B, none below 0, are solved for and leave two
unknowns of five. The search starts at the best pair of a grid, which puts it into the deepest
valley, and goes on in damped Newton steps of log a and log b until they stand still; the curvature
comes from differences of the exact slope, since what noise leaves over bends a valley too much for
Gauss and Newton's. Then it looks along either exponent for a lower place: where a part is 0, its
exponent says nothing, and the valley beside may be deeper. Many sets of losses are searched side by
side.
"""

from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_EXPONENTS = (0.02, 2.0)
_N_GRID = 20
_MOST_STEPS = 200
_STILL = 1e-10
_DIFFERENCE = 1e-5
"""Between the logarithms whose slopes give the curvature."""
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
    _, errors = _solve(design.columns(grid), wanted)  # (pairs, sets)
    at = _descend(design, wanted.T, grid[errors.argmin(axis=0)])
    at = _descend(design, wanted.T, _lowest_along(design, wanted.T, at, axis))
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

    def downhill(self, at: _Place, wanted: Array) -> Array:
        """Return how half the squared error falls with log a and log b, the parts following.

        Returns (sets, 2). What E, A and B can take up of a change is at right angles to what is
        left over, so that it need not be taken out.
        """
        factors = -np.exp(at.logs) * at.parts[:, 1:]
        along = np.stack([self.log_sizes, self.log_tokens], axis=1)
        slopes = at.columns[:, :, 1:] * along * factors[:, None, :]  # (sets, points, 2)
        left_over = wanted - (at.columns @ at.parts[:, :, None])[:, :, 0]
        fall: Array = (slopes * left_over[:, :, None]).sum(axis=1)
        return fall

    def curvature(self, at: _Place, wanted: Array) -> Array:
        """Return how fast the slope of half the squared error grows, (sets, 2, 2)."""
        columns = []
        for shift in np.eye(2) * _DIFFERENCE:
            above, below = (self.place(at.logs + d, wanted) for d in (shift, -shift))
            fall = self.downhill(below, wanted) - self.downhill(above, wanted)
            columns.append(fall / (2 * _DIFFERENCE))
        bent = np.stack(columns, axis=2)
        both: Array = (bent + bent.swapaxes(1, 2)) / 2
        return both


def _lowest_along(design: _Design, wanted: Array, at: _Place, axis: Array) -> Array:
    """Return the lowest pair of where each set stands and both lines through it, (sets, 2)."""
    lowest = at.of(np.arange(len(at.errors)))
    for which, value in product((0, 1), axis):
        logs = at.logs.copy()
        logs[:, which] = value
        tried = design.place(logs, wanted)
        lower = np.flatnonzero(tried.errors < lowest.errors)
        lowest.put(lower, tried.of(lower))
    return lowest.logs


def _descend(design: _Design, wanted: Array, logs: Array) -> _Place:
    """Go from pairs (sets, 2) to where no step is left; `wanted` is (sets, points)."""
    least, first, most = _DAMPING
    damping = np.full(len(logs), first)
    at = design.place(logs, wanted)
    going = np.arange(len(logs))
    for _ in range(_MOST_STEPS):
        here = at.of(going)
        step = _step(design, here, wanted[going], damping[going])
        tried = design.place(np.clip(here.logs + step, *np.log(_EXPONENTS)), wanted[going])
        better = tried.errors < here.errors
        at.put(going[better], tried.of(better))
        less, more = damping[going] / 10, damping[going] * 5
        damping[going] = np.clip(np.where(better, less, more), least, most)
        going = going[np.abs(tried.logs - here.logs).max(axis=1) >= _STILL]
        if not len(going):
            break
    return at


def _step(design: _Design, at: _Place, wanted: Array, damping: Array) -> Array:
    """Return a damped Newton step of the logarithms (sets, 2), at most 1 in each.

    Where the error bends downwards, the step goes downhill all the same. An exponent at its bound
    that would leave it stays, and the other goes alone.
    """
    downhill = design.downhill(at, wanted)
    low, high = np.log(_EXPONENTS)
    held = ((at.logs <= low) & (downhill < 0)) | ((at.logs >= high) & (downhill > 0))
    downhill = np.where(held, 0, downhill)
    apart = held[:, :, None] | held[:, None, :]
    bends, turns = np.linalg.eigh(np.where(apart, 0, design.curvature(at, wanted)))
    steepness = np.abs(bends) * (1 + damping[:, None])
    turned = (turns.swapaxes(1, 2) @ downhill[:, :, None])[:, :, 0]
    steps = np.divide(turned, steepness, out=np.zeros_like(turned), where=steepness > 0)
    step: Array = np.clip((turns @ steps[:, :, None])[:, :, 0], -1, 1)
    return step


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
