"""`tinyllm config`: what it writes, shows and takes agrees for every command."""

import json
from pathlib import Path

import pytest

from tests.cli.here import Here
from tinyllm.config.registry import command_names


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    here = Here(tmp_path, monkeypatch, capfd)
    return lambda *arguments: here("config", *arguments)


@pytest.mark.parametrize("command", command_names())
def test_a_fresh_config_is_valid_or_says_what_to_fill_in(config, command, tmp_path):
    assert config("init", command, "--output", "c.json").code == 0
    text = (tmp_path / "c.json").read_text()
    assert json.loads(config("show", command).out) == json.loads(text)
    checked = config("validate", "--command", command, "c.json")
    if "REQUIRED" in text:
        assert checked.code == 2
        errors = checked.err.split("hint: ")[0].splitlines()
        assert len(errors) == text.count("REQUIRED")
        assert all("replace REQUIRED by a value of your own" in line for line in errors)
    else:
        assert (checked.code, checked.out) == (0, "c.json: valid\n")


@pytest.mark.parametrize(
    ("command", "value"),
    [("train", "story.txt"), ("tokenize", "story.txt"), ("download", "alpaca")],
)
def test_a_fresh_config_that_was_filled_in_is_valid(config, command, value, tmp_path):
    text = config("init", command).out.replace("REQUIRED", value)
    (tmp_path / "c.json").write_text(text)
    assert config("validate", "--command", command, "c.json").code == 0


def test_a_flag_may_fill_in_what_the_file_leaves_open(config, tmp_path):
    config("init", "tokenize", "--output", "c.json")
    shown = config("show", "tokenize", "--config", "c.json", "--set", "data=story.txt")
    assert json.loads(shown.out)["data"] == ["story.txt"]
