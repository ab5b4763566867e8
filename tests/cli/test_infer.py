"""`tinyllm infer` as people type it: prompts from everywhere, text or JSON out."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.cli.here import Here
from tests.tiny import tiny_model, write_tiny_checkpoint
from tinyllm.chat_template import DEFAULT_TEMPLATE
from tinyllm.checkpoint import save_checkpoint
from tinyllm.kernels import build
from tinyllm.process import may_have_gpu
from tinyllm.reporting import SilentReporter
from tinyllm.tokenizer import train_characters

FROM_STDIN = ("--prompts-file", "-")
DRAW = ("--seed", "7", "--max-new-tokens", "12")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a base and, newer, a chat checkpoint."""
    folder = tmp_path_factory.mktemp("infer")
    write_tiny_checkpoint(folder / "base.safetensors")
    write_tiny_checkpoint(folder / "chat.safetensors", chat=True)
    return folder


@pytest.fixture
def infer(folder, monkeypatch, capfd):
    here = Here(folder, monkeypatch, capfd)
    return lambda *arguments, **options: here("infer", *arguments, **options)


def lines(result):
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def test_a_base_model_continues_the_prompt_and_prints_both(infer):
    result = infer("-c", "base", "-p", "Once upon", *DRAW, "--stats")
    assert result.code == 0
    assert result.out.startswith("Once upon")
    assert "seed 7" in result.err
    assert infer("-c", "base", "-p", "Once upon", *DRAW).out == result.out
    bare = infer("-c", "base", "-p", "Once upon", *DRAW, "--no-echo")
    assert "Once upon" + bare.out == result.out


def test_standard_input_and_prompt_are_the_same(infer):
    assert (
        infer("-c", "base", *DRAW, stdin="Once upon\n").out
        == infer("-c", "base", *DRAW, "-p", "-", stdin="Once upon\n").out
        == infer("-c", "base", *DRAW, "-p", "Once upon").out
    )


def test_only_the_users_own_characters_count_as_unknown(infer, tmp_path):
    letters = train_characters(["abc defg hij"], SilentReporter())  # the template's # is not there
    path = tmp_path / "letters.safetensors"
    save_checkpoint(path, tiny_model(letters), letters, template=DEFAULT_TEMPLATE, training={})
    assert "does not know" not in infer("-c", path, "-p", "abc", *DRAW).err
    said = infer("-c", path, "-p", "ab Z", "--system", "Q?", *DRAW).err
    assert "the model does not know 3 characters of the prompt" in said


def test_the_newest_checkpoint_is_taken_and_named(infer):
    result = infer("-p", "Why?", *DRAW)
    assert result.code == 0
    assert "chat.safetensors" in result.err
    assert "newest" in result.err


def test_a_checkpoint_that_was_sought_is_named_with_the_reason(infer, folder):
    deep = folder / "runs" / "one"
    deep.mkdir(parents=True)
    (deep / "fox.safetensors").write_bytes((folder / "base.safetensors").read_bytes())
    for name, said in [
        ("runs", "checkpoint: runs/one/fox.safetensors (the only one in runs)"),
        (".", "the newest of"),
        ("fox", "checkpoint: runs/one/fox.safetensors (the only one named fox)"),
        ("base", "checkpoint: base.safetensors (the file named base)"),
    ]:
        assert said in infer("-c", name, "-p", "Why?", *DRAW).err
    assert "checkpoint:" not in infer("-c", "base.safetensors", "-p", "Why?", *DRAW).err
    (deep / "fox.safetensors").unlink()


def test_a_chat_model_answers_through_its_template_unless_raw(infer):
    [templated] = lines(infer("-c", "chat", "-p", "Why?", *DRAW, "--json"))
    [raw] = lines(infer("-c", "chat", "-p", "Why?", *DRAW, "--json", "--raw"))
    assert templated["n_prompt_tokens"] > raw["n_prompt_tokens"]
    assert "### Response" not in infer("-c", "chat", "-p", "Why?", *DRAW).out


