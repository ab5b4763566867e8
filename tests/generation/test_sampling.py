"""How a token is chosen: exact odds, edges of every rule, independence of neighbours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.generation.reference_rules import reference_odds
from tinyllm.config.generation import Sampling, over_defaults
from tinyllm.errors import CheckpointError, UsageError
from tinyllm.generation.sampling import adjust, candidates, sample_next, scale
from tinyllm.seeding import uniform

LOGITS = np.array([[2.0, 1.0, 0.5, -1.0, 1.5, -3.0]], np.float32)


def random_logits(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def distribution(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The odds that a draw follows, in the order of the vocabulary."""
    probabilities, ids = candidates(scale(logits, sampling.temperature), sampling)
    whole = np.zeros(logits.shape)
    np.put_along_axis(whole, ids, probabilities, axis=1)
    return whole / whole.sum(axis=-1, keepdims=True)


def draw(logits: np.ndarray, sampling: Sampling, n: int) -> list[int]:
    uniforms = [uniform(5, i) for i in range(n)]
    return sample_next(np.repeat(logits, n, axis=0), [()] * n, sampling, uniforms).tolist()


RULES = st.builds(
    Sampling,
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 3, 40, 300]),
    top_p=st.sampled_from([1.0, 0.9501, 0.7003, 0.99907]),
    min_p=st.sampled_from([0.0, 0.0501, 0.4003]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
    frequency_penalty=st.sampled_from([0.0, 0.41, -0.23]),
    presence_penalty=st.sampled_from([0.0, 0.617]),
    repeat_last_n=st.sampled_from([0, 1, 4, 100]),
    no_repeat_ngram=st.sampled_from([0, 1, 2, 3]),
    penalize_prompt=st.booleans(),
    min_new_tokens=st.sampled_from([0, 3, 9]),
    logit_bias=st.dictionaries(st.integers(0, 49), st.floats(-100, 100, width=32), max_size=5),
)


@given(
    sampling=RULES,
    seed=st.integers(0, 2**32),
    prompt=st.lists(st.integers(0, 9), min_size=1, max_size=9),
    drawn=st.lists(st.integers(0, 9), max_size=12),
    never=st.lists(st.integers(2, 49), max_size=5),
)
def test_odds_equal_those_of_transformers(sampling, seed, prompt, drawn, never):
    logits = random_logits(1, 50, seed=seed) * 3
    expected = reference_odds(logits[0], prompt, drawn, sampling, never=never, end_ids=(0, 1))
    banned = np.isin(np.arange(50), never)
    banned[:2] |= len(drawn) < sampling.min_new_tokens
    history = [*prompt, *drawn] if sampling.penalize_prompt else drawn
    adjusted = adjust(logits, [history], sampling, banned)
    np.testing.assert_allclose(distribution(adjusted, sampling)[0], expected, atol=1e-5, rtol=1e-4)


def test_flat_odds_reach_beyond_the_first_candidates():
    flat = np.zeros((1, 2000), np.float32)
    kept = distribution(flat, Sampling(temperature=1.0, top_p=0.5)) > 0
    assert int(kept.sum()) in (1000, 1001)  # the mark lies on a border


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=3, max_size=12), st.integers(1, 12))
def test_of_equal_tokens_the_lower_id_comes_first(values, k):
    logits, k = np.array([values], np.float32), min(k, len(values) - 1)
    _, ids = candidates(logits, Sampling(temperature=1.0, top_p=1.0, top_k=k))
    assert ids[0].tolist() == sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]


def test_top_p_keeps_the_token_that_crosses_the_mark():
    logits = np.log(np.array([[0.5, 0.3, 0.2]], np.float32))
    assert (distribution(logits, Sampling(temperature=1.0, top_p=0.6)) > 0).tolist() == [
        [True, True, False]
    ]
    assert (distribution(logits, Sampling(temperature=1.0, top_p=0.01)) > 0).sum() == 1


