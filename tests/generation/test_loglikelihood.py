"""Log-likelihoods: every token once, whatever the batch, the length or the windows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import TEXT, tiny_loaded
from tinyllm.errors import CheckpointError
from tinyllm.generation.engine import Engine
from tinyllm.generation.loglikelihood import IGNORE, windows


def naive(loaded, context, continuation):
    """The textbook sum over log-softmax rows."""
    ids = [*context, *continuation]
    with torch.inference_mode():
        log_odds = loaded.model(torch.tensor([ids[:-1]]))[0].double().log_softmax(-1)
    places = range(len(context) - 1, len(ids) - 1)
    return sum(float(log_odds[i, ids[i + 1]]) for i in places)


def requests(loaded):
    ids = loaded.tokenizer.encode(TEXT)
    return [(ids[i : i + 3 + 2 * i % 17], ids[i + 20 : i + 21 + i % 7]) for i in range(25)]


def test_it_is_the_sum_of_the_log_softmax(plain):
    asked = requests(plain)
    for (context, rest), score in zip(asked, Engine(plain).loglikelihood(asked), strict=True):
        assert score.nats == pytest.approx(naive(plain, context, rest), abs=1e-4)
        assert score.n_tokens == len(rest)
        assert score.n_truncated == 0


def test_the_batch_size_does_not_matter(plain):
    asked = requests(plain)
    alone = Engine(plain).loglikelihood(asked, batch_size=1)
    together = Engine(plain).loglikelihood(asked, batch_size=32)
    for a, b in zip(alone, together, strict=True):
        assert a.nats == pytest.approx(b.nats, abs=1e-5)
        assert a.is_greedy == b.is_greedy


def test_the_greedy_continuation_is_called_greedy(plain):
    from tinyllm.config.generation import Sampling

    context = plain.tokenizer.encode("The fox")
    engine = Engine(plain)
    greedy = engine.complete([context], Sampling(temperature=0.0, max_new_tokens=5))[0].ids
    other = [*greedy[:-1], (greedy[-1] + 1) % plain.tokenizer.vocab_size]
    scores = engine.loglikelihood([(context, greedy), (context, other)])
    assert [score.is_greedy for score in scores] == [True, False]


def test_a_long_context_is_cut_from_the_left(plain):
    context, rest = [5] * 200, [6, 7, 8]
    [score] = Engine(plain).loglikelihood([(context, rest)])
    [short] = Engine(plain).loglikelihood([(context[-94:], rest)])
    assert score.n_truncated == 106
    assert short.n_truncated == 0
    assert score.nats == pytest.approx(short.nats, abs=1e-5)


def test_an_empty_context_begins_a_document(plain):
    end = plain.tokenizer.end_of_text_id
    empty, begun = Engine(plain).loglikelihood([([], [5, 6]), ([end], [5, 6])])
    assert empty == begun


def test_an_empty_continuation_is_certain(plain):
    [score] = Engine(plain).loglikelihood([([5], [])])
    assert (score.nats, score.n_tokens, score.is_greedy) == (0, 0, True)


def test_a_continuation_longer_than_the_context_is_scored_whole(plain):
    [score] = Engine(plain).loglikelihood([([5, 6], list(range(1, 250)))])
    assert score.n_tokens == 249
    assert score.nats < 0


def test_logits_that_are_not_finite_are_an_error():
    loaded = tiny_loaded()
    with torch.no_grad():
        loaded.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="not a number"):
        Engine(loaded).loglikelihood([([1], [2])])


@given(
    st.integers(1, 60),
    st.integers(0, 200),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.25, 0.5, 0.9]),
)
def test_windows_score_every_token_once_and_in_order(n_context, n_rest, context_length, overlap):
    ids = list(range(n_context + n_rest))
    rows = windows(ids[:n_context], ids[n_context:], context_length=context_length, overlap=overlap)
    scored = [t for row in rows for t in row.targets if t != IGNORE]
    assert scored == ids[n_context:]
    for row in rows:
        assert 1 <= len(row.input_ids) == len(row.targets) <= context_length
        for read, wanted in zip(row.input_ids, row.targets, strict=True):
            assert wanted in (IGNORE, read + 1)


@given(st.integers(1, 300), st.integers(1, 40))
def test_one_window_keeps_all_the_context_that_fits(n_context, n_rest):
    [row] = windows(range(n_context), range(n_context, n_context + n_rest), context_length=40)
    assert len(row.input_ids) == min(40, n_context + n_rest - 1)
