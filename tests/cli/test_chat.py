"""`tinyllm chat` on a real terminal and on a pipe."""

import json
import os
import signal
import sys

import pexpect
import pytest

from tests.cli.here import Here
from tests.tiny import write_tiny_checkpoint

READY = "›"
SECONDS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    write_tiny_checkpoint(folder / "chat.safetensors", chat=True, context_length=256)
    write_tiny_checkpoint(folder / "long.safetensors", chat=True, context_length=16384)
    write_tiny_checkpoint(folder / "base.safetensors")
    return folder


@pytest.fixture
def terminal(folder):
    """Start `tinyllm chat` on a pseudo terminal, and end it with the test."""
    started = []

    def start(checkpoint, *options):
        child = pexpect.spawn(
            sys.executable,
            ["-m", "tinyllm", "chat", "-c", checkpoint, "--seed", "3", *options],
            cwd=str(folder),
            env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
            encoding="utf-8",
            codec_errors="replace",
            timeout=SECONDS,
            dimensions=(30, 100),
        )
        started.append(child)
        child.expect("/help lists what can be typed")
        child.expect(READY)
        return child

    yield start
    for child in started:
        child.close(force=True)


def type_line(child, line):
    child.send(line + "\r")


def test_a_conversation_on_a_terminal(terminal, folder):
    child = terminal("chat", "--max-new-tokens", "6")
    type_line(child, "my name is Ada")
    child.expect("cut off|\n")
    child.expect(READY)
    for line, answer in [
        ("/help", "Draw the last reply anew"),
        ("/set temperature 0.25", "temperature = 0.25"),
        ("/set temperature -1", "must be at least 0"),
        ("/set temperatur 1", r"Did you mean\s+`temperature`"),
        ("/set", "top_p = 0.95"),
        ("/system You are a fox.", "system text: You are a fox."),
        ("/system clear", r"system text: \(none\)"),
        ("/retri", "Did you mean /retry"),
        ("/zzzz", "/help lists what there is"),
        ("/undo", "taken back: my name is Ada"),
        ("/retry", "nothing has been said yet"),
        ("/save x.jsonl", "nothing to save"),
    ]:
        type_line(child, line)
        child.expect(answer)
        child.expect(READY)
    type_line(child, "/quit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_control_c_stops_the_reply_and_not_the_program(terminal, folder):
    child = terminal("long", "--temperature", "0")  # it repeats itself for ever
    type_line(child, "tell me everything")
    child.expect(r"(\r\n){9}")
    os.kill(child.pid, signal.SIGINT)
    child.expect("stopped; /retry draws it anew")
    child.expect(READY)
    type_line(child, "/undo")
    child.expect("taken back: tell me everything")
    child.expect(READY)
    child.sendintr()
    child.expect("Ctrl-D or /quit leaves")
    child.expect(READY)
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_several_lines_between_quotes_are_one_message(terminal, folder):
    child = terminal("chat", "--max-new-tokens", "4")
    for line in ('"""one', "two", 'three"""'):
        type_line(child, line)
    child.expect(READY)
    type_line(child, "/undo")
    child.expect("taken back: one\r\ntwo\r\nthree")


@pytest.fixture
def chat(folder, monkeypatch, capfd):
    """Run `tinyllm chat` on a pipe."""
    here = Here(folder, monkeypatch, capfd)
    return lambda *arguments, **options: here("chat", *arguments, "--seed", "5", **options)


def test_a_base_model_says_that_it_only_continues_text(chat):
    result = chat("-c", "base", "--max-new-tokens", "4", stdin="Once\n")
    assert result.code == 0
    assert "not chat-tuned: it continues each text" in result.err


def test_a_pipe_is_answered_line_by_line_and_can_be_saved(chat, tmp_path):
    saved = tmp_path / "saved.jsonl"
    result = chat(
        "-c",
        "chat",
        "--max-new-tokens",
        "16",
        stdin=f"naïve 🌍 日本\n\nand you?\n/save {saved}\n/save {saved}\n",
    )
    assert result.code == 0, result.err
    assert "\x1b" not in result.out + result.err
    assert "exists already" in result.err
    record = json.loads(saved.read_text(encoding="utf-8"))
    assert [m["role"] for m in record["messages"]] == ["user", "assistant"] * 2
    assert record["messages"][0]["content"] == "naïve 🌍 日本"
    assert record["messages"][1]["content"] in result.out


def test_a_mistake_in_a_command_is_two_sentences(chat, tmp_path):
    stdin = f"/set temperature nan\nhello\n/save {tmp_path}/no/x.jsonl\n/zzzz\n"
    result = chat("-c", "chat", "--max-new-tokens", "16", stdin=stdin)
    assert result.code == 0
    assert 'found "nan". temperature: ' in result.err
    assert f"there is no folder {tmp_path}/no. Make it first" in result.err
    assert "there is no /zzzz. /help lists" in result.err
    assert not (tmp_path / "no").exists()


def test_a_base_model_is_said_to_be_cut_off_once(chat):
    result = chat("-c", "base", "--max-new-tokens", "4", stdin="Once\nThe\nOne\n")
    assert result.err.count("cut off") == 1


def test_a_full_context_drops_the_oldest_turns_and_says_so(chat):
    stdin = "".join(f"message number {i} about the fox\n" for i in range(8))
    result = chat("-c", "chat", "--max-new-tokens", "8", stdin=stdin)
    assert result.code == 0
    assert "no longer sees" in result.err


def test_a_message_that_does_not_fit_is_refused_and_the_talk_goes_on(chat):
    stdin = "fox " * 300 + "\nhello\n/undo\n"
    result = chat("-c", "chat", "--max-new-tokens", "4", stdin=stdin)
    assert result.code == 0
    assert "Say it shorter" in result.err
    assert "taken back: hello" in result.err


def test_a_system_text_for_a_base_model_is_refused(chat):
    result = chat("-c", "base", "--system", "You are a fox.")
    assert result.code == 2
    assert "not chat-tuned" in result.err
