"""`tinyllm eval-multiple-choice` from the hub to the report, and with questions of one's own."""

import json
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.here import Here
from tests.data.file_server import FileServer
from tests.tiny import write_tiny_checkpoint
from tinyllm.config.settings import settings

PUBLISHED = Path(__file__).parent.parent / "evaluation" / "published"
HUB = {
    "arc_easy": ("allenai/ai2_arc", "ARC-Easy", "test"),
    "hellaswag": ("Rowan/hellaswag", "data", "validation"),
    "winogrande": ("allenai/winogrande", "winogrande_xl", "validation"),
}


def rows_of(task):
    lines = (PUBLISHED / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def here(tmp_path, monkeypatch, capfd):
    write_tiny_checkpoint(tmp_path / "base.safetensors", context_length=256)
    return Here(tmp_path, monkeypatch, capfd)


@pytest.fixture
def evaluate(here):
    return lambda *arguments: here("eval-multiple-choice", "-c", "base", *arguments)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with three of the data sets, in the shape in which they are published."""
    with FileServer() as server:
        for task, (name, config, split) in HUB.items():
            body = BytesIO()
            pq.write_table(pa.Table.from_pylist(rows_of(task)), body)
            about = f"configs:\n- config_name: {config}\n  data_files:\n"
            for part in ("train", split):
                about += f"  - split: {part}\n    path: {config}/{part}-*\n"
            files = {f"{config}/{part}-0.parquet": body.getvalue() for part in ("train", split)}
            server.serve_dataset(name, {"README.md": f"---\n{about}---\n".encode(), **files})
        monkeypatch.setenv("TINYLLM_HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        settings.cache_clear()
        yield server
        settings.cache_clear()


@pytest.mark.parametrize(
    "task",
    [
        "arc_easy",
        pytest.param("hellaswag", marks=pytest.mark.long),
        pytest.param("winogrande", marks=pytest.mark.long),
    ],
)
def test_a_set_is_downloaded_and_answered(hub, run_tinyllm, evaluate, tmp_path, task):
    split = HUB[task][2]
    done = run_tinyllm("download", task, "--split", split)
    assert done.returncode == 0, done.stderr
    assert "do not train on it" in done.stderr
    manifest = json.loads((tmp_path / f"datasets/{task}/{split}.manifest.json").read_text())
    assert manifest["evaluation_only"] is True
    result = evaluate(task, "--json")
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    assert figures["task"] == task
    assert figures["data"]["n_questions"] == len(rows_of(task))
    assert figures["test_use"]["n_evaluations"] == 1
    assert (tmp_path / "base-eval" / f"{task}-{split}" / "questions.html").is_file()


@pytest.mark.parametrize("task", ["arc_easy", "arc_challenge", "hellaswag", "piqa", "winogrande"])
def test_the_published_columns_are_read_as_they_are(evaluate, task):
    result = evaluate(task, "--data", PUBLISHED / f"{task}.jsonl", "--json")
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    primary = "acc" if task == "winogrande" else "acc_norm"
    assert figures["primary"] == {"form": "cloze", "metric": primary}
    chance = {"winogrande": 0.5, "piqa": 0.5}.get(task)
    if chance is not None:
        assert figures["forms"]["cloze"]["chance"] == chance


def test_a_set_of_ones_own_is_described_by_a_file(evaluate, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = [
        {"stem": f"{n} and {n} is", "right": n, "a": "one", "b": "two", "because": "sums"}
        for n in (1, 2)
    ]
    for split in ("train", "test"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}-rows.jsonl").write_text(text)
    description = {
        "name": "sums",
        "title": "Sums",
        "data": {"train": "train-rows.jsonl", "test": "test-rows.jsonl"},
        "columns": {
            "question": "{stem}",
            "choices": ["a", "b"],
            "answer": "right",
            "labels": ["1", "2"],
            "fact": "because",
        },
        "prompt": "Q: {question}\nA:",
        "prompt_with_fact": "{fact}: {question}\nA:",
        "primary": "acc",
    }
    (folder / "sums.json").write_text(json.dumps(description))
    result = evaluate("mine/sums.json", "--with-fact", "--json")
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    assert figures["task"] == "sums_with_fact"
    assert figures["primary"]["metric"] == "acc"
    lines = (tmp_path / "base-eval/sums_with_fact-test-rows/predictions.jsonl").read_text()
    first = json.loads(lines.splitlines()[0])
    assert (first["question"], first["choices"], first["answer"]) == (
        "1 and 1 is",
        ["one", "two"],
        0,
    )
    again = evaluate("--config", config(tmp_path, task="mine/sums.json"), "--json")
    assert json.loads(again.out)["task"] == "sums"


def config(folder, **values):
    path = folder / "run.json"
    path.write_text(json.dumps(values))
    return path


MISTAKES = [
    ((), 2, "task"),
    (("helaswag",), 2, "Did you mean hellaswag?"),
    (("arc-easy",), 3, "tinyllm download arc_easy"),
    (("nothing.json",), 2, "nothing.json"),
    (("broken.json",), 2, "broken.json"),
    (("folder.json",), 2, "folder.json"),
    (("winogrande", "--data", PUBLISHED / "piqa.jsonl"), 3, "not a question with choices"),
    (("piqa", "--data", PUBLISHED / "piqa.jsonl", "--with-fact"), 3, "no fact"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), MISTAKES)
def test_a_mistake_is_one_sentence_and_the_right_exit_code(
    evaluate, tmp_path, arguments, code, message
):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "folder.json").mkdir()
    result = evaluate(*arguments)
    assert (result.code, result.out) == (code, ""), result.err
    assert message in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"promt": "{question}"}, 2, "prompt"),
        ({"prompt": "no question"}, 2, "{question}"),
        ({"primary": "accuracy"}, 2, "acc_norm"),
        ({"columns": {"question": "{goal", "choices": "c", "answer": "label"}}, 2, "{goal"),
        ({"columns": {"question": "{aim}", "choices": "c", "answer": "label"}}, 3, "question 1"),
        ({}, 3, "question 1"),
    ],
)
def test_a_mistake_in_a_description_is_named(evaluate, tmp_path, changes, code, message):
    description = {"name": "mine", "title": "Mine", **changes}
    (tmp_path / "mine.json").write_text(json.dumps(description))
    result = evaluate("mine.json", "--data", PUBLISHED / "piqa.jsonl")
    assert (result.code, result.out) == (code, ""), result.err
    assert message in result.err
    assert "Traceback" not in result.err
