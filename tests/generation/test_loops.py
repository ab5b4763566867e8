"""A loop is found where there is one, soon, and never where there is none."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import tiny_tokenizer
from tinyllm.generation.loops import LoopDetector

N_CLUE = {"bpe": 4, "char": 12}
LEAST_TOKENS = {"bpe": 80, "char": 160}
BABBLE = [
    "the ",
    "ha ",
    "very very very big ",
    "and then he said no. ",
    "The fox was happy. The bird was happy. The moon was high in the sky. ",
    "\n",
    "🌍",
    "aab",
    "aaaaaaaaab",
]
HONEST = [
    "ha ha ha ha ha ha! said the fox.",
    "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, "
    "life is but a dream. " * 3,
    "It was a very, very, very, very, very, very long day.",
    " little foxes, ".join(["One", "two", "three", "four", "five", "six", "seven", "eight"]),
    "What? What? What? What? Who? Who? Who? Who? Why? Why? Why? Why?",
    "....................... and so on -----------------------",
    "hahahahahahahahahaha",
    "Nooooooooooooooooooooooooo!",
]


@pytest.fixture(scope="module", params=["bpe", "char"])
def tokenizer(request):
    return tiny_tokenizer(request.param)


def end_of_search(kind: str, ids: list[int]) -> int | None:
    """Return how many tokens were taken when a loop was found."""
    detector = LoopDetector(kind)
    return next((i for i, token_id in enumerate(ids, 1) if detector.push(token_id)), None)


@pytest.mark.parametrize("phrase", BABBLE)
def test_babble_is_found(tokenizer, phrase):
    beginning, once = tokenizer.encode("Once upon a time there was"), tokenizer.encode(phrase)
    found = end_of_search(tokenizer.kind, [*beginning, *once * 200])
    least = max(4 * len(once), LEAST_TOKENS[tokenizer.kind])
    assert found is not None
    assert found <= len(beginning) + least + len(once)


@pytest.mark.parametrize("text", HONEST)
def test_refrains_of_modest_length_pass(tokenizer, text):
    assert end_of_search(tokenizer.kind, tokenizer.encode(text)) is None


tokens = st.lists(st.integers(0, 3), max_size=120)
units = st.lists(st.integers(0, 3), min_size=1, max_size=30)
kinds = st.sampled_from(["bpe", "char"])


def n_repetitions(ids: list[int], n_clue: int) -> int:
    """Return how many runs of n_clue tokens have stood there before."""
    runs = [tuple(ids[i : i + n_clue]) for i in range(len(ids) - n_clue + 1)]
    return len(runs) - len(set(runs))


@given(kinds, tokens, units, st.integers(0, 100))
def test_what_is_called_a_loop_repeats_itself(kind, beginning, unit, n_times):
    ids = [*beginning, *unit * n_times]
    found = end_of_search(kind, ids)
    if found is not None:
        n_clue = N_CLUE[kind]
        assert n_repetitions(ids[:found], n_clue) >= LEAST_TOKENS[kind] * 3 // 4 - n_clue


@given(kinds, st.lists(st.integers(0, 10_000), max_size=300, unique=True))
def test_a_text_without_repetitions_is_no_loop(kind, ids):
    assert end_of_search(kind, ids) is None
    assert end_of_search(kind, ids * 2) is None


@given(st.integers(0, 2**32))
def test_babble_that_varies_is_found(seed):
    choice = random.Random(seed)
    ids = list(range(20, 40))
    while len(ids) < 300:
        ids += choice.choice([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 2, 3, 7]])
    assert end_of_search("bpe", ids) is not None


@given(kinds, tokens, units)
def test_every_endless_loop_is_found_soon(kind, beginning, unit):
    found = end_of_search(kind, [*beginning, *unit * 1000])
    assert found is not None
    assert found <= 3 * (len(beginning) + max(4 * len(unit), LEAST_TOKENS[kind]))


def test_the_same_tokens_give_the_same_answers():
    ids = [1, 2, 3, 4, 5] * 20
    answers = [LoopDetector("bpe") for _ in range(2)]
    assert [answers[0].push(i) for i in ids] == [answers[1].push(i) for i in ids]
