"""Prompts go through the template only where there is one."""

import pytest

from tests.tiny import tiny_tokenizer
from tinyllm.chat_template import render_prompt
from tinyllm.config.generation import Sampling
from tinyllm.errors import UsageError
from tinyllm.generation.prompting import doubts, message_ids, prompt_ids
from tinyllm.records import Message


def test_a_chat_tuned_model_gets_its_template_unless_raw(chatty):
    templated = prompt_ids(chatty, "Why?")
    assert templated == render_prompt([Message("user", "Why?")], chatty.tokenizer, chatty.template)
    assert prompt_ids(chatty, "Why?", raw=True) == chatty.tokenizer.encode("Why?")


def test_a_system_text_needs_a_template(plain, chatty):
    assert prompt_ids(chatty, "Why?", system="Be brief.") != prompt_ids(chatty, "Why?")
    with pytest.raises(UsageError, match="not chat-tuned"):
        prompt_ids(plain, "Why?", system="Be brief.")
    with pytest.raises(UsageError, match="--raw"):
        prompt_ids(chatty, "Why?", raw=True, system="Be brief.")


def test_penalties_on_single_characters_are_doubted():
    sampling = Sampling(repetition_penalty=1.2, no_repeat_ngram=3)
    [doubt] = doubts(tiny_tokenizer("char"), sampling)
    assert "repetition_penalty, no_repeat_ngram" in doubt
    assert not list(doubts(tiny_tokenizer("bpe"), sampling))


def test_settings_that_do_nothing_are_doubted():
    [doubt] = doubts(tiny_tokenizer(), Sampling(top_k=5000))
    assert "top_k 5000" in doubt
    assert not list(doubts(tiny_tokenizer("char"), Sampling()))


def test_messages_are_the_turns_that_training_saw(plain, chatty):
    turns = [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Why?")]
    ids = message_ids(chatty, turns)
    assert ids == render_prompt(turns, chatty.tokenizer, chatty.template)
    brief = Message("system", "Be brief.")
    assert message_ids(chatty, turns, system="Be brief.") == message_ids(chatty, [brief, *turns])
    assert message_ids(chatty, [brief, *turns], system="Be long.") == message_ids(
        chatty, [brief, *turns]
    )
    with pytest.raises(UsageError, match="no place for messages: this model is not chat-tuned"):
        message_ids(plain, turns)
    with pytest.raises(UsageError, match="--raw"):
        message_ids(chatty, turns, raw=True)
