"""`tinyllm eval-openbookqa` as people type it: figures out, a report in a folder."""

import json
from pathlib import Path

import pytest

from tests.cli.here import Here
from tests.tiny import write_tiny_checkpoint

QUESTIONS = Path(__file__).parent.parent / "evaluation" / "questions.jsonl"
METRICS = {"acc", "acc_norm", "acc_bytes", "acc_token", "acc_uncond"}


@pytest.fixture
def evaluate(tmp_path, monkeypatch, capfd):
    write_tiny_checkpoint(tmp_path / "chat.safetensors", chat=True)
    write_tiny_checkpoint(tmp_path / "base.safetensors")
    here = Here(tmp_path, monkeypatch, capfd)
    return lambda *arguments: here("eval-openbookqa", *arguments)


def test_all_scores_come_with_their_uncertainty(evaluate):
    result = evaluate("-c", "base", "--data", QUESTIONS, "--json")
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    cloze = figures["forms"]["cloze"]
    assert set(cloze["scores"]) == METRICS
    assert figures["primary"] == {"form": "cloze", "metric": "acc_norm"}
    for score in cloze["scores"].values():
        low, high = score["interval_95"]
        assert low <= score["value"] <= high
        assert score["standard_error"] > 0
        assert 0 <= score["p_value"] <= 1
    assert cloze["baselines"]["uniform"] == 0.25
    assert {"choices_only_acc", "longest_choice", "majority_label"} <= set(cloze["baselines"])


def test_the_report_lies_beside_the_checkpoint(evaluate, tmp_path):
    result = evaluate("-c", "base", "--data", QUESTIONS)
    folder = tmp_path / "base-eval" / "openbookqa-questions"
    assert str(Path("base-eval") / "openbookqa-questions") in result.err
    assert sorted(p.name for p in folder.iterdir()) == [
        "predictions.jsonl",
        "questions.html",
        "results.json",
        "results.md",
    ]
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 24
    first = json.loads(lines[0])
    assert first["id"] == "t-0"
    assert set(first["picks"]) == METRICS
    assert "chance" in (folder / "results.md").read_text()
    assert "distinguishable from chance" in result.out or "above chance" in result.out


def test_the_batch_size_changes_no_byte_of_the_picks(evaluate, tmp_path):
    def picks(batch_size):
        output = tmp_path / f"batch-{batch_size}"
        code = evaluate(
            "-c", "base", "--data", QUESTIONS, "--batch-size", batch_size, "--output", output
        ).code
        assert code == 0
        lines = (output / "predictions.jsonl").read_text().splitlines()
        return [json.loads(line)["picks"] for line in lines]

    assert picks("1") == picks("7") == picks("64")


def test_a_chat_model_can_be_asked_both_ways(evaluate):
    result = evaluate("-c", "chat", "--data", QUESTIONS, "--chat-template", "--json")
    figures = json.loads(result.out)
    assert set(figures["forms"]) == {"cloze", "chat"}
    assert figures["primary"]["form"] == "cloze"


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_limit_asks_only_the_first_questions(evaluate, n):
    figures = json.loads(
        evaluate("-c", "base", "--data", QUESTIONS, "--limit", str(n), "--json").out
    )
    assert figures["data"]["n_questions"] == n
    error = figures["forms"]["cloze"]["scores"]["acc"]["standard_error"]
    assert (error is None) == (n == 1)


def test_the_downloaded_questions_are_found_by_split(evaluate, tmp_path):
    missing = evaluate("-c", "base", "--split", "dev")
    assert missing.code == 3
    assert "dev.jsonl" in missing.err
    assert "hint:" in missing.err
    folder = tmp_path / "datasets" / "260207-openbook-qa"
    folder.mkdir(parents=True)
    (folder / "validation.jsonl").write_bytes(QUESTIONS.read_bytes())
    assert evaluate("-c", "base").code == 0
    assert evaluate("-c", "base", "--split", "dev").code == 0
    assert evaluate("-c", "base", "--split", "test").code == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-c", "base", "--chat-template", "--data", QUESTIONS), 2, "not chat-tuned"),
        (("-c", "base", "--data", "nothing.jsonl"), 3, "nothing.jsonl"),
        (("-c", "base", "--split", "tset"), 2, "split"),
        (("-c", "nothing.safetensors", "--data", QUESTIONS), 4, "nothing.safetensors"),
    ],
)
def test_a_mistake_is_one_sentence_and_the_right_exit_code(evaluate, arguments, code, message):
    result = evaluate(*arguments)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert "Traceback" not in result.err


def test_a_report_that_cannot_be_written_is_found_out_before_the_work(evaluate, tmp_path):
    (tmp_path / "occupied").write_text("a file")
    result = evaluate("-c", "base", "--data", QUESTIONS, "--output", "occupied/report")
    assert result.code == 3
    assert "--output" in result.err


@pytest.mark.real_data
def test_the_published_questions_are_answered(evaluate, real_data):
    data = real_data / "openbookqa" / "Main" / "dev.jsonl"
    figures = json.loads(evaluate("-c", "base", "--data", data, "--json").out)
    assert figures["data"]["n_questions"] == 500
    assert figures["forms"]["cloze"]["baselines"]["majority_label"] == 0.276
