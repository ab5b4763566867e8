"""The odds of tokens are the model's own, exactly, and do not depend on the neighbours."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.errors import CheckpointError
from tinyllm.generation.odds import token_odds


def random_logits(*shape: int, seed: int, spread: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(spread)


@given(st.integers(0, 2**32), st.integers(0, 99), st.integers(0, 20), st.sampled_from([0.1, 5, 60]))
def test_log_probabilities_are_those_of_an_exact_softmax(seed, token, n_top, spread):
    logits = random_logits(1, 100, seed=seed, spread=spread)
    exact = torch.log_softmax(torch.tensor(logits[0]).double(), dim=-1)
    [odds] = token_odds(logits, [token], [n_top])
    assert odds.token_id == token
    assert odds.logprob == pytest.approx(float(exact[token]), abs=1e-12)
    best = exact.topk(n_top)
    assert [token_id for token_id, _ in odds.top] == best.indices.tolist()
    assert [logprob for _, logprob in odds.top] == pytest.approx(best.values.tolist(), abs=1e-12)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=12), st.integers(0, 20))
def test_of_equal_tokens_the_lower_id_comes_first(values, n_top):
    [odds] = token_odds(np.array([values], np.float32), [0], [n_top])
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:n_top]
    assert [token_id for token_id, _ in odds.top] == expected


@given(st.integers(0, 2**32))
def test_the_odds_of_a_whole_vocabulary_add_up(seed):
    [odds] = token_odds(random_logits(1, 17, seed=seed), [3], [20])
    assert len(odds.top) == 17
    assert sum(np.exp(logprob) for _, logprob in odds.top) == pytest.approx(1, abs=1e-12)


def test_a_row_has_the_same_odds_in_any_company():
    logits = random_logits(8, 300, seed=1)
    together = token_odds(logits, range(8), [5, 0, 1, 20, 5, 5, 5, 2])
    for row, odds in enumerate(together):
        assert token_odds(logits[row : row + 1], [row], [len(odds.top)]) == (odds,)


def test_the_widest_logits_do_not_overflow():
    widest = np.finfo(np.float32).max
    [odds] = token_odds(np.array([[widest, -widest]], np.float32), [1], [2])
    assert odds.top[0] == (0, 0.0)
    assert odds.logprob == -2 * float(widest)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_an_error(bad):
    with pytest.raises(CheckpointError, match="not a number"):
        token_odds(np.array([[0.0, bad]], np.float32), [0], [0])


def test_rows_without_a_token_are_refused():
    with pytest.raises(ValueError, match="B tokens"):
        token_odds(random_logits(2, 5, seed=1), [1], [0, 0])
