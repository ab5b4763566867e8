"""Every report says which model it is of, and its tables hold whatever is put into them."""

import json

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import tinyllm
from tests.tiny import write_tiny_checkpoint
from tinyllm.checkpoint import load_checkpoint
from tinyllm.evaluation.report import (
    markdown_table,
    plain_markdown,
    plain_markdown_lines,
    report_head,
)
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


HOSTILE = (
    "# x | `y` <script>alert(1)</script> ![](http://a.b/c.png) **bold** $x$ &lt; ~~no~~\n\n1. a\n"
)


@given(st.text(st.sampled_from("ab 1.)#|`*_<>[]()!&;~$\\{}-+=\n\"'"), max_size=40))
@example(HOSTILE)
@example("1. one")
def test_what_a_model_wrote_is_shown_as_it_is(text):
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    as_it_is = " ".join(text.split())
    for before in ("", "> **Once** "):
        tokens = parser.parse(before + plain_markdown(text))
        shown = "".join(
            child.content for token in tokens for child in token.children or () if child.content
        )
        assert " ".join(shown.split()) == f"{before[4:8]} {as_it_is}".strip()
        kinds = {token.type.removesuffix("_open").removesuffix("_close") for token in tokens}
        assert kinds <= {"paragraph", "inline", "blockquote"}


@given(st.text(st.sampled_from("ab 1.)#|`*_<>[]()!&;~$\\{}-+=\t\n\n"), max_size=40))
@example("def f():\n    return [\n\t\t1,\n    ]\n\n    - two\n  # three")
@example("a\\\n\n\n    \n\\b")
def test_lines_stay_lines_as_far_in_as_they_stood(text):
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    quoted = "\n".join(f"> {line}" for line in plain_markdown_lines(f"Once\n{text}"))
    tokens = parser.parse(quoted)
    shown = [
        "".join("\n" if child.type == "hardbreak" else child.content for child in token.children)
        for token in tokens
        if token.type == "inline"
    ]
    wanted = [
        "\N{NO-BREAK SPACE}" * (len(line) - len(line.lstrip())) + " ".join(line.split())
        for line in f"Once\n{text}".expandtabs(4).splitlines()
        if line.strip()
    ]
    found = [line for paragraph in shown for line in paragraph.split("\n")]
    begins = {paragraph.split("\n")[0] for paragraph in shown}
    for one, other in zip(found, wanted, strict=True):  # the parser here strips a paragraph
        assert one == (other.strip() if one in begins else other)


def test_no_cell_breaks_a_table():
    assert markdown_table(("a", "b"), [("x|y", "two\nlines")])[2] == r"| x\|y | two lines |"
    assert markdown_table(("a",), []) == ["| a |", "| --- |"]
