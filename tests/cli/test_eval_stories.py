"""`tinyllm eval-stories` as people type it."""

import json
from pathlib import Path

import pytest

from tests.cli.here import Here, Outcome
from tests.evaluation.story_evaluation.judges import fair, serve
from tests.evaluation.story_evaluation.small_runs import write_completions
from tests.stories.fault_server import FaultServer
from tests.tiny import write_tiny_checkpoint

SHORT = ("--limit", "2", "--n-samples", "2", "--set", "writer.max_new_tokens=10")


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Here:
    write_tiny_checkpoint(tmp_path / "base.safetensors", context_length=256)
    return Here(tmp_path, monkeypatch, capfd)


def test_without_a_judge_texts_are_measured_and_the_report_says_so(
    here: Here, tmp_path: Path
) -> None:
    result = here("eval-stories", *SHORT)
    assert result.code == 0, result.err
    assert "distinct_1" in result.out
    assert "Nobody judged" in result.out
    folder = tmp_path / "base-eval" / "stories"
    names = {path.name for path in folder.iterdir()}
    assert names == {"completions.jsonl", "eval-run", "results.json", "results.md"}
    assert "Nobody judged" in (folder / "results.md").read_text()
    assert json.loads((folder / "results.json").read_text())["task"] == "stories"


def judged(here: Here, url: str, *more: str) -> Outcome:
    judge = ("--judge", "examiner", "--judge-url", url)
    return here("eval-stories", "-c", "base", *SHORT, *judge, *more)


def test_a_judge_grades_and_nothing_is_asked_twice(here: Here, tmp_path: Path) -> None:
    with FaultServer() as server:
        serve(server, fair)
        url = server.url
        looked = judged(here, url, "--dry-run", "--json")
        assert json.loads(looked.out)["n_requests"] >= 8
        assert "--- story" in judged(here, url, "--dry-run").out
        assert not server.requests
        result = judged(here, url, "--json")
        assert result.code == 0, result.err
        model = json.loads(result.out)["models"]["base"]
        assert model["coverage"]["graded"] == 4
        n_asked = len(server.requests)
        assert "creativity" in judged(here, url).out
        status = judged(here, url, "--status", "--json")
        assert json.loads(status.out)["judged"]["accepted"] == n_asked
        assert "of 4 by base" in judged(here, url, "--status").out
        assert len(server.requests) == n_asked
    assert judged(here, url, "--reparse", "--json").code == 0  # the server is gone


def test_a_dry_run_without_a_text_to_judge_is_one_sentence(here: Here, tmp_path: Path) -> None:
    write_completions(tmp_path / "silent.jsonl", empty=100)
    judge = ("--judge", "examiner", "--set", "judge.anchors=false", "--dry-run")
    result = here("eval-stories", "--completions", "silent.jsonl", *judge)
    assert result.code == 3
    assert "there is nothing to judge" in result.err


def test_models_lie_side_by_side(here: Here, tmp_path: Path) -> None:
    write_completions(tmp_path / "foreign.jsonl")
    result = here(
        "eval-stories", "-c", "base", "--completions", "foreign.jsonl", *SHORT, "--output", "both"
    )
    assert result.code == 0, result.err
    assert "foreign" in result.out.splitlines()[0]
    assert {"base", "foreign", "results.md"} <= {p.name for p in (tmp_path / "both").iterdir()}
    assert "The same beginnings" in (tmp_path / "both" / "results.md").read_text()


def test_a_config_names_what_ships_and_files_beside_it(here: Here, tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    folder.mkdir()
    (folder / "own.txt").write_text("A cat saw a\n")
    written = here("config", "init", "eval-stories").out
    (folder / "shipped.json").write_text(written)
    (folder / "own.json").write_text(json.dumps({"extends": "shipped.json", "prompts": "own.txt"}))
    for name, n_prompts in (("shipped", 2), ("own", 1)):
        arguments = ("--config", f"plans/{name}.json", *SHORT, "--output", name, "--json")
        result = here("eval-stories", *arguments)
        assert result.code == 0, result.err
        [model] = json.loads(result.out)["models"].values()
        assert model["prompts"]["n_prompts"] == n_prompts


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("-c", "nobody"), 4, "nobody"),
        (("--completions", "nothing.jsonl"), 3, "nothing.jsonl"),
        (("--completions", "."), 3, "folder"),
        (("--completions", "base.safetensors"), 3, "base.safetensors"),
        (("--prompts", "nothing.json"), 3, "nothing.json"),
        (("--prompts", "base.safetensors"), 3, "UTF-8"),
        (("--status",), 3, "there is no run"),
        (("--reparse",), 3, "there is no run"),
        (("--judge", "m", "--protocol", "instruct"), 2, "instruct is for instructions"),
        (("--judge", "m", "--protocol", "gpt"), 3, "there is no protocol"),
        (("--judge-url", "http://127.0.0.1:1/v1"), 2, "openai.model"),
        (("--limit", "0"), 2, "limit"),
        (("--set", "judge.protocoll=x"), 2, "Did you mean"),
        (("--max-cost", "1"), 2, "price"),
        (("--output", "base.safetensors"), 3, "cannot write the report"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    here: Here, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = here("eval-stories", *SHORT, *arguments)
    assert result.code == code, result.err
    assert said in result.err
    assert "Traceback" not in result.err
    assert sorted(tmp_path.rglob("*")) == before
