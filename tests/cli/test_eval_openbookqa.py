"""`tinyllm eval-openbookqa` as people type it: figures out, a report in a folder."""

import json
from pathlib import Path

import pytest

from tests.cli.here import Here
from tests.tiny import write_tiny_checkpoint
from tinyllm.data.multiple_choice import read_multiple_choice

QUESTIONS = Path(__file__).parent.parent / "evaluation" / "questions.jsonl"
METRICS = {"acc", "acc_norm", "acc_bytes", "acc_token", "acc_uncond"}


@pytest.fixture
def here(tmp_path, monkeypatch, capfd):
    write_tiny_checkpoint(tmp_path / "chat.safetensors", chat=True)
    write_tiny_checkpoint(tmp_path / "base.safetensors")
    return Here(tmp_path, monkeypatch, capfd)


@pytest.fixture
def evaluate(here):
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


def test_letters_are_averaged_over_all_rotations(evaluate, tmp_path):
    result = evaluate(
        "-c", "chat", "--data", QUESTIONS, "--style", "letters", "--chat-template", "--json"
    )
    figures = json.loads(result.out)
    assert figures["task"] == "openbookqa_letters"
    assert set(figures["forms"]) == {"letters", "letters_chat"}
    assert figures["primary"] == {"form": "letters", "metric": "acc"}
    letters = figures["forms"]["letters"]
    assert sum(letters["share_of_letters_won"].values()) == pytest.approx(1)
    lines = predictions(tmp_path / "chat-eval" / "openbookqa_letters-questions")
    assert all(len(line["rotations"]) == 4 for line in lines)


def test_written_answers_are_kept_with_how_they_were_matched(evaluate, tmp_path):
    result = evaluate("-c", "base", "--data", QUESTIONS, "--style", "generate", "--limit", "5")
    assert result.code == 0, result.err
    assert "of answers unmatched" in result.out
    lines = predictions(tmp_path / "base-eval" / "openbookqa_generate-questions")
    assert {"text", "match", "picks", "credits"} <= lines[0].keys()


def test_examples_are_named_in_the_report(evaluate, tmp_path):
    train = tmp_path / "train.jsonl"
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines(keepends=True)
    train.write_text("".join(lines[:10]), encoding="utf-8")
    (tmp_path / "dev.jsonl").write_text("".join(lines[10:]), encoding="utf-8")
    result = evaluate("-c", "base", "--data", "dev.jsonl", "--n-shots", "3", "--json")
    figures = json.loads(result.out)
    assert figures["task"] == "openbookqa_3_shot"
    shots = figures["settings"]["shots"]
    assert len(set(shots)) == 3
    assert set(shots) <= {json.loads(line)["id"] for line in lines[:10]}
    report = (tmp_path / "base-eval" / "openbookqa_3_shot-dev" / "results.md").read_text()
    assert f"the same before every question (seed 0: {', '.join(shots)})" in report


def test_the_fact_makes_another_task_of_it(evaluate, tmp_path):
    rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    with_facts = [json.dumps({**row, "fact1": "plants need light"}) + "\n" for row in rows]
    (tmp_path / "facts.jsonl").write_text("".join(with_facts), encoding="utf-8")
    figures = [
        json.loads(evaluate("-c", "base", "--data", "facts.jsonl", "--json", *flags).out)
        for flags in ((), ("--with-fact",))
    ]
    assert [f["task"] for f in figures] == ["openbookqa", "openbookqa_with_fact"]
    assert figures[1]["title"] == "OpenBookQA with the fact given"
    refused = evaluate("-c", "base", "--data", QUESTIONS, "--with-fact")
    assert refused.code == 3
    assert "has no fact" in refused.err
    assert "openbookqa:additional" in refused.err


def test_another_checkpoint_and_its_predictions_compare_alike(evaluate, tmp_path):
    write_tiny_checkpoint(tmp_path / "other.safetensors", seed=5)
    asked = evaluate("-c", "base", "--data", QUESTIONS, "--compare", "other", "--json")
    assert evaluate("-c", "other", "--data", QUESTIONS, "--output", "theirs").code == 0
    read = evaluate("-c", "base", "--data", QUESTIONS, "--compare", "theirs", "--json")
    [one], [two] = (json.loads(result.out)["comparisons"] for result in (asked, read))
    assert one == two
    assert one["n_only_this"] + one["n_only_other"] > 0
    shown = evaluate("-c", "base", "--data", QUESTIONS, "--compare", "theirs/predictions.jsonl")
    assert "McNemar's exact test" in shown.out
    page = (tmp_path / "base-eval" / "openbookqa-questions" / "questions.html").read_text()
    assert "theirs/predictions.jsonl" in page