def test_several_texts_come_in_order_each_with_its_end(infer, folder):
    (folder / "prompts.txt").write_text("Once\nThe fox\n")
    result = infer("-c", "base", "--prompts-file", "prompts.txt", "-n", "2", *DRAW)
    texts = result.out.split("\n<|endoftext|>\n")
    assert [text.split()[0][:3] for text in texts[:4]] == ["Onc", "Onc", "The", "The"]
    records = lines(
        infer("-c", "base", "--prompts-file", "prompts.txt", "-n", "2", *DRAW, "--json")
    )
    assert [(r["id"], r["sample"]) for r in records] == [("1", 0), ("1", 1), ("2", 0), ("2", 1)]
    assert all(r["finish_reason"] in ("stop", "length", "loop") for r in records)
    assert all(r["seed"] == 7 for r in records)


def test_sample_0_is_the_single_sample(infer):
    one = lines(infer("-c", "base", "-p", "Once", *DRAW, "--json"))
    three = lines(infer("-c", "base", "-p", "Once", *DRAW, "--json", "-n", "3"))
    assert one[0] == three[0]


def test_prompts_come_from_standard_input_one_a_line(infer, folder):
    (folder / "two.txt").write_text("Once\nThe fox\n")
    many = ("-c", "base", *DRAW, "--json", "--prompts-file")
    from_file = infer(*many, "two.txt").out
    assert infer(*many, "-", stdin="Once\nThe fox\n").out == from_file
    named = lines(infer(*many, "-", stdin='{"id": "a", "prompt": "Once"}\n'))
    assert [(r["id"], r["prompt"], r["text"]) for r in named] == [
        ("a", "Once", json.loads(from_file.splitlines()[0])["text"])
    ]


def test_a_line_may_ask_for_messages_and_settings_of_its_own(infer):
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Why?"},
    ]
    asked = [
        {"id": "plain", "prompt": "Why?"},
        {"id": "turns", "messages": turns},
        {"id": "short", "prompt": "Why?", "sampling": {"max_new_tokens": 2, "seed": 7}},
        {"id": "seed", "prompt": "Why?", "sampling": {"seed": 8}},
        {"id": "stop", "prompt": "Why?", "sampling": {"stop": ["e"]}},
    ]
    stdin = "".join(json.dumps(line) + "\n" for line in asked)
    found = {
        r["id"]: r for r in lines(infer("-c", "chat", *DRAW, "--json", *FROM_STDIN, stdin=stdin))
    }
    assert list(found) == [line["id"] for line in asked]
    assert found["turns"]["messages"] == turns
    assert "prompt" not in found["turns"]
    assert found["turns"]["n_prompt_tokens"] > found["plain"]["n_prompt_tokens"]
    assert found["short"]["n_tokens"] <= 2
    assert found["plain"]["text"].startswith(found["short"]["text"])
    assert (found["plain"]["seed"], found["seed"]["seed"]) == (7, 8)
    assert "e" not in found["stop"]["text"]
    [alone] = lines(infer("-c", "chat", "-p", "Why?", *DRAW, "--json", "-s", "8"))
    assert alone["text"] == found["seed"]["text"]


def test_a_setting_that_a_model_cannot_honour_is_refused_with_the_prompt(infer):
    stdin = '{"prompt": "a"}\n{"id": "b", "prompt": "b", "sampling": {"ban": ["the fox"]}}\n'
    refused = infer("-c", "base", *DRAW, "--json", *FROM_STDIN, stdin=stdin)
    assert refused.code == 2
    assert "error: prompt b: 'the fox' is not one token" in refused.err
    assert json.loads(refused.out)["exit_code"] == 2


