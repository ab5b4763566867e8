"""The fit finds a law that is there, and says when none can be found."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from tinyllm.evaluation.scaling.law import Law, Point, fit, why_not
from tinyllm.evaluation.scaling.projection import search

CHINCHILLA = Law(1.69, 406.4, 0.34, 410.7, 0.28)
"""The published numbers (arXiv:2203.15556, approach 3)."""
SIZES, AMOUNTS = (2e5, 8e5, 3e6), (1e6, 2e6, 4e6)


def points(law, noise=0.0, seed=0, sizes=SIZES, amounts=AMOUNTS):
    generator = np.random.default_rng(seed)
    return [
        Point(n, d, law.loss(n, d) * float(np.exp(generator.normal(0, noise))))
        for n, d in itertools.product(sizes, amounts)
    ]


@settings(max_examples=4, deadline=None)
@given(
    st.floats(0.2, 2),
    st.floats(0.1, 0.8),
    st.floats(0.1, 0.8),
    st.floats(0.1, 3),
    st.floats(0.1, 3),
)
@example(0.2, 0.1, 0.1, 0.1, 3.0)  # all but flat: the longest valley
def test_a_law_without_noise_is_found_exactly(irreducible, a, b, of_size, of_data):
    law = Law(irreducible, of_size * 1e6**a, a, of_data * 2e6**b, b)
    found = fit(points(law), seed=0)
    assert found.largest_residual < 1e-9
    assert found.left_out_error < 1e-9
    assert found.law.size_exponent == pytest.approx(a, rel=1e-6)
    assert found.law.data_exponent == pytest.approx(b, rel=1e-6)
    assert found.law.irreducible == pytest.approx(irreducible, abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.3))
@example(610, 0.1875)  # noise bends the valley
@example(278, 0.3)  # the part of the data is 0, and its exponent anything
def test_no_other_search_finds_smaller_residuals(seed, noise):
    """Held to scipy's search of all five unknowns, from the corners and the middle of exponents."""
    some = points(CHINCHILLA, noise, seed)
    sizes = np.array([p.n_parameters for p in some]) / 8e5
    tokens = np.array([p.n_tokens for p in some]) / 2e6
    losses = np.array([p.loss for p in some])

    def residuals(unknowns):
        e, of_size, of_data, a, b = unknowns
        return (e + of_size * sizes**-a + of_data * tokens**-b) / losses - 1

    starts = itertools.product((0.03, 0.3, 1.9), repeat=2)
    bounds = ([0, 0, 0, 0.02, 0.02], [np.inf, np.inf, np.inf, 2, 2])
    best = min(least_squares(residuals, (1, 1, 1, *start), bounds=bounds).cost for start in starts)
    found = search(np.log(sizes), np.log(tokens), losses[:, None])
    (e, of_size, of_data), (a, b) = found.parts[0], found.exponents[0]
    at_means = (sizes.prod() ** (a / 9), tokens.prod() ** (b / 9))
    unknowns = (e, of_size * at_means[0], of_data * at_means[1], a, b)
    assert 0.5 * float((residuals(unknowns) ** 2).sum()) <= best * (1 + 1e-9)


def test_a_wild_set_leaves_the_others_as_they_were():
    some = points(CHINCHILLA, 0.05, 1)
    logs = np.log([p.n_parameters for p in some]), np.log([p.n_tokens for p in some])
    losses = np.array([p.loss for p in some])[:, None]
    wild = losses * np.where(np.arange(len(some)) == 4, 1e6, 1)[:, None]
    alone, beside = (search(*logs, np.hstack(sets)) for sets in ([losses], [losses, losses, wild]))
    np.testing.assert_allclose(beside.exponents[0], alone.exponents[0], rtol=1e-6)


def test_noise_widens_the_intervals_and_shows_in_the_residuals():
    quiet, loud = (fit(points(CHINCHILLA, noise), seed=0) for noise in (0.001, 0.02))
    assert quiet.residual_error < 0.003 < loud.residual_error
    for name in ("size_exponent", "data_exponent"):
        widths = [f.intervals[name].high - f.intervals[name].low for f in (quiet, loud)]
        assert widths[0] < widths[1]
        low, high = loud.intervals[name]
        assert low <= getattr(loud.law, name) <= high


def test_the_same_points_and_seed_give_the_same_fit():
    some = points(CHINCHILLA, 0.01)
    assert fit(some, seed=3) == fit(some, seed=3)


def test_loss_that_rises_with_data_gets_no_negative_part():
    rising = [Point(n, d, 2 + 1e-7 * d) for n, d in itertools.product(SIZES, AMOUNTS)]
    law = fit(rising, seed=0).law
    assert min(law.irreducible, law.size_factor, law.data_factor) >= 0


@pytest.mark.parametrize(
    ("some", "reason"),
    [
        (points(CHINCHILLA)[:5], "5 unknowns, and 5 models are too few"),
        (points(CHINCHILLA, amounts=(1e6, 2e6)), "2 different amounts"),
        (points(CHINCHILLA, sizes=(1e5, 2e5)), "2 different sizes"),
        ([Point(n, 20 * n, 3.0) for n in np.geomspace(1e5, 1e7, 8)], "in one proportion"),
    ],
)
def test_too_few_points_are_refused_with_the_reason(some, reason):
    assert reason in why_not(some)
    with pytest.raises(ValueError, match=r"unknowns|takes 3|told apart"):
        fit(some, seed=0)


@pytest.mark.long
def test_intervals_hold_the_truth_about_as_often_as_they_say():
    n_held = dict.fromkeys(("irreducible", "size_exponent", "data_exponent"), 0)
    for seed in range(24):
        some = points(CHINCHILLA, 0.005, seed, (1e5, 3e5, 1e6, 3e6), (1e6, 2e6, 4e6, 8e6))
        for name, (low, high) in fit(some, seed=seed).intervals.items():
            n_held[name] += low <= getattr(CHINCHILLA, name) <= high
    assert all(n >= 20 for n in n_held.values()), n_held  # three standard errors below 95 %
