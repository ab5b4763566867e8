"""Prompts come from files, and go through the template only where there is one."""

import pytest

from tests.tiny import tiny_tokenizer
from tinyllm.chat_template import render_prompt
from tinyllm.config.generation import Sampling
from tinyllm.errors import DataError, UsageError
from tinyllm.generation.prompting import doubts, prompt_ids
from tinyllm.generation.prompts_file import read_prompts
from tinyllm.records import Message


def test_a_text_file_holds_a_prompt_per_line(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeffOnce upon\n\nThe naïve 🌍\n", encoding="utf-8")
    prompts = read_prompts(path)
    assert [prompt.text for prompt in prompts] == ["Once upon", "The naïve 🌍"]
    assert [prompt.id for prompt in prompts] == ["1", "3"]


def test_a_jsonl_file_holds_prompts_of_several_lines(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "a", "prompt": "one\\ntwo"}\n"three"\n')
    assert [(p.id, p.text) for p in read_prompts(path)] == [("a", "one\ntwo"), ("2", "three")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a"}\n{"prompt"', r"prompts.jsonl:2: this is not valid JSON"),
        ('{"text": "a"}', r"prompts.jsonl:1: no prompt here"),
        ("\n\n", "holds no prompt"),
    ],
)
def test_a_broken_prompts_file_is_refused_with_the_line(tmp_path, content, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_prompts(path)


def test_a_missing_prompts_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no prompts file"):
        read_prompts(tmp_path / "nothing.txt")


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
