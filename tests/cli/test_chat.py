"""`tinyllm chat` on a pipe: every line is a message, and only replies reach standard output."""

import json
import re
import signal
import subprocess
import sys

import pytest

from tests.cli.here import Here
from tests.learnt import write_learnt_checkpoint
from tests.tiny import write_tiny_checkpoint
from tinyllm.data.sources import read_conversations

FOX = "I am a naïve fox 🦊👍 日本."
BEAR = "I am a bear."
BACKWARDS = json.dumps(
    {"messages": [{"role": role, "content": "a"} for role in ("assistant", "user", "assistant")]}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    write_tiny_checkpoint(folder / "chat.safetensors", chat=True, context_length=256)
    write_tiny_checkpoint(folder / "base.safetensors")
    write_learnt_checkpoint(folder / "fox.safetensors", {"who are you?": FOX, "steer": "\x1b[1m"})
    write_learnt_checkpoint(folder / "bear.safetensors", {"who are you?": BEAR})
    return folder


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


def test_a_mistake_in_a_command_is_two_sentences(chat, tmp_path):
    stdin = f"/set temperature nan\nhello\n/save {tmp_path}/no/x.jsonl\n/zzzz\n"
    result = chat("-c", "chat", "--max-new-tokens", "16", stdin=stdin)
    assert result.code == 0
    assert 'found "nan". temperature: ' in result.err
    assert f"there is no folder {tmp_path}/no. Make it first" in result.err
    assert "there is no /zzzz. /help lists" in result.err
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    "command",
    [
        "tokens {}",
        "set seed {}",
        "set temperature {}",
        "set stop {}",
        "set ban [{}]",
        "set top_k {}",
    ],
)
@pytest.mark.parametrize("number", ["9" * 5000, "[" * 100_000], ids=["digits", "deep"])
def test_what_is_no_number_at_all_ends_no_talk(chat, command, number):
    stdin = (
        f"who are you?\n/{command.format(number)}\n/set stop default\n/set ban default\n/retry\n"
    )
    result = chat("-c", "fox", stdin=stdin)
    assert (result.code, result.out) == (0, f"{FOX}\n{FOX}\n")


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


def test_standard_output_holds_the_replies_alone(chat):
    result = chat("-c", "fox", stdin="who are you?\n/stats\n/tokens\n/help\n/history\n")
    assert result.out == FOX + "\n"
    assert "\x1b" not in result.err
    assert re.search(r'^   1  "I" +\d+\.\d %', result.err, re.MULTILINE)
    assert re.search(r"^ +\d+  \(end\) +\d+\.\d %", result.err, re.MULTILINE)


def test_a_reply_brings_no_control_characters(chat):
    assert chat("-c", "fox", stdin="steer\n").out == "␛[1m\n"


