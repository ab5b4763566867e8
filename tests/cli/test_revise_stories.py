"""The command `revise-stories` as a user meets it."""

import json
from pathlib import Path

from tests.cli.here import Here
from tests.stories.revision_runs import write_source


def test_the_folder_is_the_result_and_the_summary_is_told(here: Here, tmp_path: Path) -> None:
    write_source(tmp_path / "in.jsonl", 9)
    done = here("revise-stories", "in.jsonl", "--output", "out")
    assert done.code == 0, done.err
    assert done.out == "out\n"
    assert "stories to tune on" in done.err
    assert "models prefer their own" in done.err


def test_mistakes_are_explained(here: Here, tmp_path: Path) -> None:
    write_source(tmp_path / "in.jsonl", 3)
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "c.json").write_text('{"name": "x", "version": 1, "principles": [{"id": "a"}]}')
    mistakes = {
        (): (2, "`sources` is required"),
        ("missing.jsonl",): (3, "missing.jsonl"),
        ("empty.jsonl",): (3, "holds no prompt"),
        ("in.jsonl", "--method", "sample"): (2, "drafts.ask"),
        ("in.jsonl", "--rounds", "9"): (2, "rounds"),
        ("in.jsonl", "--constitution", "c.json"): (3, "no constitution"),
        ("in.jsonl", "--constitution", "."): (3, "is a folder"),
        ("in.jsonl", "--set", "critic.temperature=1"): (2, "critic"),
        ("--status", "--output", "nothing"): (3, "no run"),
        ("in.jsonl", "--output", "in.jsonl"): (3, "in.jsonl"),
    }
    for arguments, (code, words) in mistakes.items():
        done = here("revise-stories", *arguments)
        assert (done.code, words in done.err) == (code, True), (arguments, done.err)
        assert "Traceback" not in done.err


def test_what_is_looked_at_and_what_is_made_agree(here: Here, tmp_path: Path) -> None:
    write_source(tmp_path / "in.jsonl", 12)
    seen = json.loads(here("revise-stories", "in.jsonl", "--dry-run", "--json").out)
    assert seen["roles"]["critic"]["n_requests"] == 12
    assert not (tmp_path / "revisions").exists()
    made = json.loads(here("revise-stories", "in.jsonl", "--json").out)
    assert made["results"]["tasks"] == 12
    status = json.loads(here("revise-stories", "--status", "--json").out)
    assert status["critic"]["accepted"] == 12
    again = json.loads(here("revise-stories", "in.jsonl", "--json").out)
    assert again == made
