"""`tinyllm infer --output`: killed, stopped or changed, a file of answers goes on or is refused."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from signal import SIGINT, SIGKILL, SIGTERM

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.here import Here
from tests.tiny import write_tiny_checkpoint
from tinyllm.cli.answer_file import open_answers
from tinyllm.data.manifest import Manifest, author, read_manifest
from tinyllm.files import sha256_file

N_PROMPTS = 1000
MANY = ("--prompts-file", "many.jsonl", "-c", "base", "--max-new-tokens", "8", "-s", "3")
FEW = ("--prompts-file", "few.txt", "-n", "3", "-c", "base", "--max-new-tokens", "6")

OBSERVED = """
import os
from tinyllm.cli.answer_file import AnswerFile
from tinyllm.cli.app import main
append = AnswerFile.append
def observed(self, key, line):
    append(self, key, line)
    if self.n_done == {after}:
        if {tears}:
            os.write(self._file.fileno(), line[: len(line) // 2].encode())
        os.kill(os.getpid(), {number})
AnswerFile.append = observed
main()
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A folder with a checkpoint, prompts, and the answers of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("answers")
    write_tiny_checkpoint(folder / "base.safetensors")
    write_tiny_checkpoint(folder / "other.safetensors", seed=1)
    (folder / "few.txt").write_text("Once upon\nThe fox\n")
    places = ("the sea", "a house", "The little fox was", "naïve 🌍", "plants")
    with open(folder / "many.jsonl", "w", encoding="utf-8") as file:
        for i in range(N_PROMPTS):
            own = {"sampling": {"max_new_tokens": 1 + i % 8}} if i % 3 else {}
            file.write(json.dumps({"id": f"q{i}", "prompt": f"{places[i % 5]} {i}", **own}) + "\n")
    whole = run_process(folder, *MANY, "--output", "whole/answers.jsonl")
    assert whole.returncode == 0, whole.stderr
    return folder


@pytest.fixture
def infer(house, monkeypatch, capfd):
    here = Here(house, monkeypatch, capfd)
    return lambda *arguments, **options: here("infer", *arguments, **options)


@pytest.fixture
def new(house, tmp_path):
    """A name for a file of answers that no other test uses."""
    return tmp_path / "answers.jsonl"


def run_process(folder, *arguments, program=("-m", "tinyllm")):
    return subprocess.run(
        [sys.executable, *program, "infer", *map(str, arguments)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def stopped(folder, output, number, *, after, tears=False):
    """Answer the many prompts, and be sent a signal after so many answers; from inside."""
    program = OBSERVED.format(after=after, number=int(number), tears=tears)
    return run_process(folder, *MANY, "--output", output, program=("-c", program))


def same_as_whole(house, output):
    """Compare with the run that nobody stopped, manifest included."""
    names = ("answers.jsonl", "answers.manifest.json")
    return all(
        (output.parent / name).read_bytes() == (house / "whole" / name).read_bytes()
        for name in names
    )


def test_a_thousand_answers_stand_in_the_order_of_their_prompts(house):
    path = house / "whole" / "answers.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [record["id"] for record in records] == [f"q{i}" for i in range(N_PROMPTS)]
    assert {record["finish_reason"] for record in records} <= {"stop", "length", "loop"}
    assert all(record["n_tokens"] <= 1 + i % 8 for i, record in enumerate(records) if i % 3)
    manifest = read_manifest(path)
    assert manifest is not None
    assert (manifest.documents, manifest.sha256) == (N_PROMPTS, sha256_file(path))


@pytest.mark.parametrize("after", [1, N_PROMPTS // 2, N_PROMPTS - 1])
def test_a_killed_run_goes_on_to_the_same_bytes(house, infer, new, after):
    assert stopped(house, new, SIGKILL, after=after, tears=True).returncode == -SIGKILL
    left = new.read_bytes()
    assert left.count(b"\n") == after
    assert not left.endswith(b"\n")
    again = infer(*MANY, "--output", new)
    assert again.code == 0, again.err
    assert again.out == ""
    assert f"{after:,} of 1,000 texts are there" in again.err
    assert same_as_whole(house, new)


def test_a_run_killed_before_it_sorts_is_finished_without_drawing(house, infer, new):
    assert stopped(house, new, SIGKILL, after=N_PROMPTS).returncode == -SIGKILL
    assert not same_as_whole(house, new)
    again = infer(*MANY, "--output", new, "--json")
    assert json.loads(again.out) == {
        "output": str(new),
        "n_texts": N_PROMPTS,
        "n_drawn": 0,
        "seed": 3,
    }
    assert same_as_whole(house, new)


def test_what_is_done_before_a_kill_is_not_drawn_again(house, infer, new):
    stopped(house, new, SIGKILL, after=400, tears=True)
    again = infer(*MANY, "--output", new, "--json", "--stats")
    assert json.loads(again.out)["n_drawn"] == N_PROMPTS - 400
    assert "600 texts" in again.err


@pytest.mark.parametrize(("number", "code"), [(SIGINT, 130), (SIGTERM, 143)])
def test_a_run_asked_to_stop_says_what_is_kept_and_how_to_go_on(house, infer, new, number, code):
    done = stopped(house, new, number, after=300)
    assert done.returncode == code, done.stderr
    assert f"stopped; 300 of 1,000 texts are kept in {new}" in done.stderr
    assert "Run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert infer(*MANY, "--output", new).code == 0
    assert same_as_whole(house, new)


def test_the_order_and_number_of_texts_at_a_time_change_nothing(house, infer, new):
    assert infer(*MANY, "--output", new, "--set", "batch_size=7").code == 0
    assert same_as_whole(house, new)


def test_the_file_holds_what_json_prints(infer, new):
    printed = infer(*FEW, "-s", "5", "--json").out
    assert infer(*FEW, "-s", "5", "--output", new).code == 0
    assert new.read_text(encoding="utf-8") == printed


def test_a_finished_file_says_so_and_stays(infer, new):
    infer(*FEW, "-s", "5", "-o", new)
    before = new.read_bytes()
    again = infer(*FEW, "-s", "5", "-o", new)
    assert again.code == 0
    assert f"{new} is finished: it holds all 6 texts" in again.err
    assert new.read_bytes() == before


def test_a_seed_that_was_drawn_is_drawn_once(infer, new):
    """The same command without a seed goes on with the one it began with."""
    assert infer(*FEW, "-o", new).code == 0
    whole = new.read_bytes()
    new.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    assert infer(*FEW, "-o", new).code == 0
    assert new.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--temperature", "0.3"), "begun with sampling.temperature 0.8, and this command has 0.3"),
        (("-n", "4"), "begun with n 3, and this command has 4"),
        (("-s", "6"), "begun with sampling.seed 5, and this command has 6"),
        (("-c", "other"), "begun with another checkpoint"),
        (("--prompts-file", "more.txt"), "begun with other prompts"),
        (("--dtype", "bfloat16"), 'begun with dtype "auto", and this command has "bfloat16"'),
        (("--stop", "."), 'begun with sampling.stop [], and this command has ["."]'),
    ],
)
def test_a_changed_command_is_refused(house, infer, new, change, words):
    (house / "more.txt").write_text("Once upon\nThe fox\nA bird\n")
    infer(*FEW, "-s", "5", "-o", new)
    before = new.read_bytes()
    refused = infer(*FEW, "-s", "5", "-o", new, *change)
    assert refused.code == 2
    assert words in refused.err
    assert "hint: " in refused.err
    assert new.read_bytes() == before


def test_a_run_that_has_drawn_nothing_binds_nobody(infer, new):
    infer(*FEW, "-s", "5", "-o", new)
    new.write_bytes(b"")
    assert infer(*FEW, "-s", "6", "-o", new).code == 0
    assert all(json.loads(line)["seed"] == 6 for line in new.read_text().splitlines())


def test_a_file_of_which_nothing_is_known_is_refused_and_kept(house, infer, new):
    new.write_text("mine\n")
    refused = infer(*FEW, "-o", new)
    assert refused.code == 2
    assert "is there already, and answers.manifest.json is not" in refused.err
    assert new.read_text() == "mine\n"


def test_the_manifest_of_another_file_is_never_overwritten(house, infer, new):
    shutil.copy(house / "whole" / "answers.manifest.json", new.parent)
    beside = new.parent / "answers.manifest.json"
    beside.write_text(beside.read_text().replace('"answers.jsonl"', '"answers.txt"'))
    before = beside.read_bytes()
    refused = infer(*FEW, "-o", new)
    assert refused.code == 2
    assert "belongs to answers.txt" in refused.err
    assert beside.read_bytes() == before
    assert not new.exists()


def test_a_line_that_is_no_answer_is_named(infer, new):
    infer(*FEW, "-s", "5", "-o", new)
    lines = new.read_text(encoding="utf-8").splitlines(keepends=True)
    for odd in ("{}\n", "what?\n", lines[0]):
        new.write_text("".join([*lines[:2], odd]), encoding="utf-8")
        refused = infer(*FEW, "-s", "5", "-o", new)
        assert refused.code == 3
        assert f"{new}:3: this line is not an answer of this run" in refused.err


def test_two_runs_do_not_write_one_file(infer, new):
    fcntl = pytest.importorskip("fcntl")
    with open(new, "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = infer(*FEW, "-o", new)
    assert refused.code == 3
    assert f"another run is writing {new}" in refused.err
    assert infer(*FEW, "-o", new).code == 0


def test_half_a_character_in_a_name_or_prompt_is_written_and_known_again(house, infer, new):
    (house / "half.jsonl").write_text('{"id": "\\ud83d", "prompt": "Once \\ud83d"}\n"The fox"\n')
    half = ("--prompts-file", "half.jsonl", "-c", "base", "--max-new-tokens", "3", "-s", "1")
    assert infer(*half, "-o", new).code == 0
    whole = new.read_bytes()
    new.write_bytes(whole.splitlines(keepends=True)[0])
    again = infer(*half, "-o", new)
    assert "1 of 2 texts are there" in again.err
    assert new.read_bytes() == whole


@pytest.mark.parametrize("name", ["answers.txt", "answers", "answers.json"])
def test_the_file_is_one_of_json_lines(infer, name):
    refused = infer(*FEW, "-o", name)
    assert refused.code == 2
    assert f"give a .jsonl, not {name}" in refused.err


def test_a_place_that_cannot_be_written_is_one_sentence(house, infer):
    (house / "blocked").write_text("")
    refused = infer(*FEW, "-o", "blocked/answers.jsonl")
    assert refused.code == 3
    assert "a part of this path is a file" in refused.err


KEYS = [(name, k) for name in ("a", "naïve 🌍", "3") for k in range(3)]
MADE = Manifest(name="answers.jsonl", format="records", documents=0, bytes=0, sha256="")


def line_of(key):
    return json.dumps({"id": key[0], "sample": key[1], "text": "x" * len(key[0])}) + "\n"


@given(
    order=st.permutations(KEYS),
    cut=st.integers(min_value=0),
    again=st.randoms(use_true_random=False),
)
def test_wherever_a_file_is_cut_it_ends_in_the_same_bytes(tmp_path_factory, order, cut, again):
    path = tmp_path_factory.mktemp("cut") / "answers.jsonl"
    with open_answers(path, KEYS, replace(MADE, written_by=author("infer"))) as answers:
        for key in order:
            answers.append(key, line_of(key))
    whole = path.read_bytes()
    left = whole[: cut % (len(whole) + 1)]
    path.write_bytes(left)
    with open_answers(path, KEYS, replace(MADE, written_by=author("infer"))) as answers:
        missing = answers.missing()
        assert len(missing) == len(KEYS) - left.count(b"\n")
        for key in again.sample(missing, len(missing)):
            answers.append(key, line_of(key))
        answers.finish()
    assert path.read_text(encoding="utf-8") == "".join(map(line_of, KEYS))
    manifest = read_manifest(path)
    assert manifest is not None
    assert manifest.documents == len(KEYS)


@pytest.mark.skipif(os.name != "posix", reason="needs limits on the size of files")
def test_a_disk_that_fills_up_keeps_what_was_done(house, infer, new):
    """A limit on the size of files stands in for a full disk: a write goes half through."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000));"
        "from tinyllm.cli.app import main; main()"
    )
    done = run_process(house, *MANY, "--output", new, program=("-c", program))
    assert done.returncode == 3, done.stderr
    assert f"cannot append to {new}" in done.stderr
    assert new.stat().st_size == 9000
    assert infer(*MANY, "--output", new).code == 0
    assert same_as_whole(house, new)
