"""Completions: the same seeds for every model, each text once, from whoever writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.story_evaluation.judges import saying
from tests.evaluation.story_evaluation.small_runs import evaluate, write_completions
from tests.stories.fault_server import Fault, FaultServer
from tests.tiny import write_tiny_checkpoint
from tinyllm.errors import ConfigError, DataError, UsageError
from tinyllm.evaluation.story_evaluation.prompts import read_prompt_set
from tinyllm.evaluation.story_evaluation.writers import names_of, read_completions

FEW: dict[str, Any] = {"limit": 3, "writer__n_samples": 2, "writer__max_new_tokens": 12}
N_FEW = 6


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    return write_tiny_checkpoint(folder / "tiny.safetensors", chat=True, context_length=256)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The completions of a folder, in the order of the plan."""
    lines = (folder / "completions.jsonl").read_text().splitlines()
    return sorted(map(json.loads, lines), key=lambda row: row["id"])


def test_a_stopped_writer_draws_only_what_is_missing(tmp_path: Path, checkpoint: Path) -> None:
    whole = evaluate(tmp_path / "whole", None, checkpoints=(str(checkpoint),), **FEW)
    kept = tmp_path / "torn" / "completions.jsonl"
    evaluate(tmp_path / "torn", None, checkpoints=(str(checkpoint),), **FEW)
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(lines[4] + lines[1] + lines[0][:20])  # killed inside of a line
    torn = evaluate(tmp_path / "torn", None, checkpoints=(str(checkpoint),), **FEW)
    assert rows(tmp_path / "torn") == rows(tmp_path / "whole")
    assert len(rows(tmp_path / "whole")) == N_FEW
    hashes = [r.results["tiny"]["completions_sha256"] for r in (whole, torn)]
    assert hashes[0] == hashes[1]
    assert kept.read_bytes().startswith(lines[4] + lines[1])


def test_more_prompts_and_other_models_change_no_text(tmp_path: Path, checkpoint: Path) -> None:
    other = write_tiny_checkpoint(tmp_path / "other.safetensors", seed=1, context_length=256)
    evaluate(tmp_path / "one", None, checkpoints=(str(checkpoint),), **FEW)
    both = (str(other), str(checkpoint))
    evaluate(
        tmp_path / "two", None, checkpoints=both, **{**FEW, "limit": 4, "writer__batch_size": 3}
    )
    few, more = rows(tmp_path / "one"), rows(tmp_path / "two" / "tiny")
    assert [row for row in more if not row["id"].startswith("3-")] == few
    assert rows(tmp_path / "two" / "other") != more
    assert "results.md" in {path.name for path in (tmp_path / "two").iterdir()}


def test_other_settings_do_not_go_on_in_the_same_folder(tmp_path: Path, checkpoint: Path) -> None:
    evaluate(tmp_path / "out", None, checkpoints=(str(checkpoint),), **FEW)
    with pytest.raises(ConfigError, match="max_new_tokens: it was 12, and now is 13"):
        evaluate(
            tmp_path / "out", None, checkpoints=(str(checkpoint),),
            **{**FEW, "writer__max_new_tokens": 13},
        )  # fmt: skip


def test_instructions_go_through_the_chat_template(tmp_path: Path, checkpoint: Path) -> None:
    report = evaluate(
        tmp_path / "out", None, checkpoints=(str(checkpoint),), prompts="instructions", **FEW
    )
    assert report.results["tiny"]["prompts"]["name"] == "instructions"
    assert "words_used" in str(report.results["tiny"]["metrics"]["measures"])


def test_a_beginning_that_fills_the_context_is_named(tmp_path: Path) -> None:
    small = write_tiny_checkpoint(tmp_path / "small.safetensors", context_length=16)
    with pytest.raises(UsageError, match="prompt 'character-01'"):
        evaluate(tmp_path / "out", None, checkpoints=(str(small),), **FEW)


def test_a_server_writes_and_its_cut_and_empty_texts_count(
    tmp_path: Path, server: FaultServer
) -> None:
    texts = [saying("went home."), Fault(finish_reason="length"), saying(""), Fault(500, {}, b"")]
    server.fault_for = lambda number, _: texts[number] if number < len(texts) else saying(" ran.")
    given: dict[str, Any] = {
        "writer__provider__kind": "openai",
        "writer__provider__openai__model": "author.v2",
        "writer__provider__openai__base_urls": (server.url,),
        "writer__provider__concurrency": 1,
        "writer__provider__retries__base_seconds": 0.02,
        **FEW,
    }
    report = evaluate(tmp_path / "out", None, **given)
    result = report.results["author-v2"]
    assert result["n_completions"] == N_FEW
    assert result["n_empty"] == 1
    reasons = sorted(row["finish_reason"] for row in rows(tmp_path / "out"))
    assert reasons == ["length", *["stop"] * 5]
    assert server.requests[0].prompt.endswith(read_prompt_set("beginnings").prompts[0].text)
    n_asked = len(server.requests)
    assert evaluate(tmp_path / "out", None, **given).results == report.results
    assert len(server.requests) == n_asked


def test_a_base_model_of_transformers_goes_on_with_the_beginning_itself(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tests.providers.test_transformers import tiny_llama, tiny_tokenizer

    folder = tmp_path / "gpt"
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    given: dict[str, Any] = {
        "writer__provider__kind": "transformers",
        "writer__provider__transformers__model": str(folder),
        "writer__provider__transformers__device": "cpu",
        **FEW,
    }
    raw = evaluate(tmp_path / "raw", None, writer__provider__transformers__raw=True, **given)
    told = evaluate(tmp_path / "told", None, **given)
    again = evaluate(tmp_path / "again", None, writer__provider__transformers__raw=True, **given)
    assert raw.results["gpt"]["n_completions"] == N_FEW
    hashes = [r.results["gpt"]["completions_sha256"] for r in (raw, told, again)]
    assert hashes[0] == hashes[2] != hashes[1]


def test_files_of_completions_say_what_is_missing(tmp_path: Path) -> None:
    prompts = read_prompt_set("beginnings").first(4)
    path = write_completions(tmp_path / "gpt2-xl.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[1:], '{"prompt_id": "of another set", "text": "x"}']) + "\n")
    written = read_completions(path, prompts, 3)
    assert (len(written.samples), written.n_missing) == (11, 1)
    report = evaluate(tmp_path / "out", None, completions=(path,))
    assert report.results["gpt2-xl"]["n_missing"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "x"}', "no completion"),
        ('{"prompt_id": "character-01"}', "no completion"),
        ('{"prompt_id": "character-01", "text": 3}', "no completion"),
        ('{"prompt_id": "character-01", "text": "x", "sample": -1}', "whole number"),
        ('{"prompt_id": "character-01", "text": "x", "sample": 0}\n' * 2, "stands there twice"),
        ('{"prompt_id": "nobody", "text": "x"}', "no completion of these prompts"),
        ("{", "completions.jsonl"),
    ],
)
def test_a_file_that_holds_no_completions_is_refused(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "completions.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        read_completions(path, read_prompt_set("beginnings"), None)


def test_models_are_named_like_their_files() -> None:
    paths = [Path(name) for name in ("a/x.jsonl", "b/x.safetensors", "gpt/completions.jsonl")]
    assert names_of(paths) == ["x", "x-2", "gpt"]
