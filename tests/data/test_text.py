import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import text
from tinyllm.data.text import split_documents
from tinyllm.data.writers import text_bytes
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import RecordingReporter

lines = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8) | st.sampled_from(
    [" ", f"a {END_OF_TEXT}", f"{END_OF_TEXT}b"]
)
documents = (
    st.lists(lines, min_size=1, max_size=4)
    .map("\n".join)
    .filter(lambda d: bool(d.strip()) and d == d.strip("\n"))
    .filter(lambda d: END_OF_TEXT not in [line.rstrip(" \t") for line in d.split("\n")])
)


@given(st.lists(documents, max_size=5), st.integers(1, 9))
def test_what_was_written_is_read_back_from_blocks_of_any_size(
    written: list[str], block: int
) -> None:
    whole = b"".join(map(text_bytes, written)).decode()
    blocks = [whole[i : i + block] for i in range(0, len(whole), block)]
    assert list(split_documents(blocks)) == written


def test_blank_documents_are_left_out_and_the_last_separator_may_lack() -> None:
    whole = f"one\n{END_OF_TEXT}\n\n \n{END_OF_TEXT}\ntwo\n\nstill two"
    assert list(split_documents([whole])) == ["one", "two\n\nstill two"]


def test_spaces_after_a_separator_are_forgiven() -> None:
    assert list(split_documents([f"one\n{END_OF_TEXT}  \ntwo\n{END_OF_TEXT}\t"])) == ["one", "two"]


def test_a_separator_inside_a_line_is_text_and_is_warned_about() -> None:
    reporter = RecordingReporter()
    whole = f"one{END_OF_TEXT}\ntwo\n{END_OF_TEXT}\nthree\n"
    assert list(split_documents([whole], reporter)) == [f"one{END_OF_TEXT}\ntwo", "three"]
    assert "1 time;" in reporter.warnings[0]


def test_text_without_separators_is_cut_at_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_DOCUMENT_CHARACTERS", 20)
    whole = "".join(f"line number {i}\n" for i in range(10))
    reporter = RecordingReporter()
    pieces = list(split_documents([whole[i : i + 8] for i in range(0, len(whole), 8)], reporter))
    assert "\n".join(pieces) + "\n" == whole
    assert max(map(len, pieces)) < 60
    assert "cut" in reporter.notes[0]


def test_writing_a_text_that_holds_a_separator_line_keeps_it_one_document() -> None:
    written = text_bytes(f"one\n{END_OF_TEXT}\ntwo").decode()
    assert list(split_documents([written])) == ["one\ntwo"]
