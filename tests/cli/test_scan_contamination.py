"""`tinyllm scan-contamination` as a user meets it."""

import json
from pathlib import Path

import pytest

from tests.cli.here import Here

STEM = "Frogs that live in ponds eat"


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    """A clean text, one with a question, and the questions."""
    (tmp_path / "clean.txt").write_text("Frogs live in ponds.\n")
    (tmp_path / "leaky.txt").write_text(f"So: {STEM.upper()}\nsmall flies!\n")
    row = {"id": "q7", "question": STEM, "choices": ["small flies", "sand"], "answer": 0}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "folder").mkdir()


def test_the_exit_code_tells_whether_a_question_was_found(here: Here) -> None:
    done = here("scan-contamination", "clean.txt", "--questions", "questions.jsonl")
    assert (done.code, done.err) == (0, "")
    done = here("scan-contamination", "clean.txt", "leaky.txt", "--questions", "questions.jsonl")
    assert done.code == 3
    assert "q7 (stem answer): leaky.txt, document 0, character 4: 'FROGS" in done.out
    assert [line.split()[:2] for line in done.out.splitlines()[1:3]] == (
        [["clean.txt", "0"], ["leaky.txt", "1"]]
    )


def test_json_and_the_file_hold_every_place(here: Here, tmp_path: Path) -> None:
    done = here(
        *("scan-contamination", "leaky.txt", "--questions", "questions.jsonl"),
        *("--json", "--output", "report.json", "--record"),
    )
    assert done.code == 3
    found = json.loads(done.out)
    assert found == json.loads((tmp_path / "report.json").read_text())
    assert found["texts"][0]["found"][0]["class"] == "stem_answer"
    manifest = json.loads((tmp_path / "leaky.manifest.json").read_text())
    assert manifest["contamination"][0]["items"] == 1


@pytest.mark.parametrize("folder_name", ["260207-openbook-qa", "openbookqa"])
def test_the_questions_at_hand_are_looked_for(here: Here, tmp_path: Path, folder_name: str) -> None:
    done = here("scan-contamination", "leaky.txt")
    assert (done.code, done.out) == (3, "")
    assert "there are no questions" in done.err
    folder = tmp_path / "datasets" / folder_name
    folder.mkdir(parents=True)
    (tmp_path / "questions.jsonl").rename(folder / "test.jsonl")
    assert "q7" in here("scan-contamination", "leaky.txt").out
    mixed = here("mix-datasets", "leaky.txt:1", "--output", "mix.txt", "--json")
    assert json.loads(mixed.out)["manifest"]["contamination"][0]["items"] == 1
    assert "holds 1 of 1 question" in mixed.err


def test_a_folder_of_questions_may_hold_its_book_of_facts(here: Here, tmp_path: Path) -> None:
    (tmp_path / "folder" / "openbook.txt").write_text("Frogs eat flies.\n")
    (tmp_path / "questions.jsonl").rename(tmp_path / "folder" / "test.jsonl")
    done = here("scan-contamination", "leaky.txt", "--questions", "folder")
    assert done.code == 3
    assert "q7 (stem answer)" in done.out
    assert "taken from running text (openbook.txt)" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "`texts` is required"),
        (["clean.txt", "--questions", "folder"], 3, "folder"),
        (["empty.txt", "--questions", "questions.jsonl"], 3, "holds no text"),
        (["clean.txt", "--questions", "empty.txt"], 3, "empty.txt is empty"),
        (["clean.txt", "--questions", "clean.txt"], 3, "clean.txt holds running text"),
        (["clean.txt", "--questions", "questions.jsonl", "--output", "folder"], 3, "is a folder"),
    ],
)
def test_mistakes_are_told_without_a_traceback(
    here: Here, arguments: list[str], code: int, words: str
) -> None:
    done = here("scan-contamination", *arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert "Traceback" not in done.err
