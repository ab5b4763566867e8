"""Words stay whole, lines stay within their cells, however a text comes in pieces."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tinyllm.cli.reply_view import write_replies
from tinyllm.cli.text_layout import (
    Lines,
    WordWrap,
    broken,
    fitted_table,
    printable,
    two_columns,
)

TEXTS = st.text(st.sampled_from("abc  \n,日🦊é"), max_size=200)


def wrapped(pieces, width):
    wrap = WordWrap(width)
    return "".join(wrap.push(piece) for piece in pieces) + wrap.flush()


@given(TEXTS, st.integers(2, 30), st.lists(st.integers(0, 200), max_size=6))
def test_a_wrapped_text_keeps_its_words_and_its_width_in_whatever_pieces(text, width, cuts):
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    whole = wrapped([text], width)
    assert wrapped(pieces, width) == whole
    assert "".join(whole.split()) == "".join(text.split())
    assert all(cell_len(line) <= width for line in whole.split("\n"))
    lines = Lines(width)
    assert [*itertools.chain(*map(lines.push, pieces)), *lines.flush()] == whole.split("\n")


def test_lines_end_between_words():
    assert wrapped(["the lit", "tle fox ran away"], 10) == "the little\nfox ran\naway"
    assert wrapped(["a word_that_is_long"], 8) == "a\nword_tha\nt_is_lon\ng"
    assert wrapped(["one\n\n  two"], 20) == "one\n\n  two"


def test_a_joined_emoji_is_not_parted():
    family = "👩\u200d👩\u200d👧"
    assert family in wrapped([f"a {family} b"], 5)


def test_without_a_width_a_text_is_passed_on_at_once():
    assert WordWrap(None).push("half a wo") == "half a wo"


@given(st.text(max_size=50))
def test_no_control_character_is_printable(text):
    shown = printable(text)
    assert len(shown) == len(text)
    assert not [c for c in shown if c not in "\n\t" and (ord(c) < 32 or 127 <= ord(c) < 160)]


@pytest.mark.parametrize("width", [30, 45, 60, 100])
def test_two_columns_fit(width):
    rows = [("/keep [all] [FILE]", "Append the last exchange to a file."), ("/x", "Short.")]
    laid = two_columns(rows, width)
    assert max(map(len, laid.splitlines())) <= width
    assert laid.split() == [word for row in rows for part in row for word in part.split()]


SCORES = [("acc", "13.3", "± 6.3", "5.3–29.7"), ("acc_norm *", "8.1", "± 0.1", "7.9–8.3")]
SCORE_NAMES = ("score", "%", "std. error", "95 % interval")


def test_a_table_breaks_its_header_before_its_rows():
    assert fitted_table(SCORES, SCORE_NAMES, None).splitlines()[0].endswith("95 % interval")
    assert fitted_table(SCORES, SCORE_NAMES, 40) == (
        "                   std.      95 %\n"
        "score          %  error  interval\n"
        "acc         13.3  ± 6.3  5.3–29.7\n"
        "acc_norm *   8.1  ± 0.1   7.9–8.3"
    )


def test_a_name_too_long_for_its_row_stands_above_it():
    rows = [("a/long/path/to/a/text.txt", "1", "2"), ("b.txt", "10", "日本")]
    assert fitted_table(rows, ("found in", "stem", "fact"), 26) == (
        "found in\n  stem  fact\na/long/path/to/a/text.txt\n     1     2\nb.txt\n    10  日本"
    )
    assert fitted_table(rows, ("found in", "stem", "fact"), 9).splitlines()[-3:] == [
        "b.txt",
        "  stem  10",
        "  fact  日本",
    ]


CELLS = st.text(st.sampled_from("xy日"), min_size=1, max_size=9)


@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=4),
    st.sampled_from([None, ("name of it", "the first", "b")]),
    st.integers(1, 40),
)
def test_a_table_keeps_every_cell_at_any_width(rows, header, width):
    laid = fitted_table(rows, header, width)
    named = {word for name in header or () for word in name.split()}
    assert [w for w in laid.split() if w not in named] == [cell for row in rows for cell in row]
    wide = fitted_table(rows, header, None)
    assert max(map(cell_len, laid.splitlines())) <= max(width, *map(cell_len, wide.splitlines()))


def test_a_long_line_is_broken_between_words_and_a_path_is_not():
    line = "  piqa  3.0 MB  the test split is not taken"
    assert broken(line, 30) == "  piqa  3.0 MB  the test split\n    is not taken"
    assert broken(line, None) == line
    path = "/home/someone/a-path-without-a-break/model.safetensors"
    assert path in two_columns([("model", path)], 40).split()


@given(TEXTS, TEXTS)
def test_two_replies_side_by_side_are_both_whole(left, right):
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        write_replies({"one": iter(left), "two": iter(right)}, 91, lambda: False)
    rows = [line.partition("│") for line in out.getvalue().splitlines()[1:]]
    assert "".join("".join(row[0] for row in rows).split()) == "".join(left.split())
    assert "".join("".join(row[2] for row in rows).split()) == "".join(right.split())
    assert all(cell_len(line) <= 91 for line in out.getvalue().splitlines())
