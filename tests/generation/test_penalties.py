"""Penalties agree with the reference implementations and keep a text from going in circles."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.config.generation import Sampling
from tinyllm.generation.engine import Engine
from tinyllm.generation.penalties import (
    ban_repeated_ngrams,
    penalize_counts,
    penalize_repetition,
)

LOGITS = np.array([[2.0, 1.0, 0.5, -1.0, 1.5, -3.0]], np.float32)
histories = st.lists(st.integers(0, 5), max_size=30)


@pytest.fixture(scope="module")
def reference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.generation import logits_process
    return logits_process


@given(history=histories.filter(bool))
def test_repetition_penalty_equals_that_of_transformers(reference, history):
    process = reference.RepetitionPenaltyLogitsProcessor(1.7)
    expected = process(torch.tensor([history]), torch.tensor(LOGITS)).numpy()
    np.testing.assert_allclose(penalize_repetition(LOGITS, [history], 1.7), expected, 1e-6)


@given(history=histories.filter(bool), n=st.integers(1, 4))
def test_banned_ngrams_equal_those_of_transformers(reference, history, n):
    process = reference.NoRepeatNGramLogitsProcessor(n)
    expected = process(torch.tensor([history]), torch.tensor(LOGITS)).numpy()
    if np.isfinite(expected).any():
        np.testing.assert_array_equal(ban_repeated_ngrams(LOGITS, [history], n), expected)
    else:
        np.testing.assert_array_equal(ban_repeated_ngrams(LOGITS, [history], n), LOGITS)


def test_counts_are_subtracted_once_and_each_time():
    found = penalize_counts(LOGITS, [[1, 1, 4]], frequency=0.5, presence=0.25)
    np.testing.assert_allclose(found, LOGITS - [[0, 1.25, 0, 0, 0.75, 0]])


def test_each_row_is_penalised_by_its_own_history():
    rows = penalize_repetition(np.repeat(LOGITS, 2, axis=0), [[0], [1]], 2.0)
    assert rows[:, :2].tolist() == [[1.0, 1.0], [2.0, 0.5]]


def test_no_ngram_is_written_twice(plain):
    sampling = Sampling(temperature=0.0, no_repeat_ngram=2, max_new_tokens=60)
    [completion] = Engine(plain).complete([plain.tokenizer.encode("The fox")], sampling)
    pairs = list(zip(completion.ids, completion.ids[1:], strict=False))
    assert len(set(pairs)) == len(pairs)


def test_a_text_does_not_end_before_the_least_number_of_tokens(plain):
    prompt = plain.tokenizer.encode("The fox")
    free = Sampling(temperature=20.0, top_p=1.0, seed=1, max_new_tokens=80)
    lengths = [len(c.ids) for c in Engine(plain).complete([prompt], free, n=64)]
    held = free.model_copy(update={"min_new_tokens": 40})
    held_lengths = [len(c.ids) for c in Engine(plain).complete([prompt], held, n=64)]
    assert min(lengths) < 40 < min(held_lengths)
