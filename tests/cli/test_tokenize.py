"""`tinyllm tokenize` as a user meets it."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.here import Here
from tinyllm.records import END_OF_TEXT
from tinyllm.tokenizer import Tokenizer

STORIES = [f"Once upon a time, friend number {i} found a big red ball.\n" for i in range(50)]


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    path = tmp_path / "stories.txt"
    path.write_text(f"\n{END_OF_TEXT}\n".join(STORIES), encoding="utf-8")
    return path


def test_it_trains_a_tokenizer_caches_the_text_and_shows_how_well_they_fit(
    stories: Path, here: Here
) -> None:
    done = here("tokenize", stories, "--vocab-size", "290")
    assert done.code == 0, done.err
    for words in ("documents", "bytes per token", "vocabulary", "in the embedding", "shards"):
        assert words in done.out
    assert "train a bpe tokenizer" in done.err
    tokenizer = Tokenizer.from_file(stories.with_name("stories.tokenizer.json"))
    assert tokenizer.vocab_size == 290


def test_json_output_is_for_machines_and_a_second_run_uses_the_cache(
    stories: Path, here: Here
) -> None:
    arguments = ("tokenize", stories, "--kind", "char", "--json", "--output", "t.json")
    first = here(*arguments)
    second = here(*arguments)
    found = json.loads(first.out)
    assert json.loads(second.out) == found
    assert "train a char tokenizer" in first.err
    assert "train a char tokenizer" not in second.err
    assert found["n_documents"] == 50
    assert found["bytes_per_token"] == pytest.approx(1, abs=0.05)
    assert 0 < found["embedding_shares"][0]["share"] < 1
    assert Tokenizer.from_file(stories.with_name("t.json")).kind == "char"


def test_a_config_file_says_what_flags_say(stories: Path, here: Here) -> None:
    config = stories.with_name("tokenize.json")
    config.write_text(
        json.dumps(
            {
                "data": "stories.txt",
                "tokenizer": {"kind": "bpe", "vocab_size": 280},
                "output": "made/tokenizer.json",
                "cache": "made/cache",
            }
        )
    )
    done = here("tokenize", "--config", config, "--vocab-size", "285", "--json")
    found = json.loads(done.out)
    assert found["vocab_size"] == 285
    assert (stories.parent / "made" / "tokenizer.json").is_file()
    assert Path(found["shards"]).parent == stories.parent / "made" / "cache"


def test_an_existing_tokenizer_is_used_as_it_is(stories: Path, here: Here) -> None:
    here("tokenize", stories, "--vocab-size", "290", "--output", "first.json")
    other = stories.with_name("other.txt")
    other.write_text("Quite another text.", encoding="utf-8")
    done = here("tokenize", other, "--tokenizer", "first.json", "--json")
    assert json.loads(done.out)["vocab_size"] == 290


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["absent.txt"], 3, "absent.txt"),
        (["empty.txt"], 3, "empty.txt"),
        (["stories.txt", "--vocab-size", "9000"], 2, "larger than this text allows"),
        (["stories.txt", "--vocab-size", "100"], 2, "too small for bpe"),
        (["stories.txt", "--kind", "word"], 2, "tokenizer.kind"),
        (["stories.txt", "--set", "mask_prompt=false"], 2, "mask_prompt"),
        (["chats.jsonl", "--set", "text_field=output"], 2, "text_field"),
        (["stories.txt", "--tokenizer", "stories.txt"], 3, "not a tokenizer.json"),
        (["stories.txt", "--tokenizer", "absent.json"], 3, "no tokenizer file"),
        ([], 2, "data"),
    ],
)
def test_a_mistake_is_one_sentence_and_the_right_exit_code(
    arguments: list[str], exit_code: int, message: str, stories: Path, here: Here
) -> None:
    stories.with_name("empty.txt").touch()
    stories.with_name("chats.jsonl").write_text('{"instruction": "Hi", "output": "Hello"}\n' * 9)
    done = here("tokenize", *arguments)
    assert done.code == exit_code, done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_what_is_odd_in_the_text_is_said_once(stories: Path, here: Here) -> None:
    stories.write_bytes(f"{STORIES[0]} {END_OF_TEXT} caf\xe9 caf\xe9s\n".encode("latin-1") * 9)
    stories.with_name("t.csv").write_text("id,text\n1,A fox.\n2,A bird.\n3,\n")
    for name, words in [
        (stories.name, ("is not UTF-8", "inside a line 9 times")),
        ("t.csv", ("the text is taken from", "skipped 1 row without text")),
    ]:
        done = here("tokenize", name, "--kind", "char")
        assert done.code == 0, done.err
        assert [done.err.count(word) for word in words] == [1, 1], done.err


def test_a_killed_run_leaves_nothing_broken_and_the_same_command_carries_on(
    stories: Path, here: Here
) -> None:
    stories.write_text(f"\n{END_OF_TEXT}\n".join(STORIES * 400), encoding="utf-8")
    command = [sys.executable, "-m", "tinyllm", "tokenize", stories.name, "--kind", "char"]
    for patience_seconds in (0.4, 0.6, 0.8, 1.0):
        child = subprocess.Popen(
            command, cwd=stories.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience_seconds)
        child.kill()
        child.wait()
        made = stories.with_name("stories.tokenizer.json")
        if made.exists():
            Tokenizer.from_file(made)
    found = json.loads(here(*command[3:], "--json").out)
    assert found["n_documents"] == 400 * len(STORIES)
    left = [path.name for path in stories.parent.rglob("*.tmp")]
    assert left == []
