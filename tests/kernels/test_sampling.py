"""The native sampler draws what the plain one draws, and notices what it must notice."""

import ctypes
from ctypes import c_int64, c_void_p

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm.config.generation import Sampling
from tinyllm.errors import CheckpointError, UsageError
from tinyllm.generation.sampler import Sampler
from tinyllm.generation.texts import TextTable
from tinyllm.kernels import build

pytestmark = pytest.mark.skipif(not build.available(), reason="needs a C++ compiler (Debian: g++)")

BIASES = st.sampled_from([-100.0, -3.17, 0.25, 7.01, 100.0])
# No two rules here make odds that are equal but for rounding: either order is right then.
RULES = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 0.8, 1.0, 2.5]),
    top_k=st.sampled_from([0, 0, 1, 3, 40, 300]),
    top_p=st.sampled_from([1.0, 0.9501, 0.7003, 0.99907]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 0.4, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.3, 0.8]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.41, -0.23]),
    presence_penalty=st.sampled_from([0.0, 0.0, 0.617]),
    no_repeat_ngram=st.sampled_from([0, 0, 1, 2, 3]),
    penalize_prompt=st.booleans(),
    repeat_last_n=st.sampled_from([0, 0, 1, 3, 100]),
    min_new_tokens=st.sampled_from([0, 3]),
    logit_bias=st.dictionaries(st.sampled_from([0, 1, 2, 3, 4, 900]), BIASES, max_size=4),
)


def samplers(
    sampling: Sampling, vocab_size: int, never: list[int], ends: tuple[int, ...] = ()
) -> tuple[Sampler, Sampler]:
    """Return the native and the plain sampler."""
    rules = {
        "vocab_size": vocab_size,
        "end_id": 0,
        "never": np.array(never, np.int64),
        "ends": ends,
    }
    native, plain = Sampler(sampling, **rules), Sampler(sampling, **rules)
    plain._native = None
    assert native.is_native
    return native, plain