def test_two_checkpoints_of_one_lineage_on_the_test_are_warned_of(evaluate, tmp_path):
    training = {"config": {"seed": 1}}
    for step in (1, 2):
        write_tiny_checkpoint(
            tmp_path / f"step-{step}.safetensors", training={**training, "step": step}, seed=step
        )
    (tmp_path / "test.jsonl").write_bytes(QUESTIONS.read_bytes())
    (tmp_path / "dev.jsonl").write_bytes(QUESTIONS.read_bytes())
    first = evaluate("-c", "step-1", "--data", "test.jsonl", "--json")
    assert "chooses on the test" not in first.err
    second = evaluate("-c", "step-2", "--data", "test.jsonl", "--json")
    assert "chooses on the test" in second.err
    use = json.loads(second.out)["test_use"]
    assert (use["n_evaluations"], use["n_checkpoints"], use["is_selection"]) == (2, 2, True)
    validation = evaluate("-c", "step-2", "--data", "dev.jsonl", "--json")
    assert json.loads(validation.out)["test_use"] is None
    assert not (tmp_path / "dev.evaluations.journal").exists()


def test_a_test_that_cannot_be_counted_is_still_taken(evaluate, tmp_path):
    (tmp_path / "test.jsonl").write_bytes(QUESTIONS.read_bytes())
    (tmp_path / "test.evaluations.journal").mkdir()
    result = evaluate("-c", "base", "--data", "test.jsonl", "--json")
    assert result.code == 0
    assert "is not counted" in result.err
    assert json.loads(result.out)["test_use"] is None


def test_clean_contaminated_and_unknown_questions_are_told_apart(here, evaluate, tmp_path):
    questions = list(read_multiple_choice(str(QUESTIONS)))
    text = tmp_path / "learnt.txt"
    text.write_text("\n\n".join(f"{q.question} {q.choices[q.answer]}" for q in questions[:5]))
    scan = ("scan-contamination", text, "--questions", QUESTIONS, "--record")
    assert here(*scan).code == 3  # leaks were found
    manifest = json.loads((tmp_path / "learnt.manifest.json").read_text())
    training = {"data": [{"source": "learnt.txt", "manifest": manifest}]}
    write_tiny_checkpoint(tmp_path / "searched.safetensors", training=training)
    known = json.loads(evaluate("-c", "searched", "--data", QUESTIONS, "--json").out)
    unknown = json.loads(evaluate("-c", "base", "--data", QUESTIONS, "--json").out)
    subsets = known["forms"]["cloze"]["subsets"]
    assert known["contaminated"] == sorted(question.id for question in questions[:5])
    assert {name: part["n_questions"] for name, part in subsets.items()} == {
        "clean": 19,
        "contaminated": 5,
    }
    both = sum(part["value"] * part["n_questions"] for part in subsets.values())
    assert both == pytest.approx(24 * known["forms"]["cloze"]["scores"]["acc_norm"]["value"])
    assert unknown["contaminated"] is None
    assert list(unknown["forms"]["cloze"]["subsets"]) == ["unknown"]


def predictions(folder):
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-c", "base", "--chat-template", "--data", QUESTIONS), 2, "not chat-tuned"),
        (("-c", "base", "--data", "nothing.jsonl"), 3, "nothing.jsonl"),
        (("-c", "base", "--split", "tset"), 2, "split"),
        (("-c", "base", "--data", QUESTIONS, "--style", "letter"), 2, "style"),
        (("-c", "base", "--data", QUESTIONS, "--n-shots", "2"), 3, "--shots-data"),
        (("-c", "base", "--data", QUESTIONS, "--compare", "nobody"), 4, "nobody"),
        (("-c", "base", "--data", QUESTIONS, "--compare", QUESTIONS), 3, "not a prediction"),
        (("-c", "base", "--data", QUESTIONS, "--compare", "no.jsonl"), 3, "no.jsonl"),
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
