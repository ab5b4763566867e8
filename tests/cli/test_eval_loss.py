"""`tinyllm eval-loss` as people type it."""

import json

import pytest

from tests.cli.here import Here
from tests.tiny import TEXT, write_tiny_checkpoint


@pytest.fixture
def measure(tmp_path, monkeypatch, capfd):
    write_tiny_checkpoint(tmp_path / "base.safetensors")
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    here = Here(tmp_path, monkeypatch, capfd)
    return lambda *arguments: here("eval-loss", *arguments)


def test_the_figures_belong_together(measure, tmp_path):
    result = measure("-c", "base", "--data", "text.txt", "--json", "--output", "report")
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    assert figures["n_documents"] == 1
    assert figures["bits_per_byte"] > 0
    assert json.loads((tmp_path / "report" / "results.json").read_text()) == figures
    assert "bits per byte" in (tmp_path / "report" / "results.md").read_text()


def test_people_read_bits_per_byte_first(measure):
    assert measure("-c", "base", "--data", "text.txt").out.startswith("bits per byte")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-c", "base"), 2, "`data` is required"),
        (("-c", "base", "text.txt"), 2, "hint: Perhaps `--data` belongs before it."),
        (("-c", "base", "--data", "txt.txt"), 3, "txt.txt"),
        (("-c", "base", "--data", "empty.txt"), 3, "empty.txt"),
        (("-c", "base", "--data", "text.txt", "--format", "prose"), 2, "format"),
    ],
)
def test_a_mistake_is_one_sentence_and_the_right_exit_code(
    measure, tmp_path, arguments, code, message
):
    (tmp_path / "empty.txt").write_text("")
    result = measure(*arguments)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert "Traceback" not in result.err