def test_bytes_that_are_no_text_and_line_ends_of_windows_are_taken(folder):
    done = subprocess.run(
        [sys.executable, "-m", "tinyllm", "chat", "-c", "fox"],
        cwd=folder,
        input=b"who are you?\r\n\xff\xfe\n/history\n",
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.decode().splitlines()[0] == FOX
    assert "1 › who are you?" in done.stderr.decode()
    assert "2 › \N{REPLACEMENT CHARACTER}" in done.stderr.decode()


def test_quoted_lines_are_one_message_even_where_the_end_is_missing(chat):
    stdin = '"""/one\ntwo"""\n/undo\n /three\n/undo\n"""four\nfive\n'
    result = chat("-c", "chat", "--max-new-tokens", "2", stdin=stdin)
    assert "taken back: /one\ntwo" in result.err
    assert "taken back:  /three" in result.err
    assert result.err.count("cut off after 2 tokens") == 3


def test_two_models_answer_below_each_other(chat):
    result = chat("-c", "fox", "--compare", "bear", stdin="who are you?\n/compare off\n/retry\n")
    assert result.out == f"[fox]\n{FOX}\n[bear]\n{BEAR}\n{FOX}\n"


def test_the_commands_change_both_conversations(chat):
    stdin = "hello\n/undo\nwho are you?\n/clear\nbla\n/edit who are you?\n/stats\n/tokens 1\n"
    result = chat("-c", "fox", "--compare", "bear", stdin=stdin)
    assert result.out.endswith(f"[fox]\n{FOX}\n[bear]\n{BEAR}\n")
    assert result.err.count("ended by itself") == 2
    assert "[bear]" in result.err


def test_models_of_the_same_name_are_told_apart_by_their_folders(chat, folder):
    (folder / "old").mkdir(exist_ok=True)
    write_learnt_checkpoint(folder / "old" / "fox.safetensors", {"who are you?": BEAR})
    result = chat("-c", "fox", "--compare", "old/fox.safetensors", stdin="who are you?\n")
    assert f"[old/fox]\n{BEAR}" in result.out


def test_a_message_too_long_for_the_other_model_is_answered_by_the_first(chat, folder):
    write_tiny_checkpoint(folder / "short.safetensors", chat=True, context_length=32)
    stdin = "who are you?\n/retry\n/undo\n"
    result = chat("-c", "fox", "--compare", "short", stdin=stdin)
    assert result.out == f"{FOX}\n{FOX}\n"
    assert "short: this message is" in result.err
    assert "taken back: who are you?" in result.err


def test_another_model_that_cannot_be_had_changes_nothing(chat):
    stdin = "who are you?\n/model nobody\n/compare nobody\n/retry\n"
    result = chat("-c", "fox", stdin=stdin)
    assert result.out == f"{FOX}\n{FOX}\n"
    assert result.err.count("there is no checkpoint named nobody; looked in .") == 2


def test_another_model_is_found_by_nothing_name_file_and_folder(chat, folder):
    stdin = f"/model\n/model bear\n/model {folder / 'fox.safetensors'}\n/model {folder}\n"
    result = chat(stdin=stdin)
    assert result.code == 0
    assert "checkpoint: " in result.err
    assert "here are: " in result.err
    assert "talking to bear.safetensors; the conversation goes on" in result.err
    assert f"talking to {folder / 'fox.safetensors'};" in result.err
    assert result.err.count("the conversation goes on") == 3


def test_kept_exchanges_are_data_to_train_on(chat, tmp_path):
    kept, other = tmp_path / "kept.jsonl", tmp_path / "other.jsonl"
    stdin = (
        f"/keep {kept}\nwho are you?\n/keep {kept}\n/system Be a fox.\nagain\n/keep\n"
        f"/keep all {other}\n/keep {tmp_path}/no/x.jsonl\n/keep x.txt\n"
    )
    result = chat("-c", "fox", stdin=stdin)
    assert "there is no reply to keep yet" in result.err
    assert "there is no folder" in result.err
    assert "x.txt is no .jsonl file" in result.err
    records = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    roles = [[message["role"] for message in record["messages"]] for record in records]
    pair = ["user", "assistant"]
    assert roles == [pair, ["system", *pair]]
    (whole,) = map(json.loads, other.read_text(encoding="utf-8").splitlines())
    assert [message["role"] for message in whole["messages"]] == ["system", *pair, *pair]
    assert records[0]["messages"][1]["content"] == FOX
    assert len(list(read_conversations(str(kept)))) == 2


def test_an_exchange_is_kept_once_in_a_file(chat, tmp_path):
    kept = tmp_path / "kept.jsonl"
    stdin = f"one\n/keep {kept}\n/keep\n/keep all\ntwo\nthree\n/keep all\n/keep\n"
    result = chat("-c", "fox", stdin=stdin)
    assert result.err.count("kept.jsonl has this exchange already") == 2
    assert "kept.jsonl has all of it already" in result.err
    records = [json.loads(line)["messages"] for line in kept.read_text("utf-8").splitlines()]
    users = [[m["content"] for m in record if m["role"] == "user"] for record in records]
    assert users == [["one"], ["two", "three"]]


def test_a_reply_is_kept_as_better_than_those_it_replaced(chat, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    stdin = (
        f"/keep pair\n/set max_new_tokens 2\nwho are you?\n/keep pair {pairs}\n/retry\n"
        f"/set max_new_tokens default\n/retry\n/keep pair x.txt\n/keep pair {pairs}\n"
        f"more\n/retry\n/keep pair {pairs}\n"
    )
    result = chat("-c", "fox", stdin=stdin)
    assert "there is no other reply to this message" in result.err
    assert "x.txt is no .jsonl file" in result.err
    assert "kept 1 pair in" in result.err
    assert result.err.count("a pair is of one message") == 2
    (pair,) = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()]
    assert (pair["prompt"], pair["chosen"]) == ("who are you?", FOX)
    assert FOX.startswith(pair["rejected"])
    assert (pair["judge"], pair["margin"]) == ("user", 1.0)


def test_a_saved_conversation_goes_on(chat, tmp_path):
    saved = tmp_path / "saved.jsonl"
    first = chat("-c", "fox", "--system", "Be.", stdin=f"who are you?\nmore\n/save {saved}\n")
    assert first.code == 0
    result = chat("-c", "fox", stdin=f"/load {saved}\n/history\n/system\n/undo\n/retry\n")
    assert "loaded 2 exchanges" in result.err
    assert "2 › more" in result.err
    assert "system text: Be." in result.err
    assert result.out == FOX + "\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "holds no conversation"),
        ('{"messages": [{"role": "user", "content": "alone"}]}\n', "holds no conversation"),
        ('{"messages": [{"role": "user", "content": "a"}, {"ro\n', "JSON"),
        ('{"instruction": "ask", "output": "tell"}\n', "loaded 1 exchange"),
        (BACKWARDS, "do not take turns"),
    ],
)
def test_what_is_no_conversation_is_not_loaded(chat, tmp_path, content, why):
    file = tmp_path / "talk.jsonl"
    file.write_text(content)
    result = chat("-c", "fox", stdin=f"/load {file}\n/load\n")
    assert result.code == 0
    assert why in result.err
    assert "/load needs a file" in result.err