def test_fifty_prompts_of_ten_samples_are_the_texts_alone(infer):
    stdin = "".join(f"The fox number {i} said\n" for i in range(50))
    many = lines(infer("-c", "base", *DRAW, "-n", "10", "--json", *FROM_STDIN, stdin=stdin))
    assert [(r["id"], r["sample"]) for r in many] == [
        (str(i), k) for i in range(1, 51) for k in range(10)
    ]
    for i in (0, 17, 49):
        alone = lines(
            infer("-c", "base", *DRAW, "-n", "10", "--json", "-p", f"The fox number {i} said")
        )
        assert [r["text"] for r in alone] == [r["text"] for r in many[10 * i : 10 * i + 10]]


def test_log_probabilities_come_in_json(infer):
    asked = ("-c", "base", "-p", "Once", *DRAW, "--json")
    [plain] = lines(infer(*asked))
    assert "logprobs" not in plain
    [record] = lines(infer(*asked, "--set", "sampling.logprobs=2"))
    assert len(record["logprobs"]) == record["n_tokens"]
    for token in record["logprobs"]:
        assert token["logprob"] <= token["top"][0]["logprob"] <= 0
        assert len(token["top"]) == 2
    assert "".join(token["token"] for token in record["logprobs"]).startswith(record["text"][:1])
    assert {key: record[key] for key in plain} == plain


def test_figures_go_to_standard_error(infer):
    result = infer("-c", "base", "-p", "Once", *DRAW, "--stats")
    assert re.search(
        r"1 text, \d+ tokens in [\d.]+ s \([\d,]+ tokens/s, the first after \d+ ms\), seed 7, "
        r"ended by: (stop|length|loop) 1",
        result.err,
    )
    assert "tokens/s" not in result.out


def test_ctrl_c_keeps_what_is_printed_and_says_what_would_go_on(folder):
    """The signal comes from inside, when two texts are printed."""
    program = """
import os, signal
from tinyllm.cli.answer_record import Tally
from tinyllm.cli.app import main
add = Tally.add
def observed(self, completion):
    add(self, completion)
    if self.n_texts == 3:
        os.kill(os.getpid(), signal.SIGINT)
Tally.add = observed
main()
"""
    options = ["-c", "base", "-p", "Once", *DRAW, "-n", "200", "--set", "batch_size=2"]
    done = subprocess.run(
        [sys.executable, "-c", program, "infer", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert 3 <= done.stdout.count("<|endoftext|>") <= 5
    assert "error: stopped after " in done.stderr
    assert "of 200 texts" in done.stderr
    assert "--output FILE.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stop_string_ends_the_text(infer):
    whole = lines(infer("-c", "base", "-p", "Once", *DRAW, "--json"))[0]["text"]
    stop = whole[4:6]
    [record] = lines(infer("-c", "base", "-p", "Once", *DRAW, "--json", "--stop", stop))
    assert record["text"] == whole[: whole.index(stop)]
    assert record["finish_reason"] == "stop_string"


def test_a_config_file_says_what_flags_say(infer, folder):
    (folder / "infer.json").write_text(
        json.dumps(
            {
                "checkpoint": "base.safetensors",
                "prompt": "Once",
                "sampling": {"seed": 7, "max_new_tokens": 12, "stop": ["zq"]},
            }
        )
    )
    by_file = infer("--config", "infer.json")
    assert by_file.out == infer("-c", "base", "-p", "Once", *DRAW).out
    by_set = infer("--config", "infer.json", "--set", "sampling.seed=8", "--json")
    assert lines(by_set)[0]["seed"] == 8


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-p", "x", "--temperature", "-1"), 2, "must be at least 0"),
        (("-p", "x", "--top-p", "0"), 2, "must be more than 0"),
        (("-p", "x", "--top-p", "1.5"), 2, "must be at most 1"),
        (("-p", "x", "-n", "0"), 2, "must be at least 1"),
        (("-p", "x", "--stop", ""), 2, "stop"),
        (("-p", "x", "--set", "sampling.temprature=1"), 2, "Did you mean"),
        (("-p", "x", "--device", "abacus"), 2, "device"),
        (("-p", "x", "--dtype", "int4"), 2, "dtype"),
        (("-p", "x", "--prompts-file", "p.txt"), 2, "exclude each other"),
        ((), 2, "there is no prompt"),
        (("--prompts-file", "nothing.txt"), 3, "no prompts file"),
        (FROM_STDIN, 3, "standard input holds no prompt"),
        (("-p", "x", "--set", "sampling.logprobs=21"), 2, "must be at most 20"),
        (("-p", "x", "-c", "~nobody-of-this-name/x"), 4, "nobody's home"),
        (("-p", "x", "-c", ""), 2, "is empty"),
        (("-p", "fox " * 200), 2, "context holds 96"),
        (("-c", "base", "-p", "fox " * 200), 2, "context holds 96"),
        (("-p", "x", "-c", "bas"), 4, "no checkpoint named bas"),
        (("-p", "x", "-c", "base", "--system", "Be brief."), 2, "not chat-tuned"),
    ],
)
def test_a_mistake_is_one_sentence_and_the_right_exit_code(infer, arguments, code, message):
    result = infer(*arguments)
    assert result.code == code, result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


