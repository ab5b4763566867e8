"""Every report says which model it is of, and its tables hold whatever is put into them."""

import json

import tinyllm
from tests.tiny import write_tiny_checkpoint
from tinyllm.checkpoint import load_checkpoint
from tinyllm.evaluation.report import markdown_table, report_head
from tinyllm.files import sha256_file


def test_a_report_names_the_very_file_it_is_of(tmp_path):
    path = write_tiny_checkpoint(tmp_path / "base.safetensors")
    loaded = load_checkpoint(path)
    head = json.loads(json.dumps(report_head(loaded, "loss")))
    assert head["task"] == "loss"
    assert head["sha256"] == sha256_file(path)
    assert head["tinyllm_version"] == tinyllm.__version__
    n_weights = sum(p.numel() for p in loaded.model.parameters())
    assert head["parameters"]["total"] == n_weights
    n_parts = head["parameters"]["embedding"] + head["parameters"]["non_embedding"]
    assert n_parts == n_weights


def test_figures_stand_to_the_right_and_words_to_the_left():
    lines = markdown_table(("model", "loss", "age"), [("a", "1.20", "A: 3"), ("b", "?", "B")])
    assert lines == [
        "| model | loss | age |",
        "| --- | ---: | --- |",
        "| a | 1.20 | A: 3 |",
        "| b | ? | B |",
    ]


def test_no_cell_breaks_a_table():
    assert markdown_table(("a", "b"), [("x|y", "two\nlines")])[2] == r"| x\|y | two lines |"
    assert markdown_table(("a",), []) == ["| a |", "| --- |"]
