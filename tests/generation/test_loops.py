"""A loop is found where there is one, soon, and never where there is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import tiny_tokenizer
from tinyllm.generation.loops import LoopDetector

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


@given(kinds, tokens, units, st.integers(0, 100))
def test_what_is_called_a_loop_repeats_to_its_end(kind, beginning, unit, n_times):
    ids = [*beginning, *unit * n_times]
    found = end_of_search(kind, ids)
    if found is not None:
        tail = ids[:found][::-1]
        least = LEAST_TOKENS[kind]
        assert any(
            tail[distance : max(least, 4 * distance)] == tail[: max(least, 4 * distance) - distance]
            and found >= max(least, 4 * distance)
            for distance in range(1, found)
        )


@given(kinds, tokens, units)
def test_every_endless_loop_is_found_soon(kind, beginning, unit):
    found = end_of_search(kind, [*beginning, *unit * 1000])
    assert found is not None
    assert found <= 3 * (len(beginning) + max(4 * len(unit), LEAST_TOKENS[kind]))


def test_the_same_tokens_give_the_same_answers():
    ids = [1, 2, 3, 4, 5] * 20
    answers = [LoopDetector("bpe") for _ in range(2)]
    assert [answers[0].push(i) for i in ids] == [answers[1].push(i) for i in ids]