@pytest.mark.parametrize("command", ["keep", "save", "load", "model", "compare"])
@pytest.mark.parametrize(
    "name", ["~nobodyatall/x.jsonl", "a\0b.jsonl", "é" * 300 + ".jsonl", "\ud800"]
)
def test_a_file_of_an_impossible_name_is_refused_in_a_sentence(chat, command, name):
    result = chat("-c", "fox", stdin=f"who are you?\n/{command} {name}\n/retry\n")
    assert (result.code, result.out) == (0, f"{FOX}\n{FOX}\n")
    assert "warning: " in result.err or name == "\ud800"


def test_a_base_model_has_texts_and_no_exchanges(chat, tmp_path):
    stdin = f"Once\n/keep\n/load x\n/system x\n/save {tmp_path / 'texts.txt'}\n/stats\n"
    result = chat("-c", "base", "--max-new-tokens", "4", stdin=stdin)
    assert "it has no exchanges to keep. /save writes its texts" in result.err
    assert "it has no conversation to go on with" in result.err
    assert "it has no place for a system text" in result.err
    assert (tmp_path / "texts.txt").read_text().startswith("Once")
    assert "context: 96 tokens, for each text anew" in result.err


def test_settings_that_cannot_be_drawn_by_are_told_and_the_talk_goes_on(chat):
    stdin = "/set ban nosuchtokenanywhere\nwho are you?\n/set ban default\nwho are you?\n/history\n"
    result = chat("-c", "fox", stdin=stdin)
    assert result.code == 0
    assert result.out == FOX + "\n"
    assert "2 ›" not in result.err


def test_control_c_ends_a_chat_on_a_pipe(folder):
    chat = subprocess.Popen(
        [sys.executable, "-m", "tinyllm", "chat", "-c", "fox"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert chat.stdin is not None
    assert chat.stdout is not None
    chat.stdin.write(b"who are you?\n")
    chat.stdin.flush()
    assert chat.stdout.readline().decode() == FOX + "\n"
    chat.send_signal(signal.SIGINT)
    out, err = chat.communicate(timeout=60)
    assert (out, chat.returncode) == (b"", 130)
    assert b"Traceback" not in err


def test_chat_on_a_cpu_does_not_import_torch(folder):
    code = (
        "import io, sys\n"
        "from tinyllm.cli.app import run\n"
        "sys.stdin = io.StringIO('who are you?\\n/stats\\n/tokens\\n/compare bear\\n/help\\n')\n"
        "assert run(['chat', '-c', 'fox', '--device', 'cpu']) == 0\n"
        "print(sorted({'torch', 'prompt_toolkit', 'datasets'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