def test_temperature_zero_takes_the_likeliest_token():
    sampling = Sampling(temperature=0.0)
    assert draw(LOGITS, sampling, 5) == [0] * 5
    assert draw(LOGITS, Sampling(temperature=1e-4), 5) == [0] * 5


@given(st.floats(-50, 50), st.integers(0, 2**32), st.floats(0.05, 1), st.floats(0, 1))
def test_a_token_is_always_found(scale, seed, top_p, min_p):
    logits = random_logits(3, 40, seed=seed) * np.float32(scale)
    sampling = Sampling(temperature=0.7, top_p=top_p, min_p=min_p)
    rows = sample_next(logits, [()] * 3, sampling, [uniform(i, 0) for i in range(3)])
    assert all(0 <= token < 40 for token in rows.tolist())


def test_a_row_draws_the_same_token_in_any_company():
    logits = random_logits(8, 300, seed=1)
    sampling = Sampling(temperature=1.0, top_p=0.9)

    def pick(rows):
        uniforms = [uniform(row, 0) for row in rows]
        return sample_next(logits[rows], [()] * len(rows), sampling, uniforms).tolist()

    together = pick(list(range(8)))
    assert [pick([row])[0] for row in range(8)] == together


def test_banned_tokens_are_never_chosen():
    banned = np.array([True, False, False, True, True, False])
    drawn = sample_next(
        np.repeat(LOGITS, 200, axis=0),
        [()] * 200,
        Sampling(temperature=5.0, top_p=1.0),
        [uniform(i, 0) for i in range(200)],
        banned=banned,
    )
    assert set(drawn.tolist()) <= {1, 2, 5}


def test_banning_everything_is_refused():
    with pytest.raises(UsageError, match="banned"):
        sample_next(LOGITS, [()], Sampling(), [0.5], banned=np.ones(6, np.bool_))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_an_error(bad):
    logits = LOGITS.copy()
    logits[0, 2] = bad
    with pytest.raises(CheckpointError, match="not a number"):
        sample_next(logits, [()], Sampling(temperature=0.0), [0.5])


def test_the_lowest_temperatures_take_the_likeliest_token():
    for temperature in (1e-30, 1e-39, 5e-324):
        assert draw(LOGITS, Sampling(temperature=temperature), 5) == [0] * 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 2**63},
        {"top_k": -1},
        {"no_repeat_ngram": 2**63},
        {"repeat_last_n": -1},
        {"min_new_tokens": 2**31},
        {"max_new_tokens": 0},
        {"seed": 2**63},
        {"repetition_penalty": 1e-30},
        {"repetition_penalty": 1e30},
        {"frequency_penalty": float("inf")},
        {"presence_penalty": float("nan")},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"min_p": 1.1},
        {"logit_bias": {3: 101.0}},
        {"logit_bias": {-3: 1.0}},
        {"logit_bias": {2**63: 1.0}},
        {"logit_bias": {"three": 1.0}},
        {"ban": ("",)},
        {"end_tokens": ("",)},
        {"logprobs": 21},
    ],
    ids=str,
)
def test_settings_beyond_their_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        Sampling.model_validate(wrong)


def test_the_names_of_a_json_object_are_token_ids():
    assert Sampling.model_validate({"logit_bias": {"7": 3}}).logit_bias == {7: 3.0}


def test_equal_settings_have_equal_hashes():
    one, other = Sampling(logit_bias={1: 2.0, 3: 4.0}), Sampling(logit_bias={3: 4.0, 1: 2.0})
    assert (one, hash(one)) == (other, hash(other))


def test_what_is_given_stands_over_what_is_stored():
    given_now = Sampling(temperature=0.1)
    result = over_defaults(given_now, {"temperature": 1.0, "top_k": 7, "stop": ["x"]})
    assert (result.temperature, result.top_k, result.stop) == (0.1, 7, ("x",))


def test_stored_defaults_that_are_wrong_blame_the_checkpoint():
    with pytest.raises(CheckpointError, match="generation defaults"):
        over_defaults(Sampling(), {"temperature": "warm"})
