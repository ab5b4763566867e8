"""`tinyllm chat` on a real terminal: what a person types, and what the screen shows."""

import json
import re
import stat

import pytest

from tests.cli.screen import Terminal
from tests.learnt import write_learnt_checkpoint
from tests.tiny import write_tiny_checkpoint

LONG_ANSWER = (
    "Once upon a time there was a little fox who lived in a small red house by the river, and "
    "every day it went to the water to play with its friends until the moon was high in the sky."
)
ANSWERS = {
    "who are you?": "I am a naïve fox 🦊👍 日本.",
    "a story": LONG_ANSWER,
    "steer": "red \x1b[31m bell \x07 back \r over",
}
STATUS = r"fox · context (\d+) of 256 tokens, (\d+) %"
LEAVES = "Ctrl-C again, Ctrl-D or /quit leaves."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    write_learnt_checkpoint(folder / "fox.safetensors", ANSWERS)
    write_learnt_checkpoint(folder / "bear.safetensors", {"who are you?": "I am a bear."})
    write_tiny_checkpoint(folder / "endless.safetensors", chat=True, context_length=16384)
    write_tiny_checkpoint(folder / "base.safetensors")
    return folder


@pytest.fixture
def chat(folder, tmp_path):
    """Start `tinyllm chat` on a terminal, and end it with the test."""
    started = []

    def start(checkpoint="fox", *options, **terminal):
        here = {"folder": folder, "state": tmp_path / "state", **terminal}
        started.append(Terminal("chat", "-c", checkpoint, "--seed", "3", *options, **here))
        started[-1].prompt()
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


def test_a_conversation_with_every_command(chat, tmp_path):
    terminal = chat()
    terminal.say("who are you?", "I am a naïve fox 🦊👍 日本.")
    saved, kept = tmp_path / "saved.jsonl", tmp_path / "kept.jsonl"
    for line, answer in [
        ("/help", "/retry Draw the last reply anew."),
        ("/?", "/quit Leave (so does Ctrl-D)."),
        ("/set temperature 0.25", "temperature = 0.25"),
        ("/params", "temperature = 0.25 (set here)"),
        ("/params top_p", "top_p = 0.95 (default) Choose among the fewest tokens"),
        ("/set", "stop_on_loop = true"),
        ("/set temperature -1", "must be at least 0"),
        ("/set temperatur 1", "Did you mean `temperature`?"),
        ("/set temperature default", "temperature = 0.0"),
        ("/params temperature", "temperature = 0.0 (from the checkpoint)"),
        ("/set stop END", 'stop = ["END"'),
        ("/system You are a fox.", "system text: You are a fox."),
        ("/system", "system text: You are a fox."),
        ("/system clear", "system text: (none)"),
        ("/retry", "I am a naïve fox 🦊👍 日本."),
        ("/stats", "s, ended by itself"),
        ("/history", "1 › who are you? I am a naïve fox 🦊👍 日本."),
        (f"/keep {kept}", "kept 1 exchange in"),
        (f"/save {saved}", "saved as"),
        ("/undo", "taken back: who are you?"),
        ("/retry", "nothing has been said yet"),
        ("/tokens", "there is no last reply to look at"),
        ("/save x.jsonl", "nothing to save"),
        (f"/load {saved}", "loaded 1 exchange"),
        ("/history", "1 › who are you? I am a naïve fox"),
        ("/clear", "the conversation starts afresh"),
        ("/history", "nothing has been said yet"),
        ("/model", "fox.safetensors: a chat model of"),
        ("/retri", "Did you mean /retry?"),
        ("/zzzz", "/help lists what there is."),
    ]:
        terminal.say(line, answer)
    terminal.type("/quit\r")
    assert terminal.end() == 0
    expected = {
        "messages": [
            {"role": "user", "content": "who are you?"},
            {"role": "assistant", "content": ANSWERS["who are you?"]},
        ]
    }
    assert json.loads(kept.read_text(encoding="utf-8")) == expected


def test_control_c_keeps_the_part_of_the_reply_that_was_said(chat):
    terminal = chat("endless", "--set", "sampling.stop_on_loop=false")
    terminal.type("tell me everything\r")
    terminal.wait(lambda: terminal.n_lines() > 120)
    terminal.type("\x03")
    terminal.see("stopped; what was said is kept: /retry draws it anew")
    terminal.prompt()
    assert "^C" not in terminal.raw
    terminal.say("/stats", "s, broken off")
    assert len(terminal.say("/history")) > 40
    terminal.say("/undo", "taken back: tell me everything")


