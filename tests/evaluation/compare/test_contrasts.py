"""What is claimed of two models is what the figures bear, and no more."""

import numpy as np
import pytest

from tinyllm.evaluation.compare.contrasts import contrasts
from tinyllm.evaluation.compare.scores import Score
from tinyllm.evaluation.statistics import holm, mcnemar_exact


def score(values, *, metric="grammar", better="higher", setting="s", **more):
    items = {str(i): [float(value)] for i, value in enumerate(values)}
    value = float(np.mean(values))
    return Score("stories", metric, "points", value, None, better, setting, items, **more)


def noisy(mean, seed, n=50):
    return np.random.default_rng(seed).normal(mean, 0.5, n)


def test_a_model_is_not_better_than_itself():
    values = noisy(6, 1)
    (found,) = contrasts([("a", score(values)), ("b", score(values))], seed=0)
    assert found.better is None
    assert found.sentence.startswith("no difference shown")


@pytest.mark.parametrize(
    ("better", "winner", "word"),
    [("higher", "a", "better"), ("lower", "b", "better"), ("neither", "a", "higher")],
)
def test_the_better_model_is_named_with_size_and_interval(better, winner, word):
    pair = [("a", score(noisy(7, 1), better=better)), ("b", score(noisy(6, 2), better=better))]
    (found,) = contrasts(pair, seed=0)
    assert found.better == winner
    assert found.sentence.startswith(f"{winner} is {word} by ")
    assert "p < 0.001" in found.sentence
    assert found.interval.low < found.difference < found.interval.high
    (other_way,) = contrasts(pair[::-1], seed=0)
    assert other_way.better == winner


def test_a_difference_too_small_to_mean_something_is_no_claim():
    pair = [("a", score(noisy(7, 1), smallest_claim_share=0.5)), ("b", score(noisy(6, 2)))]
    (found,) = contrasts(pair, seed=0)
    assert found.p_holm < 0.001
    assert found.better is None
    assert found.sentence.startswith("no difference shown: ")
    assert "would mean something" in found.sentence


def test_scores_of_different_settings_are_never_compared():
    pair = [("a", score(noisy(7, 1))), ("b", score(noisy(6, 2), setting="another judge"))]
    assert contrasts(pair, seed=0) == []


def test_too_few_common_items_show_nothing():
    assert contrasts([("a", score([1] * 5)), ("b", score([9] * 5))], seed=0) == []


def test_only_items_that_both_have_count():
    longer, shorter = score(noisy(6, 1, 50)), score(noisy(6, 1, 20))
    (found,) = contrasts([("a", longer), ("b", shorter)], seed=0)
    assert (found.n_items, found.difference) == (20, 0)


def test_right_and_wrong_answers_go_through_mcnemar():
    a, b = [1] * 12 + [0] * 3 + [1] * 20, [0] * 12 + [1] * 3 + [1] * 20
    (found,) = contrasts([("a", score(a)), ("b", score(b))], seed=0)
    assert found.p_value == pytest.approx(mcnemar_exact(12, 3))


def test_p_values_are_corrected_together_the_primary_ones_apart():
    names = ["a", "b", "c"]
    primary = [(n, score(noisy(6, i), is_primary=True)) for i, n in enumerate(names)]
    others = [
        (n, score(noisy(6, 10 * k + i), metric=f"m{k}"))
        for k in range(1, 4)
        for i, n in enumerate(names)
    ]
    found = contrasts([*others, *primary], seed=0)
    first, rest = found[:3], found[3:]
    assert all(c.is_primary for c in first)
    assert not any(c.is_primary for c in rest)
    for family in (first, rest):
        assert [c.p_holm for c in family] == pytest.approx(holm([c.p_value for c in family]))
