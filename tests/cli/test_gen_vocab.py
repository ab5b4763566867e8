"""The command `gen-vocab` as a user meets it."""

import json
from pathlib import Path

import pytest

from tests.cli.here import Here
from tests.stories.fault_server import Fault, FaultServer


def test_the_path_is_the_result_and_refused_words_are_counted(here: Here, tmp_path: Path) -> None:
    done = here("gen-vocab", "--output", "v.json")
    assert done.code == 0, done.err
    assert done.out == "v.json\n"
    assert "750 nouns, 375 verbs, 375 adjectives; refused:" in done.err
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
def test_mistakes_are_explained(here: Here, arguments: list[str], code: int, words: str) -> None:
    done = here("gen-vocab", *arguments)
    assert (done.code, words in done.err) == (code, True), done.err
    assert "Traceback" not in done.err


def test_a_dry_run_and_the_status_ask_nobody(here: Here, tmp_path: Path) -> None:
    assert "nobody would be asked" in here("gen-vocab", "--dry-run").out
    assert here("gen-vocab", "--status").code == 3
    with FaultServer() as server:
        server.fault_for = lambda *_: Fault(message={"content": "fox\nowl\nhen\nyak\nfox"})
        (tmp_path / "c.json").write_text(
            json.dumps(
                {
                    "nouns": 9,
                    "verbs": 1,
                    "adjectives": 1,
                    "source": "provider",
                    "words_per_request": 5,
                    "rules": {"min_zipf": None},
                    "provider": {
                        "kind": "openai",
                        "openai": {"model": "lister", "base_urls": [server.url]},
                        "price": {"output_per_million": 1},
                    },
                }
            )
        )
        told = json.loads(here("gen-vocab", "--config", "c.json", "--dry-run", "--json").out)
        assert not server.requests
        assert {path.name for path in tmp_path.iterdir()} == {"c.json"}
        done = here("gen-vocab", "--config", "c.json", "--max-requests", "3")
        assert (done.code, "max_requests 3" in done.err) == (3, True)
        prompts = [seen.prompt for seen in server.requests]
    assert {entry["prompt"] for entry in told["asked"]["prompts"]} == set(prompts)
    assert told["asked"]["n_requests"] == 4
    seen = here("gen-vocab", "--config", "c.json", "--status")
    assert seen.out.startswith("words      4 of 9 nouns, 0 of 1 verbs, 0 of 1 adjectives\n")
    assert "\nrequests   3, " in seen.out
