"""Statistics agree with scipy and with textbook figures."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tinyllm.evaluation.statistics import (
    binomial_tail,
    bootstrap_interval,
    mean,
    standard_error,
    wilson_interval,
)

counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.floats(0.01, 0.99))
def test_binomial_tail_is_the_exact_one_sided_test(count, probability):
    k, n = count
    expected = stats.binomtest(k, n, probability, alternative="greater").pvalue
    assert binomial_tail(k, n, probability) == pytest.approx(expected, rel=1e-8, abs=1e-300)


def test_142_of_500_is_where_chance_ends():
    assert binomial_tail(142, 500, 0.25) < 0.05 < binomial_tail(141, 500, 0.25)


@pytest.mark.parametrize(
    ("k", "p", "expected"), [(0, 0.3, 1.0), (6, 0.3, 0.0), (3, 0.0, 0.0), (3, 1.0, 1.0)]
)
def test_binomial_tail_at_the_edges(k, p, expected):
    assert binomial_tail(k, 5, p) == expected


@given(counts)
def test_wilson_interval_agrees_with_scipy(count):
    k, n = count
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    found = wilson_interval(k, n)
    assert found.low == pytest.approx(expected.low, abs=1e-9)
    assert found.high == pytest.approx(expected.high, abs=1e-9)


def test_wilson_interval_of_published_scores():
    low, high = wilson_interval(0.278 * 500, 500)
    assert (round(100 * low, 1), round(100 * high, 1)) == (24.1, 31.9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=200))
def test_standard_error_agrees_with_scipy(values):
    assert standard_error(values) == pytest.approx(stats.sem(values), abs=1e-12)


def test_standard_error_of_one_value_is_unknown():
    assert math.isnan(standard_error([0.5]))


def test_bootstrap_interval_is_reproducible_and_near_scipy():
    generator = random.Random(1)
    values = [generator.random() for _ in range(200)]
    interval = bootstrap_interval(values, seed=3)
    assert interval == bootstrap_interval(values, seed=3)
    reference = stats.bootstrap(
        (values,), lambda x, axis: x.mean(axis=axis), method="percentile", rng=5
    ).confidence_interval
    assert interval.low == pytest.approx(reference.low, abs=0.01)
    assert interval.high == pytest.approx(reference.high, abs=0.01)


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    generator = random.Random(7)
    n_covered = 0
    for trial in range(200):
        values = [float(generator.random() < 0.3) for _ in range(60)]
        low, high = bootstrap_interval(values, seed=trial, n_resamples=300)
        n_covered += low <= 0.3 <= high
    assert 0.88 <= n_covered / 200 <= 0.99


def test_nothing_has_no_mean_and_no_interval():
    with pytest.raises(ValueError, match="no values"):
        mean([])
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval([], seed=0)
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(3, 2)