def test_control_c_stops_both_models(chat):
    terminal = chat("endless", "--compare", "endless", "--set", "sampling.stop_on_loop=false")
    terminal.type("tell me everything\r")
    terminal.wait(lambda: terminal.n_lines() > 80)
    terminal.type("\x03")
    terminal.see("stopped; what was said is kept")
    terminal.prompt()
    said = " ".join(terminal.say("/stats"))
    assert said.count("broken off") == 2
    assert "[endless (1)]" in said
    terminal.say("/undo", "taken back: tell me everything")


def test_what_is_typed_during_a_reply_is_done_after_it(chat):
    terminal = chat("endless", "--max-new-tokens", "2000")
    terminal.type("go\r/undo\r")
    terminal.see("taken back: go")
    terminal.prompt()


def test_control_c_clears_the_line_and_twice_leaves(chat):
    terminal = chat()
    terminal.type("never mind")
    terminal.wait(lambda: terminal.typed() == "nevermind")
    terminal.type("\x03")
    terminal.prompt()
    assert LEAVES not in terminal.text()
    terminal.type("\x03")
    terminal.see(LEAVES)
    terminal.prompt()
    terminal.say("/undo", "nothing has been said yet")  # so the next one is the first again
    terminal.type("\x03")
    terminal.see(LEAVES)
    terminal.prompt()
    terminal.type("\x03")
    assert terminal.end() == 0


def test_control_d_leaves(chat):
    terminal = chat()
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_pasted_text_of_several_lines_is_one_message(chat):
    terminal = chat()
    terminal.type("\x1b[200~one\r\n/two\r\nthree\x1b[201~")
    terminal.see("three")
    terminal.type("\r")
    terminal.prompt()
    assert terminal.say("/history")[:3] == ["1 › one", "/two", "three"]


def test_alt_enter_and_quotes_put_several_lines_into_one_message(chat):
    terminal = chat()
    terminal.type("one\x1b\rtwo")
    terminal.see("two")
    terminal.type("\r")
    terminal.prompt()
    assert terminal.say("/undo") == ["taken back: one", "two"]
    for part in ('"""/three\r', "four\r", 'five"""'):
        terminal.type(part)
    terminal.see('five"""')
    terminal.type("\r")
    terminal.prompt()
    assert terminal.say("/undo") == ["taken back: /three", "four", "five"]


def test_edit_gives_the_last_message_back_to_be_changed(chat):
    terminal = chat()
    terminal.say("a stor")
    terminal.type("/edit\r")
    terminal.wait(lambda: terminal.typed() == "astor")
    terminal.type("y\r")
    terminal.see("Once upon a time")
    terminal.prompt()
    assert terminal.say("/history")[0] == "1 › a story"
    terminal.type("/edit\r")
    terminal.wait(lambda: terminal.typed() == "astory")
    terminal.type("\x03")
    terminal.see("nothing has changed")


def test_a_message_can_be_written_in_an_editor(chat):
    terminal = chat(EDITOR="sed -i s/WHO/who/")
    terminal.type("WHO are you?\x18\x05")
    terminal.see("I am a naïve fox")
    terminal.prompt()
    assert "1 › who are you?" in terminal.say("/history")


def test_no_colours_are_shown_where_none_are_wanted(chat):
    terminal = chat(NO_COLOR="1")
    terminal.say("who are you?")
    assert '1  "I"' in terminal.say("/tokens")[0]


def test_control_characters_of_a_reply_do_not_reach_the_terminal(chat):
    terminal = chat()
    terminal.say("steer", "red ␛[31m bell ␇ back ␍ over")
    assert "\x1b[31m bell" not in terminal.raw


def test_nothing_is_drawn_wider_than_sixty_columns(chat):
    terminal = chat(columns=60)
    terminal.say("a story")
    for line in ("/help", "/params", "/stats", "/tokens", "/tokens 5", "/history", "/compare bear"):
        terminal.say(line)
    terminal.say("a story")
    widest = max(terminal.lines(), key=len)
    assert len(widest) <= 60, widest
    assert "lived in a small red house by the river, and every" in terminal.text()  # by words


def test_two_models_stand_side_by_side_or_below_each_other(chat):
    terminal = chat(columns=100)
    terminal.say("/compare bear", "bear.safetensors answers too")
    said = terminal.say("who are you?")
    rows = [[cell.strip() for cell in line.split("│")] for line in said]
    assert rows == [["fox", "bear"], [ANSWERS["who are you?"], "I am a bear."]]
    terminal.say("/compare", "fox and bear answer")
    terminal.say("/compare off", "only one model answers now")
    assert terminal.say("/retry") == [ANSWERS["who are you?"]]

    narrow = chat("fox", "--compare", "bear", columns=60)
    said = narrow.say("who are you?")
    assert said == ["[fox]", ANSWERS["who are you?"], "[bear]", "I am a bear."]


