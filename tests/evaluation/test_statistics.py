"""Statistics agree with scipy, statsmodels and textbook figures, and hold what they promise.

Bounds of simulated shares are three standard errors of the number of trials around the nominal
share.
"""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from tinyllm.evaluation.statistics import (
    binomial_tail,
    bootstrap_interval,
    cluster_bootstrap_interval,
    holm,
    mcnemar_exact,
    mean,
    paired_difference,
    sign_flip_p_value,
    standard_error,
    student_t_quantile,
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
    assert (k == 0) == (found.low == 0)
    assert (k == n) == (found.high == 1)


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


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_agrees_with_statsmodels(only_a, only_b):
    expected = mcnemar([[5, only_a], [only_b, 7]], exact=True).pvalue if only_a + only_b else 1.0
    assert mcnemar_exact(only_a, only_b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_holm_agrees_with_statsmodels(n):
    p_values = np.random.default_rng(n).beta(0.5, 4, n).round(2).tolist()
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(expected), abs=1e-12)


def test_holm_of_nothing_is_nothing():
    assert holm([]) == []


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 49, 50, 499, 4999])
@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.9995])
def test_student_t_quantile_agrees_with_scipy(probability, degrees):
    expected = stats.t.ppf(probability, degrees)
    assert student_t_quantile(probability, degrees) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=9))
def test_few_sign_flips_are_the_exact_permutation_test(differences):
    expected = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=math.inf
    ).pvalue
    assert sign_flip_p_value(differences, seed=0) == pytest.approx(expected)


def test_many_sign_flips_come_near_the_exact_p_value():
    differences = list(np.random.default_rng(3).normal(0.4, 1, 15))
    exact = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=math.inf
    ).pvalue
    found = sign_flip_p_value(differences, seed=1)
    assert found == sign_flip_p_value(differences, seed=1)
    assert found == pytest.approx(exact, abs=3 * math.sqrt(exact / 9999))


def test_cluster_interval_agrees_with_scipys_but_for_its_expansion():
    clusters = np.random.default_rng(5).normal(6, 1, (400, 3))
    found = cluster_bootstrap_interval(clusters.tolist(), seed=2, n_resamples=8000)
    reference = stats.bootstrap(
        (clusters.mean(axis=1),), np.mean, method="percentile", rng=7
    ).confidence_interval
    assert found.low == pytest.approx(reference.low, abs=0.01)
    assert found.high == pytest.approx(reference.high, abs=0.01)


def _grades(generator, levels, n_completions=10):
    """Grades of 1 to 10 of completions, whose prompts differ in how well they go."""
    noise = generator.normal(0, 1.5, (len(levels), n_completions))
    return np.clip(np.rint(levels[:, None] + noise), 1, 10)


@pytest.mark.parametrize("n_clusters", [10, 50])
def test_cluster_interval_covers_the_truth_as_often_as_it_says(n_clusters):
    generator = np.random.default_rng(11)
    n_covered = 0
    for trial in range(400):
        grades = generator.normal(generator.normal(6, 1.2, (n_clusters, 1)), 1.5, (n_clusters, 10))
        low, high = cluster_bootstrap_interval(grades.tolist(), seed=trial)
        n_covered += low <= 6 <= high
    assert 0.917 <= n_covered / 400 <= 0.983


def test_items_of_a_cluster_are_not_taken_for_independent():
    generator = np.random.default_rng(13)
    n_covered = 0
    for trial in range(100):
        level = generator.normal(6, 2, (20, 1))
        items = generator.normal(level, 0.5, (20, 10)).ravel()
        low, high = cluster_bootstrap_interval([[item] for item in items], seed=trial)
        n_covered += low <= 6 <= high
    assert n_covered / 100 < 0.7  # what pooling the completions would give


def test_interval_of_a_difference_covers_it_as_often_as_it_says():
    generator = np.random.default_rng(17)
    n_covered = 0
    for trial in range(300):
        levels = generator.uniform(3, 7, 50)
        a, b = (generator.normal(levels[:, None] + gain, 1.5, (50, 10)) for gain in (0.2, 0))
        interval = paired_difference(a.tolist(), b.tolist(), seed=trial).interval
        n_covered += interval.low <= 0.2 <= interval.high
    assert 0.912 <= n_covered / 300 <= 0.988


def test_equal_models_are_told_apart_at_the_nominal_rate():
    generator = np.random.default_rng(19)
    p_values = []
    for trial in range(500):
        levels = generator.normal(6, 1.2, 50)
        a, b = _grades(generator, levels).tolist(), _grades(generator, levels).tolist()
        p_values.append(paired_difference(a, b, seed=trial).p_value)
    assert 0.021 <= mean([p < 0.05 for p in p_values]) <= 0.079
    assert 0.132 <= mean([p < 0.19 for p in p_values]) <= 0.243
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_models_that_differ_by_half_a_grade_are_told_apart():
    generator = np.random.default_rng(23)
    levels = generator.normal(6, 1.2, 50)
    a, b = _grades(generator, levels + 0.5).tolist(), _grades(generator, levels).tolist()
    found = paired_difference(a, b, seed=0)
    assert found.p_value < 0.001
    assert 0 < found.interval.low < found.mean < found.interval.high
    assert found.mean == pytest.approx(np.mean(a) - np.mean(b))
    assert paired_difference(b, a, seed=0).mean == pytest.approx(-found.mean)


def test_models_that_agree_everywhere_show_no_difference():
    found = paired_difference([[1.0, 2.0], [3.0]], [[2.0, 1.0], [3.0]], seed=0)
    assert (found.mean, found.interval, found.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_one_cluster_has_no_interval_and_no_cluster_no_mean():
    assert all(math.isnan(end) for end in cluster_bootstrap_interval([[1.0, 2.0]], seed=0))
    with pytest.raises(ValueError, match="no clusters"):
        cluster_bootstrap_interval([], seed=0)
    with pytest.raises(ValueError, match="same clusters"):
        paired_difference([[1.0]], [[1.0], [2.0]], seed=0)