def test_a_terminal_that_lacks_letters_and_a_closed_pipe_are_no_errors(folder):
    command = f"{sys.executable} -m tinyllm infer -c base -p 'naïve 🌍' -n 300 --max-new-tokens 30"
    found = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -n 1"],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("na?ve ?")
    assert "Error" not in found.stderr


@pytest.mark.skipif(not build.available(), reason="needs a C++ compiler (Debian: g++)")
@pytest.mark.skipif(may_have_gpu(), reason="with a GPU torch speaks")
def test_torch_is_never_imported_on_a_cpu(folder):
    script = (
        "import sys; from tinyllm.cli.app import run; code = run(sys.argv[1:]);"
        "print('torch' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "infer", "-c", "chat", "-p", "Why?", *DRAW],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip()
    assert done.stderr.splitlines()[-1] == "False"


def test_without_native_code_torch_writes_the_same_text_and_says_so(infer, request):
    native = infer("-c", "base", "-p", "Once", *DRAW)
    request.getfixturevalue("kernels_off")
    plain = infer("-c", "base", "-p", "Once", *DRAW)
    assert (plain.code, plain.out) == (0, native.out)
    assert "native code is off (TINYLLM_KERNELS)" in plain.err
    with_int8 = infer("-c", "base", "-p", "Once", *DRAW, "--dtype", "int8")
    assert with_int8.code == 7
    assert "int8 weights need native code" in with_int8.err


@pytest.mark.skipif(not build.available(), reason="needs a C++ compiler (Debian: g++)")
def test_smaller_weights_say_how_far_they_move_the_odds(infer):
    result = infer("-c", "base", "-p", "Once", *DRAW, "--dtype", "int8", "--stats")
    assert "int8 weights against float32: " in result.err
    assert "nats a token" in result.err
    assert "against" not in infer("-c", "base", "-p", "Once", *DRAW, "--stats").err


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "auto"])
def test_the_form_of_the_weights_can_be_chosen(infer, dtype):
    result = infer("-c", "base", "-p", "Once", *DRAW, "--dtype", dtype)
    assert result.code == 0, result.err
    assert result.out.startswith("Once")


@pytest.mark.parametrize("arguments", [("--prompt", "-"), FROM_STDIN, ()])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_on_standard_input_that_are_no_text_are_refused(folder, arguments, errors):
    done = subprocess.run(
        [sys.executable, "-m", "tinyllm", "infer", "-c", "base", *arguments],
        input=b"Once \xff upon",
        capture_output=True,
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": f"utf-8:{errors}"},
    )
    assert done.returncode == 3
    assert done.stdout == b""
    assert done.stderr.splitlines()[-1] == b"error: standard input is not UTF-8 text"


@pytest.mark.parametrize("checkpoint", ["base", "chat"])
def test_a_text_that_cannot_begin_leaves_standard_output_empty(infer, checkpoint):
    result = infer("-c", checkpoint, "-p", "Once", "--set", 'sampling.ban=["no such token"]')
    assert (result.code, result.out) == (2, "")
