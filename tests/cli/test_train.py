"""`tinyllm train` as a person types it."""

import json
from pathlib import Path

import pytest

from tests.cli.here import Here
from tests.training.conftest import make_text
from tinyllm.cli.app import run


def write_config(folder: Path) -> Path:
    make_text(folder / "text.txt")
    config = {
        "data": {"train": "text.txt"},
        "tokenizer": {"kind": "char"},
        "model": {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "context_length": 32},
        "max_steps": 3,
        "checkpoint": {"path": "out/model.safetensors"},
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def test_a_text_alone_is_enough(tmp_path: Path, here: Here) -> None:
    make_text(tmp_path / "notes.txt")
    done = here("train", "notes.txt", "--max-steps", "4")
    assert done.code == 0, done.err
    assert done.out.strip().endswith("runs/notes/notes.safetensors")
    assert (tmp_path / "runs" / "notes" / "notes.safetensors").is_file()
    for reason in ("tokenizer: characters", "network: about", "budget:"):
        assert reason in done.err


def test_json_is_all_that_goes_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--config", str(write_config(tmp_path)), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 3
    assert result["validation"]["bits_per_byte"] > 0


def test_flags_and_sets_override_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path)
    command = ["train", "--config", str(path), "--set", "batch.micro_batch_size=2"]
    assert run([*command, "--max-steps", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 2
    resolved = json.loads((Path(result["run_folder"]) / "config.json").read_text())
    assert resolved["batch"]["micro_batch_size"] == 2


def test_a_run_folder_is_all_that_a_resume_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--config", str(write_config(tmp_path))]) == 0
    folder = tmp_path / "out" / "model-run"
    capsys.readouterr()
    assert run(["train", "--resume", str(folder), "--max-steps", "5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["resumed_from"], result["steps"]) == (3, 5)


@pytest.mark.parametrize("named", ["out", "out/model", "out/model-run/state/step-00000003"])
def test_a_resume_finds_the_run_that_is_meant(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    named: str,
) -> None:
    assert run(["train", "--config", str(write_config(tmp_path))]) == 0
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run(["train", "--resume", named, "--max-steps", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed_from"] == 3


def test_a_limit_that_lies_behind_a_run_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--config", str(write_config(tmp_path))]
    assert run(command) == 0
    capsys.readouterr()
    assert run([*command, "--max-steps", "2", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["steps"] == 3
    assert "the limit of 2 steps lies behind this run, which has taken 3" in captured.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--set", "batch.micro_batch_size=auto"], 2, "one process alone"),
        (["--device", "mps"], 7, "mps"),
    ],
)
def test_processes_are_not_started_for_what_they_would_refuse(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr("tinyllm.training.launch.launch", lambda *_: pytest.fail("started"))
    command = ["train", "--config", str(write_config(tmp_path)), "--processes", "2"]
    assert run([*command, *arguments]) == code
    assert said in capsys.readouterr().err


def test_a_limit_in_steps_takes_the_place_of_the_planned_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_text(tmp_path / "text.txt")
    assert run(["train", "text.txt", "--max-steps", "2"]) == 0
    told = capsys.readouterr().err
    assert "budget: max_steps 2, as asked" in told
    assert " passes over the text" not in told
    config = json.loads((tmp_path / "runs/text/text-run/config.json").read_text())
    assert (config["max_steps"], config["max_minutes"], config["epochs"]) == (2, None, None)


def test_a_budget_and_a_vocabulary_are_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_text(tmp_path / "text.txt")
    flags = ["--set", "max_minutes=1.125", "--max-steps", "1"]
    assert run(["train", "text.txt", *flags]) == 0
    told = capsys.readouterr().err
    assert "budget: 1 min 08 s or " in told
    assert "training: at most 1 step of " in told
    assert ", until 1 min 08 s are up" in told
    assert " minutes" not in told
    assert "is little text; its beginning has 18 kinds of them" in told
    assert "tokenizer: char, 20 ids, 2 of them special" in told


def test_a_folder_of_several_runs_is_not_guessed_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a-run", "b-run"):
        (tmp_path / name / "state").mkdir(parents=True)
    assert run(["train", "--resume", str(tmp_path)]) == 4
    assert "holds 2 runs" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--resume", "runs/nowhere"], ["nowhere.txt"]])
def test_what_is_not_there_is_said_and_leaves_no_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["train", *arguments]) in (3, 4)
    assert "there is no" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train"], 2, "nothing to train on"),
        (["train", "missing.txt"], 3, "missing.txt"),
        (["train", "empty.txt"], 3, "empty"),
        (["train", "--config", "missing.json"], 2, "missing.json"),
        (["train", "text.txt", "--resume", "--fresh"], 2, "contradict"),
        (["train", "text.txt", "--set", "optimiser.name=muon"], 2, "optimizer"),
        (["train", "text.txt", "--set", "tokenizer.vocab_size=60000"], 2, "60,000"),
        (["train", "text.txt", "--init-from", "nowhere"], 4, "nowhere"),
        (["train", "text.txt", "--device", "tpu"], 2, "tpu"),
        (["train", "--resume", "a-folder"], 3, "a-folder"),
        (["train", "text.txt", "--max-minutes", "-5"], 2, "max_minutes"),
        (["train", "text.txt", "--set", "max_minutes=abc"], 2, "max_minutes"),
    ],
)
def test_a_mistake_ends_in_one_sentence_and_its_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_text(tmp_path / "text.txt")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "a-folder").mkdir()
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_dry_run_tells_what_the_training_will_take_and_keeps_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--config", str(write_config(tmp_path)), "--dry-run"]
    assert run(command) == 0
    shown = capsys.readouterr()
    for word in ("parameters:", "training: 3 steps", "tokens/s", "memory:", "disk:", "fits"):
        assert word in shown.out
    assert not (tmp_path / "out").exists()
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] is True
    assert run([*command, "--fresh"]) == 2
    assert "--dry-run" in capsys.readouterr().err
