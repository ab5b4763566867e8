import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import RunCommand
from tests.tiny import write_tiny_checkpoint
from tinyllm.cli.app import COMMANDS, run

NAMES = [name for group in COMMANDS.values() for name in group]


def test_help_loads_neither_torch_nor_pydantic_nor_numpy() -> None:
    code = (
        "import sys\nfrom tinyllm.cli.app import run\ncode = run(['--help'])\n"
        "loaded = {m.split('.')[0] for m in sys.modules}\n"
        "print(sorted(loaded & {'torch', 'pydantic', 'numpy', 'rich'}), code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_help_groups_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    positions = [text.index(f"\n{title}:\n") for title in COMMANDS]
    assert positions == sorted(positions)
    assert all(name in text for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"tinyllm {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence", "hint"),
    [
        (["trian"], "there is no command 'trian'", "Did you mean `train`?"),
        (["doctor", "--jso"], "No such option: --jso", "`tinyllm doctor --help`"),
        (["config", "shwo"], "No such command 'shwo'", "`tinyllm config --help`"),
        (["config", "show", "trian"], "there is no config for a command 'trian'", "train"),
    ],
)
def test_a_mistyped_command_is_one_sentence_and_exit_2(
    arguments: list[str], sentence: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"error: {sentence}")
    assert hint in lines[1]


def test_doctor_tells_about_the_machine(run_tinyllm: RunCommand) -> None:
    done = run_tinyllm("doctor", "--json")
    assert done.returncode == 0
    found = {finding["what"]: finding["value"] for finding in json.loads(done.stdout)}
    assert found["torch"].startswith("2.")
    assert "core" in found["cpu"]


def test_a_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m tinyllm config schema train | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_to_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tinyllm", "config", "schema", "train"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr.startswith("error: cannot write the output: the disk is full")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [("infer -c tiny --prompt Once --max-new-tokens 2", 0), ("infer -c nothing --prompt x", 4)],
)
def test_a_log_that_finds_no_room_costs_no_answer(
    arguments: str, code: int, tmp_path: Path
) -> None:
    write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tinyllm", *arguments.split()],
            stdout=subprocess.PIPE,
            stderr=full,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == code
    assert bool(done.stdout) is (code == 0)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("arguments", "code"), [("--version", 0), ("config show nothing.json", 2)])
def test_closed_streams_change_nothing_else(
    arguments: str, code: int, closed: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        f"{sys.executable} -m tinyllm {arguments} {closed}",
        shell=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert bool(done.stdout) is (code == 0 and ">&-" not in closed.split())
    assert bool(done.stderr) is (code == 2 and "2>&-" not in closed.split())


@pytest.mark.parametrize("arguments", [[], ["config"]])
def test_a_group_alone_shows_its_help_and_no_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Usage: tinyllm")
    assert said.err == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["train", "missing.txt", "--json"], 3), (["train", "--json", "--nonsense"], 2)],
)
def test_a_failure_is_told_as_json_too_when_json_was_asked_for(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    captured = capsys.readouterr()
    failure = json.loads(captured.out)
    assert failure.keys() == {"error", "hint", "exit_code"}
    assert failure["exit_code"] == code
    assert f"error: {failure['error']}\n" in captured.err
