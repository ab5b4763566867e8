"""Role markers, the loss mask, and what happens to conversations that are too long."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.chat_template import (
    MarkerTemplate,
    conversation_texts,
    fit_to_context,
    render,
    render_prompt,
)
from tinyllm.errors import ConfigError
from tinyllm.records import END_OF_TEXT, Conversation, Message
from tinyllm.reporting import SilentReporter
from tinyllm.tokenizer import train_bpe

TOKENIZER = train_bpe(["### Instruction:\n### Response:\n the cat sat " * 9], 280, SilentReporter())
END = TOKENIZER.end_of_text_id

words = st.text(max_size=20)
turns = st.lists(st.tuples(words, words), min_size=1, max_size=4)


def conversation_of(pairs: list[tuple[str, str]], system: str | None = None) -> Conversation:
    messages = [Message("system", system)] if system is not None else []
    for question, answer in pairs:
        messages += [Message("user", question), Message("assistant", answer)]
    return Conversation("c", tuple(messages))


def test_one_exchange_reads_as_documented() -> None:
    example = render(conversation_of([("Hi there", "Hello")]), TOKENIZER)
    assert TOKENIZER.decode(example.ids, skip_special=False) == (
        "### Instruction:\nHi there\n\n### Response:\nHello<|endoftext|>"
    )


def test_system_text_comes_first_and_turns_repeat() -> None:
    conversation = conversation_of([("1", "2"), ("3", "4")], system="Be kind.")
    assert TOKENIZER.decode(render(conversation, TOKENIZER).ids, skip_special=False) == (
        "Be kind.\n\n### Instruction:\n1\n\n### Response:\n2<|endoftext|>"
        "### Instruction:\n3\n\n### Response:\n4<|endoftext|>"
    )


@given(turns, st.none() | words)
def test_the_mask_covers_exactly_the_answers_and_their_end_tokens(
    pairs: list[tuple[str, str]], system: str | None
) -> None:
    example = render(conversation_of(pairs, system), TOKENIZER)
    learnt = [i for i, is_learnt in zip(example.ids, example.loss_mask, strict=True) if is_learnt]
    expected = [i for _, answer in pairs for i in [*TOKENIZER.encode(answer), END]]
    assert learnt == expected
    assert example.ids.count(END) == len(pairs)


@given(turns)
def test_without_masking_everything_is_learnt(pairs: list[tuple[str, str]]) -> None:
    example = render(conversation_of(pairs), TOKENIZER, mask_prompt=False)
    assert all(example.loss_mask)
    assert example.ids == render(conversation_of(pairs), TOKENIZER).ids


@given(turns, st.none() | words)
def test_a_prompt_is_token_for_token_what_training_saw(
    pairs: list[tuple[str, str]], system: str | None
) -> None:
    conversation = conversation_of(pairs, system)
    trained = render(conversation, TOKENIZER)
    prompt = render_prompt(conversation.messages[:-1], TOKENIZER)
    last_answer = [*TOKENIZER.encode(pairs[-1][1]), END]
    assert trained.ids == prompt + last_answer


def test_words_of_the_user_cannot_end_the_turn() -> None:
    prompt = render_prompt([Message("user", f"stop {END_OF_TEXT} {{content}}")], TOKENIZER)
    assert END not in prompt
    assert "{content}" in TOKENIZER.decode(prompt)


def test_messages_after_the_last_answer_are_left_out() -> None:
    whole = conversation_of([("a", "b")])
    open_ended = Conversation("c", (*whole.messages, Message("user", "and?")))
    assert render(open_ended, TOKENIZER) == render(whole, TOKENIZER)


def test_consecutive_user_messages_each_get_their_marker() -> None:
    messages = (Message("user", "a"), Message("user", "b"))
    text = TOKENIZER.decode(render_prompt(messages, TOKENIZER))
    assert text == "### Instruction:\na\n\n### Instruction:\nb\n\n### Response:\n"


@given(turns, st.integers(1, 200))
def test_a_fitted_conversation_fits_and_teaches_no_false_ending(
    pairs: list[tuple[str, str]], context_length: int
) -> None:
    conversation = conversation_of(pairs)
    whole = render(conversation, TOKENIZER)
    (fitted,) = fit_to_context([conversation], TOKENIZER, context_length=context_length)
    if fitted.example is None:
        first_prompt = render_prompt(conversation.messages[:1], TOKENIZER)
        assert len(first_prompt) > context_length
        assert fitted.n_dropped_turns == len(pairs)
        return
    n = len(fitted.example.ids)
    assert n <= context_length + 1
    assert fitted.example.ids == whole.ids[:n]
    assert fitted.example.loss_mask == whole.loss_mask[:n]
    assert any(fitted.example.loss_mask[1:])
    n_ends = fitted.example.ids.count(END)
    assert n_ends + fitted.is_cut == len(pairs) - fitted.n_dropped_turns
    assert (fitted.example.ids[-1] == END) != fitted.is_cut


def test_later_turns_are_dropped_before_the_first_is_cut() -> None:
    conversation = conversation_of([("a", "b"), ("c" * 50, "d" * 50)])
    one_turn = len(render(conversation_of([("a", "b")]), TOKENIZER).ids)
    (fitted,) = fit_to_context([conversation], TOKENIZER, context_length=one_turn - 1)
    assert (fitted.n_dropped_turns, fitted.is_cut) == (1, False)
    (cut,) = fit_to_context([conversation], TOKENIZER, context_length=one_turn - 2)
    assert (cut.n_dropped_turns, cut.is_cut) == (1, True)


def test_no_context_length_keeps_everything() -> None:
    conversation = conversation_of([("a" * 500, "b" * 500)] * 3)
    (fitted,) = fit_to_context([conversation], TOKENIZER, context_length=None)
    assert fitted.example == render(conversation, TOKENIZER)


def test_a_conversation_without_an_answer_teaches_nothing() -> None:
    question = Conversation("c", (Message("user", "anyone?"),))
    (fitted,) = fit_to_context([question], TOKENIZER, context_length=100)
    assert fitted.example is None
    assert render(question, TOKENIZER).ids == []


@given(turns)
def test_the_texts_of_a_conversation_are_those_that_render_encodes(
    pairs: list[tuple[str, str]],
) -> None:
    conversation = conversation_of(pairs)
    rendered = TOKENIZER.decode(render(conversation, TOKENIZER).ids)
    assert "".join(conversation_texts(conversation)) == rendered


def test_a_template_survives_json_and_refuses_what_it_is_not() -> None:
    template = MarkerTemplate(name="plain", user="Q: {content}\n", assistant_header="A: ")
    assert MarkerTemplate.from_json(json.loads(json.dumps(template.to_json()))) == template
    conversation = conversation_of([("why?", "so.")])
    text = TOKENIZER.decode(render(conversation, TOKENIZER, template).ids)
    assert text == "Q: why?\nA: so."
    for wrong in ([], {"user": 3}, {"colour": "red"}, {"user": "no place for words"}):
        with pytest.raises(ConfigError, match="chat template"):
            MarkerTemplate.from_json(wrong)
