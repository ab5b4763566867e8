"""Tokens named by users become ids; what cannot be meant is refused, with a hint."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import tiny_tokenizer
from tinyllm.config.generation import Sampling
from tinyllm.errors import UsageError
from tinyllm.generation.sampler import Sampler, Samplers
from tinyllm.generation.texts import TextTable
from tinyllm.generation.token_names import token_id
from tinyllm.records import END_OF_TEXT

BPE, CHAR = tiny_tokenizer("bpe"), tiny_tokenizer("char")


def samplers(tokenizer=BPE) -> Samplers:
    return Samplers(tokenizer, tokenizer.vocab_size + 3)  # as a model with padding


def drawn(sampler: Sampler, vocab_size: int, *, min_drawn: int = 0) -> set[int]:
    """Return the tokens that a thousand draws from flat odds yield."""
    texts = TextTable([[1]] * 1000, [99] * 1000, range(1000))
    for _ in range(min_drawn):
        texts.append(np.arange(1000), np.ones(1000, np.int64))
    logits = np.zeros((1000, vocab_size), np.float32)
    return set(sampler.choose(logits, texts, np.arange(1000)).tolist())


@pytest.mark.parametrize("tokenizer", [BPE, CHAR], ids=["bpe", "char"])
def test_every_token_is_found_by_its_text_and_number(tokenizer):
    for one in range(tokenizer.vocab_size):
        assert token_id(f"#{one}", tokenizer, tokenizer.vocab_size) == one
        text = tokenizer.token_bytes(one).decode(errors="ignore")
        if tokenizer.encode(text) == [one]:
            assert token_id(text, tokenizer, tokenizer.vocab_size) == one


@pytest.mark.parametrize("tokenizer", [BPE, CHAR], ids=["bpe", "char"])
def test_special_tokens_go_by_their_names(tokenizer):
    found = token_id(END_OF_TEXT, tokenizer, tokenizer.vocab_size)
    assert found == tokenizer.end_of_text_id


def test_a_number_sign_without_a_number_is_a_text():
    assert BPE.decode([token_id("#", BPE, BPE.vocab_size)]) == "#"


def test_a_text_of_several_tokens_is_refused_with_its_tokens():
    text = "plant fox"
    with pytest.raises(UsageError, match="is not one token") as caught:
        token_id(text, BPE, BPE.vocab_size)
    for one in BPE.encode(text):
        assert f"{BPE.token_text(one)!r} (#{one})" in caught.value.hint


def test_a_word_that_is_one_token_behind_a_space_is_told_so():
    word = next(
        text[1:]
        for text in map(BPE.token_text, range(BPE.vocab_size))
        if text.startswith(" ") and len(BPE.encode(text)) == 1 and len(BPE.encode(text[1:])) > 1
    )
    with pytest.raises(UsageError) as caught:
        token_id(word, BPE, BPE.vocab_size)
    assert f"{' ' + word!r}, it is one" in caught.value.hint


def test_a_character_that_the_model_never_saw_is_refused():
    with pytest.raises(UsageError, match="does not know '中'"):
        token_id("中", CHAR, CHAR.vocab_size)


@pytest.mark.parametrize("number", ["#5000", "#" + "9" * 5000])
def test_a_number_beyond_the_vocabulary_is_refused(number):
    with pytest.raises(UsageError, match="there is no token"):
        token_id(number, BPE, BPE.vocab_size)


@given(st.text(min_size=1, max_size=20))
def test_any_name_is_a_token_or_refused(name):
    for tokenizer in (BPE, CHAR):
        found = None
        with contextlib.suppress(UsageError):
            found = token_id(name, tokenizer, tokenizer.vocab_size)
        ids = tokenizer.encode(name)
        is_one = len(ids) == 1 and ids[0] != tokenizer.unknown_id
        assert found is None or 0 <= found < tokenizer.vocab_size
        assert found is not None or not is_one


def test_nothing_without_a_text_is_drawn_but_the_end():
    sampler = samplers(CHAR).get(Sampling(temperature=1.0, top_p=1.0))
    textless = {*range(CHAR.vocab_size, CHAR.vocab_size + 3), CHAR.unknown_id}
    found = drawn(sampler, CHAR.vocab_size + 3)
    assert found.isdisjoint(textless)
    assert CHAR.end_of_text_id in found
    assert len(found) == CHAR.vocab_size - 1


def test_banned_tokens_are_not_drawn():
    banned = ("e", " ", END_OF_TEXT, "#7")
    sampler = samplers(CHAR).get(Sampling(temperature=1.0, top_p=1.0, ban=banned))
    ids = {token_id(one, CHAR, CHAR.vocab_size) for one in banned}
    found = drawn(sampler, CHAR.vocab_size + 3)
    assert len(found) == CHAR.vocab_size - 1 - len(ids)
    assert found.isdisjoint(ids)


def test_end_tokens_end_a_text_and_may_be_drawn():
    sampler = samplers(CHAR).get(
        Sampling(temperature=1.0, top_p=1.0, end_tokens=(".", "<unk>"), min_new_tokens=2)
    )
    stop = token_id(".", CHAR, CHAR.vocab_size)
    assert sampler.end_ids == {CHAR.end_of_text_id, CHAR.unknown_id, stop}
    assert drawn(sampler, CHAR.vocab_size + 3, min_drawn=1).isdisjoint(sampler.end_ids)
    assert drawn(sampler, CHAR.vocab_size + 3, min_drawn=2) >= sampler.end_ids


def test_the_same_rules_share_a_sampler_whatever_else_differs():
    kept = samplers()
    one = kept.get(Sampling(top_k=3, seed=1, stop=("x",), logprobs=2, max_new_tokens=4))
    assert kept.get(Sampling(top_k=3, seed=2, stop_on_loop=False)) is one
    assert kept.get(Sampling(top_k=4, seed=1)) is not one


@pytest.mark.parametrize(
    "wrong", [{"ban": ("the fox",)}, {"end_tokens": ("the fox",)}, {"logit_bias": {10**6: 1.0}}]
)
def test_what_is_no_token_of_the_model_is_refused(wrong):
    with pytest.raises(UsageError):
        samplers().get(Sampling.model_validate(wrong))


def test_a_text_ends_before_any_of_its_end_tokens(make_engine, plain):
    engine, prompt = make_engine(plain), plain.tokenizer.encode("Once upon a time")
    free = Sampling(temperature=2.0, top_p=1.0, seed=5, max_new_tokens=60)
    [whole] = engine.complete([prompt], free)
    for place, token in enumerate(whole.ids):
        first = whole.ids.index(token)
        if first == place and token != plain.tokenizer.end_of_text_id:
            ends = free.model_copy(update={"end_tokens": (f"#{token}",)})
            [cut] = engine.complete([prompt], ends)
            assert (cut.finish_reason, cut.ids) == ("stop", whole.ids[: place + 1])
            before = plain.tokenizer.decode(whole.ids[:place])
            assert before.rstrip("\ufffd") == cut.text.rstrip("\ufffd")


def test_a_greedy_text_without_its_likeliest_token(make_engine, plain):
    engine, prompt = make_engine(plain), plain.tokenizer.encode("Once upon a time")
    [free] = engine.complete([prompt], Sampling(temperature=0.0, max_new_tokens=1, logprobs=2))
    assert free.odds is not None
    (first, _), (second, _) = free.odds[0].top
    assert free.ids == (first,)
    for rules in ({"ban": (f"#{first}",)}, {"logit_bias": {first: -100.0}}):
        sampling = Sampling.model_validate({"temperature": 0.0, "max_new_tokens": 1, **rules})
        [held] = engine.complete([prompt], sampling)
        assert held.ids == (second,)
