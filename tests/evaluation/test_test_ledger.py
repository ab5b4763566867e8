"""How often a test was taken is counted by lineage, whatever happens to the file."""

from pathlib import Path

import pytest

from tests.tiny import write_tiny_checkpoint
from tinyllm.checkpoint import read_checkpoint_info
from tinyllm.data.manifest import Manifest, write_manifest
from tinyllm.data.multiple_choice_task import known_tasks
from tinyllm.errors import DataError
from tinyllm.evaluation.multiple_choice.ledger import count_use, ledger_path, lineage_of
from tinyllm.evaluation.multiple_choice.sources import Questions, is_reported_split

PRETRAINING = {"config": {"max_steps": 9, "seed": 1}, "data": [{"source": "a.txt"}]}


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text("{}\n")
    return path


@pytest.fixture
def checkpoint(tmp_path):
    def make(name, training, seed=0):
        path = write_tiny_checkpoint(tmp_path / f"{name}.safetensors", training=training, seed=seed)
        return read_checkpoint_info(path)

    return make


def test_checkpoints_of_one_pretraining_are_one_lineage(checkpoint):
    early = checkpoint("early", {**PRETRAINING, "step": 10})
    late = checkpoint("late", {**PRETRAINING, "step": 90}, seed=1)
    tuned = checkpoint("tuned", {"config": {"lr": 1}, "started_from": {**PRETRAINING, "step": 90}})
    other = checkpoint("other", {**PRETRAINING, "config": {"seed": 2}})
    bare, bare_too = checkpoint("bare", {}), checkpoint("bare_too", {}, seed=1)
    assert lineage_of(early) == lineage_of(late) == lineage_of(tuned)
    assert len({lineage_of(info) for info in (early, other, bare, bare_too)}) == 4


def test_one_checkpoint_may_be_asked_twice_and_two_are_a_choice(questions, checkpoint):
    early = checkpoint("early", {**PRETRAINING, "step": 10})
    late = checkpoint("late", {**PRETRAINING, "step": 90}, seed=1)
    other = checkpoint("other", {}, seed=2)
    uses = [count_use(questions, info, "t", 5) for info in (early, early, other, late)]
    assert [use.n_evaluations for use in uses] == [1, 2, 1, 3]
    assert [use.n_checkpoints for use in uses] == [1, 1, 1, 2]
    assert [use.n_lineages for use in uses] == [1, 1, 2, 2]
    assert [use.is_selection for use in uses] == [False, False, False, True]
    assert "chooses on the test" in uses[3].sentence
    assert "choose" not in uses[1].sentence


def test_the_best_and_the_last_checkpoint_of_one_step_are_one(questions, checkpoint):
    best = checkpoint("best", {**PRETRAINING, "step": 90, "elapsed_seconds": 7.0})
    last = checkpoint("last", {**PRETRAINING, "step": 90, "elapsed_seconds": 9.5})
    later = checkpoint("later", {**PRETRAINING, "step": 91, "elapsed_seconds": 9.5})
    uses = [count_use(questions, info, "t", 5) for info in (best, last, later)]
    assert [use.n_checkpoints for use in uses] == [1, 1, 2]


def test_a_line_torn_by_a_crash_costs_that_line_only(questions, checkpoint):
    info = checkpoint("one", {})
    count_use(questions, info, "t", 5)
    path = ledger_path(questions)
    path.write_bytes(path.read_bytes() + b'{"id":"torn","lineage":"4')
    assert count_use(questions, info, "t", 5).n_evaluations == 2


@pytest.mark.parametrize("line", [b'{"id":"x"}\n', b"hello\nyou\n"])
def test_a_file_that_is_no_ledger_is_named(questions, checkpoint, line):
    ledger_path(questions).write_bytes(line)
    with pytest.raises(DataError, match=ledger_path(Path(questions.name)).name):
        count_use(questions, checkpoint("one", {}), "t", 5)


@pytest.mark.parametrize(
    ("task", "name", "is_reported"),
    [
        ("openbookqa", "test.jsonl", True),
        ("openbookqa", "openbookqa-test-2018.tsv", True),
        ("openbookqa", "test_complete.jsonl", True),
        ("openbookqa", "contest.jsonl", False),
        ("openbookqa", "dev.jsonl", False),
        ("hellaswag", "hellaswag_val.jsonl", True),
        ("hellaswag", "dev.jsonl", True),
        ("hellaswag", "test.jsonl", False),
    ],
)
def test_the_split_whose_scores_are_published_is_known_by_its_name(
    tmp_path, task, name, is_reported
):
    questions = Questions(str(tmp_path / name), None)
    assert is_reported_split(known_tasks()[task], questions) == is_reported


def test_a_manifest_and_the_place_it_was_found_at_know_better_than_the_name(tmp_path):
    task = known_tasks()["hellaswag"]
    path = tmp_path / "test.jsonl"
    path.write_text("{}\n")
    assert is_reported_split(task, Questions(str(path), "validation"))
    manifest = Manifest(path.name, "multiple-choice", 1, 3, "", settings={"split": "train"})
    write_manifest(path, manifest)
    assert not is_reported_split(task, Questions(str(path), "validation"))
