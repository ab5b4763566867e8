"""The command `gen-instructions` as a user meets it."""

import json
from pathlib import Path

import pytest

from tests.cli.here import Here
from tinyllm.data.writers import open_writer
from tinyllm.providers.story_grammar import tell_story


def write_stories(path: Path, n: int) -> None:
    with open_writer(path) as writer:
        for i in range(n):
            writer.write_text(tell_story(0, i).text)


def test_the_path_is_the_result_and_the_classes_are_shown(here: Here, tmp_path: Path) -> None:
    write_stories(tmp_path / "stories.txt", 20)
    done = here("gen-instructions", "stories.txt", "--output", "out")
    assert done.code == 0, done.err
    assert done.out == "out/train.jsonl\n"
    assert "no_dialogue" in done.err
    first = (tmp_path / "out" / "dataset.jsonl").read_bytes()
    done = here("gen-instructions", "stories.txt", "--output", "out", "--json")
    assert json.loads(done.out)["n_stories"] == 20
    assert (tmp_path / "out" / "dataset.jsonl").read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "`sources` is required"),
        (["missing.txt"], 3, "missing.txt"),
        (["stories.txt", "--balance", "happiness"], 2, "bad_ending"),
        (["stories.txt", "--balance", "conflict"], 2, "none have conflict"),
        (["stories.txt", "--set", "summaries.ask=true"], 2, "only tells stories"),
        (["stories.txt", "--set", "parts.word=1"], 2, "words"),
    ],
)
def test_mistakes_are_explained(
    here: Here, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    write_stories(tmp_path / "stories.txt", 3)
    done = here("gen-instructions", *arguments)
    assert (done.code, words in done.err) == (code, True), done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("output", ["stories.txt", "stories.txt/below"])
def test_an_output_that_is_a_file_is_one_sentence(here: Here, tmp_path: Path, output: str) -> None:
    write_stories(tmp_path / "stories.txt", 12)
    done = here("gen-instructions", "stories.txt", "-o", output)
    assert (done.code, done.out) == (3, "")
    assert "stories.txt: a part of this path is a file, not a folder" in done.err


def test_a_dry_run_shows_what_the_run_then_writes_and_the_status_tells(
    here: Here, tmp_path: Path
) -> None:
    write_stories(tmp_path / "stories.txt", 12)
    before = sorted(tmp_path.iterdir())
    told = json.loads(here("gen-instructions", "stories.txt", "--dry-run", "--json").out)
    asked = ("--set", "summaries.ask=true", "--set", "summaries.provider.kind=openai")
    model = ("--set", "summaries.provider.openai.model=m")
    projected = here("gen-instructions", "stories.txt", "--dry-run", *asked, *model)
    assert sorted(tmp_path.iterdir()) == before
    assert projected.out.count("--- ") == 6
    assert "\nsummaries        12\n" in projected.out
    assert here("gen-instructions", "stories.txt", "--status").code == 3
    assert here("gen-instructions", "stories.txt").code == 0
    rows = (tmp_path / "instructions" / "dataset.jsonl").read_text().splitlines()
    assert told["instructions"] == [json.loads(row)["instruction"] for row in rows[:3]]
    again = json.loads(here("gen-instructions", "stories.txt", "--dry-run", "--json").out)
    assert again == told
    status = here("gen-instructions", "--status")
    assert status.out == "stories    12\nwritten    12\n"