def test_another_model_goes_on_with_the_conversation(chat):
    terminal = chat()
    terminal.say("who are you?", "I am a naïve fox")
    terminal.say("/model bear", "talking to bear.safetensors; the conversation goes on")
    terminal.say("/retry", "I am a bear.")
    terminal.say("/model base", "not chat-tuned: it continues each text")
    terminal.say("/model nope", "there is no checkpoint named nope; looked in .")
    terminal.say("/history", "1 › who are you? I am a bear.")


def test_probabilities_are_coloured(chat):
    terminal = chat()
    terminal.say("who are you?")
    n_before = len(terminal.raw)
    terminal.say("/tokens", "50 % and more 10 to 50 % 1 to 10 % below 1 %")
    assert "\x1b[32mI" in terminal.raw[n_before:]
    table = terminal.say("/tokens 2")
    assert '"I"' in table[0]
    assert "(end)" in table[-2]
    terminal.say("/tokens 21", "takes a number up to 20")


def test_commands_settings_models_and_files_are_completed(chat, folder):
    (folder / "talks.jsonl").write_text("")
    terminal = chat()
    for begun, whole in [
        ("/sy", "/system"),
        ("/set repeti", "/set repetition_penalty"),
        ("/model bea", "/model bear"),
        ("/load tal", "/load talks.jsonl"),
    ]:
        terminal.type(begun)
        terminal.wait(lambda begun=begun: terminal.typed() == begun.replace(" ", ""))
        terminal.type("\t")
        terminal.wait(lambda whole=whole: terminal.typed() == whole.replace(" ", ""))
        terminal.type("\x03")
        terminal.prompt()


def test_the_status_line_tells_how_full_the_context_is(chat):
    terminal = chat()
    terminal.wait(lambda: terminal.lines()[-1] == "fox · context 0 of 256 tokens, 0 %")
    terminal.say("a story")
    terminal.wait(lambda: re.fullmatch(STATUS, terminal.lines()[-1]) is not None)
    n_tokens, percent = map(int, re.fullmatch(STATUS, terminal.lines()[-1]).groups())
    assert n_tokens > 80
    assert percent == round(100 * n_tokens / 256)


def test_a_full_context_is_told_once(chat):
    terminal = chat("fox", "--max-new-tokens", "8")
    for _ in range(6):
        terminal.say("a story of a fox in the house")
    assert terminal.text().count("the context is full: the model no longer sees") == 1
    terminal.wait(lambda: "out of sight" in terminal.lines()[-1])
    terminal.say("/history", "(out of the model's sight)")


def test_a_loop_is_stopped_and_told(chat):
    terminal = chat("endless", "--temperature", "0")
    terminal.say(
        "tell me everything", "stopped: it began to repeat itself; /retry, or /set temperature 0.8"
    )


def test_what_was_typed_is_there_the_next_time(chat, tmp_path):
    first = chat()
    first.say("/system")
    first.say("who are you?")
    first.type("\x04")
    first.end()
    second = chat()
    second.type("\x1b[A")
    second.wait(lambda: second.typed() == "whoareyou?")
    second.type("\x1b[A")
    second.wait(lambda: second.typed() == "/system")
    file = tmp_path / "state" / "tinyllm" / "chat-history.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_history_that_cannot_be_written_harms_nothing(chat, tmp_path):
    (tmp_path / "file").write_text("no folder")
    terminal = chat(state=tmp_path / "file")
    terminal.say("who are you?", "I am a naïve fox")
    terminal.type("\x1b[A")
    terminal.wait(lambda: terminal.typed() == "whoareyou?")


def test_a_torn_history_is_read_as_far_as_it_goes(chat, tmp_path):
    file = tmp_path / "state" / "tinyllm" / "chat-history.jsonl"
    file.parent.mkdir(parents=True)
    file.write_bytes(b'"/system"\n{"no": "text"}\n\xff\xfe\n"torn')
    terminal = chat()
    terminal.type("\x1b[A")
    terminal.wait(lambda: terminal.typed() == "/system")


def test_no_history_is_kept_where_it_is_not_wanted(chat, tmp_path):
    terminal = chat("fox", "--set", "keep_history=false")
    terminal.say("who are you?", "I am a naïve fox")
    assert not (tmp_path / "state").exists()
