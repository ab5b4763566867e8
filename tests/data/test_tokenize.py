"""The tokenize workflow below the command line: which text trains the tokenizer, what is cached."""

import json
from pathlib import Path

import pytest

from tinyllm.chat_template import MarkerTemplate
from tinyllm.config.tokenize import TokenizeConfig, TokenizerSpec
from tinyllm.data.corpus import resolve_format
from tinyllm.data.tokenize import count_ids, default_output, prepare_tokenizer, run
from tinyllm.errors import ConfigError, DataError
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import RecordingReporter, SilentReporter


def write_text(path: Path, texts: list[str]) -> str:
    path.write_text(f"\n{END_OF_TEXT}\n".join(texts), encoding="utf-8")
    return str(path)


def write_chats(path: Path) -> str:
    rows = [{"instruction": f"add {i}", "output": f"it is {i + 1}"} for i in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


CHARACTERS = TokenizerSpec(kind="char")


def test_a_trained_tokenizer_is_found_again_until_text_or_wish_changes(tmp_path: Path) -> None:
    source = write_text(tmp_path / "a.txt", ["some words"])
    reporter = RecordingReporter()

    def prepare(spec: TokenizerSpec = CHARACTERS) -> str:
        made = prepare_tokenizer(spec, [source], format="text", reporter=reporter)
        return made.fingerprint

    first = prepare()
    assert prepare() == first
    assert len(reporter.stages) == 1
    prepare(TokenizerSpec(kind="bpe"))
    write_text(tmp_path / "a.txt", ["other words"])
    assert prepare() != first
    assert len(reporter.stages) == 3


def test_a_tokenizer_for_conversations_learns_the_template_too(tmp_path: Path) -> None:
    source = write_chats(tmp_path / "chats.jsonl")
    plain = prepare_tokenizer(
        CHARACTERS, [source], format="conversations", reporter=SilentReporter()
    )
    assert plain.unknown_id not in plain.encode("### Instruction:\n")
    other = prepare_tokenizer(
        CHARACTERS,
        [source],
        format="conversations",
        reporter=SilentReporter(),
        template=MarkerTemplate(user="Q: {content}\n", assistant_header="Z: "),
    )
    assert other.unknown_id in other.encode("###")
    assert other.unknown_id not in other.encode("QZ")


def test_a_large_text_is_sampled_throughout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [("early words " if i < 50 else "late wonders ") * 5 for i in range(100)]
    source = write_text(tmp_path / "large.txt", texts)
    monkeypatch.setattr("tinyllm.data.tokenize.SAMPLE_BYTES", 2000)
    reporter = RecordingReporter()
    tokenizer = prepare_tokenizer(
        TokenizerSpec(kind="bpe"), [source], format="text", reporter=reporter
    )
    assert len(tokenizer.encode(" wonders")) == len(tokenizer.encode(" early")) == 1
    assert reporter.notes[0] == "the tokenizer is trained on one document in 4"
    assert reporter.progresses[0][1].done == 25


def test_a_bpe_vocabulary_that_was_not_asked_for_shrinks_to_the_text(tmp_path: Path) -> None:
    source = write_text(tmp_path / "small.txt", ["ten small words are all that there is to read"])
    reporter = RecordingReporter()
    tokenizer = prepare_tokenizer(TokenizerSpec(), [source], format="text", reporter=reporter)
    assert 257 <= tokenizer.vocab_size < 300
    assert "no more than" in reporter.notes[0]


def test_the_result_counts_what_is_in_the_shards(tmp_path: Path) -> None:
    source = write_text(tmp_path / "a.txt", ["aab", "abc"])
    config = TokenizeConfig(data=(source,), tokenizer=CHARACTERS)
    result = run(config, SilentReporter())
    assert (result.n_documents, result.n_tokens, result.vocab_size) == (2, 8, 5)
    assert result.bytes_per_token == 6 / 8
    assert result.n_unused_ids == 0
    assert result.tokenizer_path == tmp_path / "a.tokenizer.json"
    assert 0 < result.embedding_shares[0].share < 1


def test_occurrences_are_counted_over_all_blocks(tmp_path: Path) -> None:
    from tinyllm.data.shards import open_shards

    source = write_text(tmp_path / "a.txt", ["ab" * 1_200_000])
    result = run(TokenizeConfig(data=(source,), tokenizer=CHARACTERS), SilentReporter())
    counts = count_ids(open_shards(result.shards), result.vocab_size)
    assert counts.tolist() == [1, 0, 1_200_000, 1_200_000]


def test_sources_of_different_formats_are_refused(tmp_path: Path) -> None:
    sources = [write_text(tmp_path / "a.txt", ["a b"]), write_chats(tmp_path / "c.jsonl")]
    assert resolve_format(sources[:1], "auto") == "text"
    assert resolve_format(sources[1:], "auto") == "conversations"
    assert resolve_format(sources, "text") == "text"
    with pytest.raises(DataError, match=r"sources differ: .*a\.txt holds text"):
        resolve_format(sources, "auto")


def test_the_tokenizer_goes_beside_the_text(tmp_path: Path) -> None:
    source = write_text(tmp_path / "my.stories.v2.txt", ["a"])
    assert default_output(source) == tmp_path / "my.stories.v2.tokenizer.json"
    assert default_output("hf:roneneldan/TinyStories") == Path("TinyStories.tokenizer.json")


@pytest.mark.parametrize("name", ["a.txt", "link.txt"])
def test_a_text_is_never_overwritten_by_its_tokenizer(tmp_path: Path, name: str) -> None:
    source = write_text(tmp_path / "a.txt", ["some words"])
    (tmp_path / "link.txt").symlink_to(source)
    config = TokenizeConfig(data=(source,), output=tmp_path / name)
    with pytest.raises(ConfigError, match="is both text and output"):
        run(config, SilentReporter())
    assert Path(source).read_text() == "some words"


def test_a_folder_as_output_is_refused_before_any_work(tmp_path: Path) -> None:
    source = write_text(tmp_path / "a.txt", ["some words"])
    reporter = RecordingReporter()
    with pytest.raises(ConfigError, match="is a folder"):
        run(TokenizeConfig(data=(source,), output=tmp_path), reporter)
    assert not reporter.stages
