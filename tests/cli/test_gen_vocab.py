"""The command `gen-vocab` as a user meets it."""

import json
from pathlib import Path

import pytest

from tests.conftest import RunCommand


def test_the_path_is_the_result_and_refused_words_are_counted(
    run_tinyllm: RunCommand, tmp_path: Path
) -> None:
    done = run_tinyllm("gen-vocab", "--output", "v.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "v.json\n"
    assert "750 nouns, 375 verbs, 375 adjectives; refused:" in done.stderr
    words = json.loads((tmp_path / "v.json").read_text())
    assert [len(words[name]) for name in ("nouns", "verbs", "adjectives")] == [750, 375, 375]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--nouns", "9000"], 3, "nouns are missing"),
        (["--source", "provider"], 2, "lists no words"),
        (["--source", "web"], 2, "builtin"),
        (["--nouns", "0"], 2, "nouns"),
    ],
)
def test_mistakes_are_explained(
    run_tinyllm: RunCommand, arguments: list[str], code: int, words: str
) -> None:
    done = run_tinyllm("gen-vocab", *arguments)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
