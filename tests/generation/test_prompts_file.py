"""Files of prompts: one a line, or one JSON value a line with more of what is wanted."""

import io
import json
import sys

import pytest

from tinyllm.errors import ConfigError, DataError
from tinyllm.generation.prompts_file import STANDARD_INPUT, Prompt, read_prompts
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


def test_every_line_break_but_the_newline_belongs_to_a_prompt(tmp_path):
    text = "one\u2028two\x0bthree\x85four"
    (tmp_path / "prompts.txt").write_text(f"{text}\r\nfive", encoding="utf-8", newline="")
    assert [p.text for p in read_prompts(tmp_path / "prompts.txt")] == [text, "five"]
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [p.text for p in read_prompts(path)] == [text]


def test_a_line_may_hold_messages_and_settings_of_its_own(tmp_path):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        json.dumps({"messages": turns, "sampling": {"temperature": 0, "stop": ["."]}, "tag": 5})
    )
    [prompt] = read_prompts(path)
    assert prompt.messages == (Message("system", "Be brief."), Message("user", "Hi"))
    assert prompt.to_json() == {"messages": turns}
    assert prompt.sampling is not None
    assert prompt.sampling.model_fields_set == {"temperature", "stop"}
    assert (prompt.sampling.temperature, prompt.sampling.stop) == (0, (".",))


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ({"prompt": "a", "messages": []}, DataError, "exclude each other"),
        ({"messages": []}, DataError, "a list that ends with the user's"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, DataError, "ends with the user's"),
        ({"messages": [{"role": "robot", "content": "a"}]}, DataError, "not a message"),
        ({"messages": [{"role": "user", "content": None}]}, DataError, "not a message"),
        ({"messages": ["Hi"]}, DataError, "not a message"),
        ({"messages": "Hi"}, DataError, "a list that ends with the user's"),
        ({"prompt": 5}, DataError, "no prompt here"),
        ({}, DataError, "no prompt here"),
        (["a"], DataError, "no prompt here"),
        (5, DataError, "no prompt here"),
        ({"prompt": "a", "id": None}, DataError, "an id is a text or a whole number"),
        ({"prompt": "a", "id": {}}, DataError, "an id is a text or a whole number"),
        ({"prompt": "a", "sampling": 5}, DataError, "sampling must be an object"),
        ({"prompt": "a", "temperature": 1}, DataError, "temperature is a setting of the line"),
        ({"prompt": "a", "sampling": {"top_p": 2}}, ConfigError, "`top_p`: must be at most 1"),
        ({"prompt": "a", "sampling": {"topp": 1}}, ConfigError, "unknown key `topp`"),
        ({"prompt": "a", "sampling": {"seed": "x"}}, ConfigError, "must be a whole number"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused_with_its_place(tmp_path, line, error, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'"fine"\n{json.dumps(line)}\n')
    with pytest.raises(error, match=message) as caught:
        read_prompts(path)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_deep_nesting_is_refused(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": ' + "[" * 100_000)
    with pytest.raises(DataError, match=r":1: this JSON is nested too deeply"):
        read_prompts(path)


def test_two_prompts_of_one_name_are_refused(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a", "id": 2}\n"b"\n')
    with pytest.raises(DataError, match=r"prompts.jsonl:2: the id '2' stands in line 1 already"):
        read_prompts(path)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_prompts(path)
    with pytest.raises(DataError, match="is a folder"):
        read_prompts(tmp_path)


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("one\n\ntwo", [Prompt("1", "one"), Prompt("3", "two")]),
        ('{"prompt": "a", "id": "x"}\n', [Prompt("x", "a")]),
        ('{"prompt": "a"}\nplain', [Prompt("1", '{"prompt": "a"}'), Prompt("2", "plain")]),
        ('"quoted"\n', [Prompt("1", '"quoted"')]),
        ("{curly", [Prompt("1", "{curly")]),
    ],
)
def test_standard_input_is_json_where_every_line_is_an_object(monkeypatch, text, prompts):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert read_prompts(STANDARD_INPUT) == prompts


def test_nothing_on_standard_input_is_refused(monkeypatch):
    for silent in (io.StringIO("\n"), None):
        monkeypatch.setattr(sys, "stdin", silent)
        with pytest.raises(DataError, match="standard input holds no prompt"):
            read_prompts(STANDARD_INPUT)


def test_a_number_of_thousands_of_digits_is_refused_with_its_place(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'{{"prompt": "a", "id": {"9" * 5000}}}\n')
    with pytest.raises(DataError, match=r":1: a number here has thousands of digits"):
        read_prompts(path)
