"""Words and runs of words as hashes."""

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import word_hashes
from tinyllm.data.word_hashes import (
    HashTable,
    blocks_of,
    hash_documents,
    run_hashes,
    split_words,
)

TEXT = st.text(st.sampled_from("abAB'’é\u0301ßΣ½1_-., \n“”…字"), max_size=40)


def test_case_accents_and_punctuation_do_not_matter() -> None:
    assert split_words("“It's THE cat’s, well-known\tnai\u0308ve_toy…”") == (
        ["its", "the", "cats", "well", "known", "naïve", "toy"]
    )


@given(TEXT)
def test_words_are_those_of_the_definition(text: str) -> None:
    whole = unicodedata.normalize("NFKC", text)
    whole = re.sub("[’ʼ‘']", "", whole)
    wanted = re.sub(r"[\W_]+", " ", "".join(c.lower() for c in whole)).split()
    assert split_words(text) == wanted


@given(st.lists(st.text("ab", min_size=1, max_size=30), max_size=12))
def test_equal_words_and_runs_have_equal_hashes_and_others_have_not(words: list[str]) -> None:
    hashes = hash_documents([" ".join(words)]).words
    assert len(hashes) == len(words)
    for n in (1, 2, 3):
        runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        assert len(set(runs)) == len(set(run_hashes(hashes, n).tolist()))
        assert len(runs) == len(run_hashes(hashes, n))


def test_no_run_reaches_from_one_document_into_the_next() -> None:
    block = hash_documents(["one two", "", "three four"])
    joined = run_hashes(hash_documents(["one two three four"]).words, 3)
    assert not np.isin(run_hashes(block.words, 3), joined).any()
    assert [block.document_at(i) for i in (0, 1, int(block.starts[2]))] == [0, 0, 2]


@given(st.sets(st.integers(0, 2**64 - 1), max_size=60), st.lists(st.integers(0, 2**64 - 1)))
def test_a_table_finds_exactly_its_keys(keys: set[int], others: list[int]) -> None:
    crowded = sorted(keys | {key ^ 1 for key in keys})  # neighbours fall into one slot
    table = HashTable(np.array(crowded, dtype=np.uint64))
    asked = crowded + others
    places, numbers = table.find(np.array(asked, dtype=np.uint64))
    assert [asked[i] for i in places] == [crowded[i] for i in numbers]
    assert {asked[i] for i in places} == set(asked) & set(crowded)


def test_long_documents_come_in_pieces_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_hashes, "PIECE_CHARACTERS", 100)
    monkeypatch.setattr(word_hashes, "OVERLAP_CHARACTERS", 30)
    text = " ".join(f"w{i}" for i in range(100))
    for document in (text, "x" * 350, "", "short"):
        pieces = [piece for block in blocks_of(["a", document]) for piece in block][1:]
        assert all(p.document == 1 for p in pieces)
        assert all(document[p.offset :].startswith(p.text) for p in pieces)
        ends = [p.offset + len(p.text) for p in pieces]
        assert ends[-1] == len(document)
        assert all(p.offset <= end for p, end in zip(pieces[1:], ends, strict=False))
    first, second = [p for block in blocks_of([text]) for p in block][:2]
    overlap = first.text[second.offset :]
    assert overlap
    assert second.text.startswith(overlap)
