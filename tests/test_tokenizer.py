"""Text to ids and back, for both kinds of tokenizer."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.byte_level import split_text, split_words
from tinyllm.errors import ConfigError, DataError
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import RecordingReporter, SilentReporter
from tinyllm.tokenizer import (
    TextStream,
    Tokenizer,
    train_bpe,
    train_characters,
)

STORY = (
    "Once upon a time there was a little girl named Lily. She liked to play outside in the park.\n"
    "One day, she saw a big, red ball. She wanted to play with it!\n\n"
    "\tThe ball was naïve — 日本 🌍. It said: \"I don't know you'll  see\".\r\n"
) * 5
NASTY = "👩‍👩‍👧 e\u0301 \u202eabc \ufeff\u00a0\u2028 \ufffd \x00\x1c\x85 日本語のテキスト ß ﬁ 🇩🇪"

BPE = train_bpe([STORY], 360, SilentReporter())
CHAR = train_characters([STORY], SilentReporter())

texts = st.text() | st.text(alphabet=" \n\t\r'sabé日🌍!1<|>\u00a0\x1c\x85\u2028", max_size=60)


@given(texts)
def test_bpe_decodes_to_what_it_encoded(text: str) -> None:
    assert BPE.decode(BPE.encode(text)) == text


@given(texts)
def test_bpe_token_bytes_add_up_to_the_utf8_length(text: str) -> None:
    ids = BPE.encode(text)
    assert sum(len(BPE.token_bytes(i)) for i in ids) == len(text.encode())
    assert b"".join(map(BPE.token_bytes, ids)) == text.encode()
    assert sum(BPE.byte_lengths[i] for i in ids) == len(text.encode())


@given(st.text(alphabet=sorted(set(STORY))))
def test_characters_decode_to_what_they_encoded(text: str) -> None:
    ids = CHAR.encode(text)
    assert len(ids) == len(text)
    assert CHAR.decode(ids) == text


@given(texts)
def test_an_unseen_character_is_one_unknown_id(text: str) -> None:
    ids = CHAR.encode(text)
    expected = "".join(c for c in text if c in set(STORY))
    assert len(ids) == len(text)
    assert CHAR.decode(ids) == expected
    assert ids.count(CHAR.unknown_id) == len(text) - len(expected)


@given(texts)
def test_characters_encode_as_the_tokenizers_library_does(text: str) -> None:
    library = tokenizers.Tokenizer.from_str(CHAR.to_json())
    library.encode_special_tokens = True
    assert library.encode(text, add_special_tokens=False).ids == CHAR.encode(text)


@pytest.mark.parametrize("tokenizer", [BPE, CHAR])
def test_the_end_token_is_never_made_from_text(tokenizer: Tokenizer) -> None:
    text = f"a {END_OF_TEXT} b<unk>"
    ids = tokenizer.encode(text)
    assert tokenizer.end_of_text_id == 0
    assert 0 not in ids
    assert Tokenizer.from_json(tokenizer.to_json()).encode(text) == ids


def test_special_tokens_are_silent_unless_asked_for() -> None:
    ids = [*BPE.encode("a"), BPE.end_of_text_id]
    assert BPE.decode(ids) == "a"
    assert BPE.decode(ids, skip_special=False) == "a" + END_OF_TEXT
    assert BPE.token_bytes(BPE.end_of_text_id) == b""


def test_bpe_holds_every_byte_and_the_size_asked_for() -> None:
    assert BPE.vocab_size == 360
    assert {BPE.token_bytes(i) for i in range(1, 257)} == {bytes([b]) for b in range(256)}
    assert BPE.decode(BPE.encode(NASTY)) == NASTY


@pytest.mark.parametrize("tokenizer", [BPE, CHAR])
def test_a_saved_tokenizer_is_the_same_one(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json(), encoding="utf-8")
    loaded = Tokenizer.from_file(path)
    assert loaded.kind == tokenizer.kind
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(STORY) == tokenizer.encode(STORY)


def test_fingerprint_ignores_the_layout_of_the_file() -> None:
    pretty = json.dumps(json.loads(BPE.to_json()), indent=4)
    assert Tokenizer.from_json(pretty).fingerprint == BPE.fingerprint
    assert BPE.fingerprint != CHAR.fingerprint


def test_training_twice_gives_the_same_tokenizer() -> None:
    again = train_bpe([STORY], 360, SilentReporter())
    assert again.fingerprint == BPE.fingerprint


@given(st.lists(st.sampled_from(["naïve ", "🌍", "日本", "é", " a"])))
def test_a_stream_gives_the_text_without_replacement_characters(parts: list[str]) -> None:
    text = "".join(parts)
    stream = TextStream(BPE)
    pieces = [stream.push(i) for i in BPE.encode(text)]
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) + stream.flush() == text


def test_a_stream_holds_back_half_a_character_and_drops_it_at_the_end() -> None:
    stream = TextStream(BPE)
    first, *rest = (i for i in range(1, 257) if BPE.token_bytes(i) in (b"\xf0", b"\x9f"))
    assert [stream.push(i) for i in (first, *rest)] == ["", ""]
    assert stream.flush() == ""
    assert stream.push(BPE.encode("a")[0]) == "a"


@given(st.text(alphabet="ab \n\t\r'é日!1\u00a0\x1c\x85\u2028", max_size=200), st.integers(1, 60))
def test_cutting_a_text_changes_no_token_where_words_are_short(text: str, size: int) -> None:
    pieces = list(split_text(text, size))
    assert "".join(pieces) == text
    assert all(len(piece) <= size for piece in pieces)
    longest_run = max((len(run) for run in re.findall(r"\s+|\S+", text)), default=0)
    if 2 * longest_run < size:
        assert [i for piece in pieces for i in BPE.encode(piece)] == BPE.encode(text)


@given(st.text(alphabet="ab \n\t\r'é日!1\u00a0\x0b\x1c\x85\u2028", max_size=200) | texts)
def test_words_encode_to_the_ids_of_the_whole(text: str) -> None:
    words = split_words(text)
    assert "".join(words) == text
    assert [i for word in words for i in BPE.encode(word)] == BPE.encode(text)


def test_texts_of_known_and_new_words_encode_as_the_library_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tinyllm.tokenizer.words._KEPT_CHARS", 100)
    library = tokenizers.Tokenizer.from_str(BPE.to_json())
    own = Tokenizer.from_json(BPE.to_json())
    common, rare = STORY * 20, "".join(f" w{i}!{i}" for i in range(4000))
    for texts in ([common, "", NASTY * 3], [rare], [common, rare[:300]], [NASTY, common]):
        expected = library.encode_batch(texts, add_special_tokens=False)
        assert own.encode_batch(texts) == [encoding.ids for encoding in expected]


def test_a_long_text_encodes_as_in_one_piece() -> None:
    text = STORY * 300
    library = tokenizers.Tokenizer.from_str(BPE.to_json())
    assert BPE.encode(text) == library.encode(text, add_special_tokens=False).ids
    assert BPE.decode(BPE.encode("日" * 200_000)) == "日" * 200_000


@pytest.mark.parametrize("tokenizer", [BPE, CHAR])
def test_lone_surrogates_do_not_break_encoding(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")).startswith("a")
    assert BPE.decode(BPE.encode("\ud83c\udf0d \ud83c")) == "🌍 \ufffd"


def test_a_vocabulary_larger_than_the_text_allows_names_what_was_reached() -> None:
    with pytest.raises(ConfigError, match=r"10,000 is larger than this text allows \(\d+\)"):
        train_bpe([STORY], 10_000, SilentReporter())
    fewer = train_bpe([STORY], 10_000, SilentReporter(), may_be_fewer=True)
    assert 257 < fewer.vocab_size < 10_000


def test_a_character_vocabulary_keeps_the_most_frequent_ones() -> None:
    reporter = RecordingReporter()
    small = train_characters(["aaabbc"], reporter, vocab_size=4)
    assert small.encode("abc") == [2, 3, 1]
    assert reporter.notes == ["1 rare characters become <unk>"]
    with pytest.raises(ConfigError, match="larger than this text allows"):
        train_characters(["abc"], reporter, vocab_size=100)


def test_training_needs_text_and_a_sensible_size() -> None:
    with pytest.raises(DataError, match="no text"):
        train_bpe([], 300, SilentReporter())
    with pytest.raises(DataError, match="no text"):
        train_characters([""], SilentReporter())
    with pytest.raises(ConfigError, match="256 is too small"):
        train_bpe([STORY], 256, SilentReporter())


def test_bpe_training_takes_no_more_text_than_the_sample() -> None:
    reporter = RecordingReporter()
    taken = []

    def stories() -> Iterator[str]:
        for i in range(100):
            taken.append(i)
            yield STORY

    train_bpe(stories(), 300, reporter, sample_bytes=10_000)
    assert len(taken) < 20
    assert "first" in reporter.notes[0]


def test_files_that_are_no_tokenizers_are_refused(tmp_path: Path) -> None:
    for text in ("", "{}", "[]", '{"model": {"type": "Unigram"}}', '{"model": {"type": "BPE"}'):
        with pytest.raises(DataError):
            Tokenizer.from_json(text)
    broken = tmp_path / "tokenizer.json"
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        Tokenizer.from_file(broken)
    with pytest.raises(DataError, match="no tokenizer file"):
        Tokenizer.from_file(tmp_path / "absent.json")


def test_a_vocabulary_of_words_is_no_character_tokenizer() -> None:
    layout = json.loads(CHAR.to_json())
    layout["model"]["vocab"]["whole"] = CHAR.vocab_size
    with pytest.raises(DataError, match="'whole' is one of its tokens"):
        Tokenizer.from_json(json.dumps(layout))


def test_a_tokenizer_without_an_end_token_is_refused() -> None:
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    inner.add_tokens(["a"])
    with pytest.raises(DataError, match=r"no <\|endoftext\|> token"):
        Tokenizer.from_json(inner.to_str())


@pytest.mark.real_data
def test_real_text_survives_both_tokenizers(real_data: Path) -> None:
    text = (real_data / "wikitext" / "wiki.valid.raw").read_text(encoding="utf-8")[:300_000]
    bpe = train_bpe([text], 2000, SilentReporter())
    ids = bpe.encode(text)
    assert bpe.decode(ids) == text
    assert len(ids) < len(text.encode()) / 2.5
    characters = train_characters([text], SilentReporter())
    assert characters.decode(characters.encode(text)) == text