def table(n_rows: int, vocab_size: int, seed: int) -> TextTable:
    """Return texts of which some tokens are drawn already."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, vocab_size, rng.integers(1, 9)).tolist() for _ in range(n_rows)]
    texts = TextTable(prompts, [40] * n_rows, [seed + i for i in range(n_rows)])
    for _ in range(int(rng.integers(0, 12))):
        texts.append(np.arange(n_rows), rng.integers(0, min(vocab_size, 8), n_rows))
    return texts


@pytest.mark.parametrize("bias", [0.0, 3.0, 7.01])
def test_of_equal_tokens_any_may_be_cut_and_the_rest_keep_their_share(bias: float) -> None:
    native, plain = samplers(Sampling(top_p=0.9501, logit_bias={0: bias}), 1000, [1])
    drawn = []
    for sampler in (native, plain):
        tables = (table(1, 1000, seed) for seed in range(600))
        drawn.append(
            [
                sampler.choose(np.zeros((1, 1000), np.float32), texts, np.arange(1))[0]
                for texts in tables
            ]
        )
    assert [token == 0 for token in drawn[0]] == [token == 0 for token in drawn[1]]
    assert 1 not in drawn[0]


@settings(max_examples=300)
@given(
    sampling=RULES,
    vocab_size=st.sampled_from([2, 5, 17, 64, 129, 1000, 3001]),
    n_rows=st.integers(1, 5),
    spread=st.sampled_from([0.1, 1.0, 4.0, 40.0]),
    seed=st.integers(0, 2**40),
)
def test_the_native_sampler_draws_what_the_plain_one_draws(
    sampling, vocab_size, n_rows, spread, seed
):
    inside = {i: bias for i, bias in sampling.logit_bias.items() if i < vocab_size}
    sampling = sampling.model_copy(update={"logit_bias": inside})
    never, ends = ([1], (2, 0)) if vocab_size > 3 else ([], ())
    native, plain = samplers(sampling, vocab_size, never, ends)
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((n_rows, vocab_size)).astype(np.float32) * np.float32(spread)
    texts = table(n_rows, vocab_size, seed)
    rows = np.arange(n_rows)[::-1].copy()
    if vocab_size > 3 or sampling.min_new_tokens == 0:
        expected = plain.choose(logits.copy(), texts, rows).tolist()
        assert native.choose(logits.copy(), texts, rows).tolist() == expected


def write(native: Sampler, logits: np.ndarray, texts: TextTable) -> int:
    """Let native code write a token of the only text; return what it tells its caller."""
    writers = native.writers(texts, np.arange(1))
    function = ctypes.CFUNCTYPE(c_int64, c_void_p, c_int64, c_void_p)(writers.function)
    told: int = function(logits.ctypes.data, len(logits), writers.states[0])
    return told


@pytest.mark.parametrize("token", range(5))
def test_a_text_drawn_natively_ends_by_any_end_token(token):
    native, _ = samplers(Sampling(temperature=0.0), 5, [], (2, 4))
    texts = TextTable([[1]], [9], [1])
    logits = np.eye(5, dtype=np.float32)[token]
    assert native.end_ids == {0, 2, 4}
    assert write(native, logits, texts) == (-1 if token in native.end_ids else token)
    assert texts.drawn(0) == [token]


def test_no_end_token_comes_before_the_least_number_of_tokens():
    native, plain = samplers(Sampling(temperature=0.0, min_new_tokens=2), 5, [], (2, 4))
    logits = np.array([[9.0, 1.0, 8.0, 2.0, 7.0]], np.float32)
    texts = TextTable([[1]], [9], [1])
    for expected in (3, 3, 0):
        rows = np.arange(1)
        assert plain.choose(logits.copy(), texts, rows).tolist() == [expected]
        assert native.choose(logits.copy(), texts, rows).tolist() == [expected]
        texts.append(rows, np.array([expected]))


def test_banning_all_but_the_ends_is_refused_while_the_text_may_not_end():
    for sampler in samplers(Sampling(min_new_tokens=1), 5, [1, 3], (2, 4)):
        with pytest.raises(UsageError, match="banned"):
            sampler.choose(np.zeros((1, 5), np.float32), TextTable([[1]], [9], [1]), np.arange(1))


@pytest.mark.parametrize("temperature", [1e-30, 1e-39, 5e-324])
@pytest.mark.parametrize("rule", [{}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_the_lowest_temperatures_take_the_likeliest_token(temperature, rule):
    native, _ = samplers(Sampling(temperature=temperature, **rule), 1000, [])
    logits = np.random.default_rng(0).standard_normal((1, 1000)).astype(np.float32)
    likeliest = logits.argmax(-1)
    assert native.choose(logits, table(1, 1000, 1), np.arange(1)) == likeliest


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 15, 16, 99])
def test_logits_that_are_not_finite_are_an_error(bad, place):
    native, _ = samplers(Sampling(temperature=0.0), 100, [])
    logits = np.zeros((2, 100), np.float32)
    logits[1, place] = bad
    with pytest.raises(CheckpointError, match="not a number"):
        native.choose(logits, table(2, 100, 1), np.arange(2))


def test_banning_everything_is_refused():
    native, _ = samplers(Sampling(), 4, [0, 1, 2, 3])
    with pytest.raises(UsageError, match="banned"):
        native.choose(np.zeros((1, 4), np.float32), table(1, 4, 1), np.arange(1))


def test_logits_of_another_shape_are_refused():
    native, _ = samplers(Sampling(), 4, [])
    with pytest.raises(ValueError, match="float32 logits"):
        native.choose(np.zeros((1, 5), np.float32), table(1, 4, 1), np.arange(1))


def test_a_token_that_is_not_of_the_vocabulary_is_not_counted():
    sampling = Sampling(temperature=0.0, repetition_penalty=2.0, penalize_prompt=True)
    native, _ = samplers(sampling, 4, [])
    texts = TextTable([[10**9, -5, 2]], [9], [1])
    logits = np.array([[0.0, 1.0, 1.5, 0.0]], np.float32)
    assert native.choose(logits, texts, np.arange(1)).tolist() == [1]
