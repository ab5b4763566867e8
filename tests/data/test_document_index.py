from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import document_index, encoding
from tinyllm.data.document_index import index_lines, index_text, shuffled
from tinyllm.data.sources import read_documents
from tinyllm.data.writers import text_bytes
from tinyllm.errors import DataError
from tinyllm.files import sha256_file
from tinyllm.records import END_OF_TEXT

pieces = st.sampled_from(
    ["a", "é戦", "\n", "\n\n", " ", END_OF_TEXT, f"\n{END_OF_TEXT}\n", f"\n{END_OF_TEXT} \t\n"]
)
GOLDEN = [0, 3, 4, 7, 2, 1, 6, 9, 8, 5]


def texts_of(path: Path) -> list[str]:
    index = index_text(path)
    assert index is not None
    data = path.read_bytes()
    assert index.sha256 == sha256_file(path)
    found = [
        data[s : s + n].decode().strip("\n")
        for s, n in zip(index.starts, index.lengths, strict=True)
    ]
    return [text for text in found if text.strip()]


@given(st.lists(pieces, max_size=25), st.integers(1, 40))
def test_the_index_finds_what_the_stream_finds(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], block: int
) -> None:
    path = tmp_path_factory.mktemp("t") / "a.txt"
    path.write_bytes("".join(parts).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_BLOCK", block)
        try:
            expected = [document.text for document in read_documents(str(path))]
        except DataError:
            expected = []
        assert texts_of(path) == expected


@pytest.mark.parametrize("data", [b"a\r\nb", b"caf\xe9", b"\xef\xbb\xbfa", "halb戦".encode()[:-1]])
def test_what_is_not_plain_utf_8_is_left_to_the_reader(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert index_text(path) is None


def test_a_long_document_is_cut_at_line_ends_or_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_index, "MAX_DOCUMENT_CHARACTERS", 20)
    path = tmp_path / "a.txt"
    whole = "a line of text\n" * 4 + "戦" * 30
    path.write_bytes(text_bytes(whole) + text_bytes("short"))
    texts = texts_of(path)
    assert "".join(texts[:-1]) == whole.replace("\n", "")
    assert texts[-1] == "short"
    assert max(len(text.encode()) for text in texts) <= 20


def test_lines_are_found_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_BLOCK", 3)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{}\n{"b": 2}\n')
    index = index_lines(path)
    assert index.lengths.tolist() == [9, 3, 9]
    assert index.starts.tolist() == [0, 9, 12]


@given(st.integers(0, 300), st.integers(0, 10))
def test_a_shuffle_is_a_permutation_that_depends_on_everything(n: int, seed: int) -> None:
    order = shuffled(n, seed, "mix", 0)
    assert sorted(order.tolist()) == list(range(n))
    assert np.array_equal(order, shuffled(n, seed, "mix", 0))
    if n > 20:
        assert not np.array_equal(order, shuffled(n, seed + 1, "mix", 0))
        assert not np.array_equal(order, shuffled(n, seed, "mix", 1))
        assert not np.array_equal(order, np.arange(n))


def test_the_order_never_changes_between_versions() -> None:
    assert shuffled(10, 0, "mix", 0, 0).tolist() == GOLDEN
