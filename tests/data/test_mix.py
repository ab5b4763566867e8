import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm.config.base import load_config
from tinyllm.config.data import MixConfig
from tinyllm.data.manifest import Manifest, read_manifest, write_manifest
from tinyllm.data.mix import MixResult, run
from tinyllm.data.sources import read_conversations, read_documents
from tinyllm.data.writers import open_writer
from tinyllm.errors import ConfigError, DataError, UsageError
from tinyllm.files import sha256_file
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import RecordingReporter, SilentReporter
from tinyllm.tokenizer import train_characters


def write_source(path: Path, texts: list[str]) -> Path:
    with open_writer(path) as writer:
        for text in texts:
            writer.write_text(text)
    return path


def mix(output: Path, *sources: str, **settings: object) -> MixResult:
    flags = {"sources": list(sources), "output": output, **settings}
    return run(load_config(MixConfig, flags=flags), SilentReporter())


def texts(path: Path) -> list[str]:
    return [document.text for document in read_documents(str(path))]


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """Return two sources: 60 short documents that start with a, 40 longer ones with b."""
    a = write_source(tmp_path / "a.txt", [f"a{i} " + "x" * (i % 7) for i in range(60)])
    b = write_source(tmp_path / "b.txt", [f"b{i}\n\n" + "y" * (i % 31) for i in range(40)])
    return str(a), str(b)


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=20), min_size=2, max_size=4),
    weights=st.lists(st.sampled_from([0.1, 0.5, 1.0, 3.0]), min_size=4, max_size=4),
    seed=st.integers(0, 5),
)
def test_any_prefix_of_the_file_holds_the_shares_to_within_one_document(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[list[int]],
    weights: list[float],
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("mix")
    sources = []
    for name, of_source, weight in zip("abcd", lengths, weights, strict=False):
        write_source(folder / f"{name}.txt", [name * n for n in of_source])
        sources.append(f"{folder / name}.txt:{weight}")
    mix(folder / "out.txt", *sources, seed=seed)
    used = weights[: len(lengths)]
    n_separator = len(END_OF_TEXT) + 2
    longest = max(max(of_source) for of_source in lengths) + n_separator
    given_ = dict.fromkeys("abcd"[: len(lengths)], 0)
    documents = (folder / "out.txt").read_text().split(f"\n{END_OF_TEXT}\n")[:-1]
    for document in documents:
        given_[document[0]] += len(document) + n_separator
        total = sum(given_.values())
        for name, weight in zip(given_, used, strict=True):
            assert abs(given_[name] - total * weight / sum(used)) <= longest + 1e-6


def test_every_document_comes_once_and_whole(tmp_path: Path, two: tuple[str, str]) -> None:
    result = mix(tmp_path / "out.txt", f"{two[0]}:1", f"{two[1]}:1")
    found = texts(tmp_path / "out.txt")
    assert len(found) == len(set(found)) == result.manifest.documents
    assert set(found) <= {*texts(Path(two[0])), *texts(Path(two[1]))}


def test_same_seed_same_bytes_another_seed_another_order(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    sources = (f"{two[0]}:0.5", f"{two[1]}:0.5")
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        mix(tmp_path / f"{name}.txt", *sources, seed=seed)
    one, again, other = ((tmp_path / f"{n}.txt").read_bytes() for n in ("one", "two", "three"))
    assert one == again
    assert one != other


def test_it_ends_when_a_source_is_used_up(tmp_path: Path, two: tuple[str, str]) -> None:
    result = mix(tmp_path / "out.txt", f"{two[0]}:0.9", f"{two[1]}:0.1")
    a, b = result.manifest.sources
    assert a.documents == 60
    assert (b.documents or 0) < 40
    assert a.share == pytest.approx(0.9, abs=0.05)


def test_size_is_kept_to_within_a_document(tmp_path: Path, two: tuple[str, str]) -> None:
    mix(tmp_path / "out.txt", f"{two[0]}:1", f"{two[1]}:1", size="1kB")
    assert 900 < (tmp_path / "out.txt").stat().st_size <= 1000


def test_repeat_reads_a_small_source_again(tmp_path: Path, two: tuple[str, str]) -> None:
    result = mix(tmp_path / "out.txt", f"{two[0]}:0.9", f"{two[1]}:0.1", repeat=True)
    assert result.manifest.sources[1].documents == 40
    assert (result.manifest.sources[0].documents or 0) > 200
    found = texts(tmp_path / "out.txt")
    first, second = ([t for t in found if t[0] == "a"][i : i + 60] for i in (0, 60))
    assert sorted(first) == sorted(second)
    assert first != second


def test_repeat_fills_the_size(tmp_path: Path, two: tuple[str, str]) -> None:
    mix(tmp_path / "out.txt", f"{two[0]}:1", f"{two[1]}:1", size=20_000, repeat=True)
    assert 19_900 < (tmp_path / "out.txt").stat().st_size <= 20_000


def test_shares_of_documents(tmp_path: Path, two: tuple[str, str]) -> None:
    mix(tmp_path / "out.txt", f"{two[0]}:3", f"{two[1]}:1", by="documents")
    starts = "".join(text[0] for text in texts(tmp_path / "out.txt"))
    assert starts.count("a") == 60
    assert all(starts[i : i + 4].count("b") == 1 for i in range(0, 76, 4))


def test_shares_of_tokens(tmp_path: Path, two: tuple[str, str]) -> None:
    tokenizer = train_characters(texts(Path(two[0])) + texts(Path(two[1])), SilentReporter())
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json(), encoding="utf-8")
    sources = (f"{two[0]}:1", f"{two[1]}:1")
    result = mix(tmp_path / "out.txt", *sources, by="tokens", tokenizer=path, size=500)
    n_tokens = sum(len(tokenizer.encode(text)) + 1 for text in texts(tmp_path / "out.txt"))
    assert n_tokens <= 500 + result.manifest.documents
    assert [s.share for s in result.manifest.sources] == pytest.approx([0.5, 0.5], abs=0.1)


def test_order_is_kept_without_shuffle(tmp_path: Path, two: tuple[str, str]) -> None:
    mix(tmp_path / "out.txt", f"{two[0]}:1", shuffle=False)
    assert texts(tmp_path / "out.txt") == texts(Path(two[0]))


def test_every_form_of_text_can_be_mixed(tmp_path: Path, two: tuple[str, str]) -> None:
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(Path(two[0]).read_bytes()))
    (tmp_path / "d.csv").write_text("id,text\n" + "".join(f"{i},d{i}\n" for i in range(99)))
    (tmp_path / "e.txt").write_bytes("é windows\r\n".encode("cp1252") * 3)
    sources = [f"{tmp_path / name}:1" for name in ("c.txt.gz", "d.csv", "e.txt")]
    mix(tmp_path / "out.txt", *sources, by="documents")
    assert "é windows\né windows\né windows" in texts(tmp_path / "out.txt")
    assert not list(tmp_path.glob(".*"))


def test_conversations_are_mixed_into_jsonl(tmp_path: Path) -> None:
    alpaca = [{"instruction": f"i{i}", "input": "", "output": "o"} for i in range(9)]
    ours = [
        {"messages": [{"role": "user", "content": f"u{i}"}, {"role": "assistant", "content": "a"}]}
        for i in range(9)
    ]
    (tmp_path / "a.json").write_text(json.dumps(alpaca))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ours))
    sources = (f"{tmp_path}/a.json:1", f"{tmp_path}/b.jsonl:1")
    result = mix(tmp_path / "out.jsonl", *sources, by="documents")
    asked = [c.messages[0].content for c in read_conversations(str(tmp_path / "out.jsonl"))]
    assert sorted(asked) == sorted([f"i{i}" for i in range(9)] + [f"u{i}" for i in range(9)])
    assert result.manifest.format == "conversations"


def test_text_can_be_mixed_into_jsonl(tmp_path: Path, two: tuple[str, str]) -> None:
    result = mix(tmp_path / "out.jsonl", f"{two[0]}:1")
    assert result.manifest.format == "text"
    assert sorted(texts(tmp_path / "out.jsonl")) == sorted(texts(Path(two[0])))


def test_text_and_conversations_do_not_share_a_jsonl(tmp_path: Path, two: tuple[str, str]) -> None:
    (tmp_path / "c.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(UsageError, match="cannot be mixed into one JSONL"):
        mix(tmp_path / "out.jsonl", f"{two[0]}:1", f"{tmp_path}/c.jsonl:1")


def test_the_manifest_tells_shares_hashes_and_the_chain(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    a = Path(two[0])
    origin = Manifest("a.txt", "text", 60, a.stat().st_size, sha256_file(a), licence=("CC0",))
    write_manifest(a, origin)
    result = mix(tmp_path / "out.txt", f"{two[0]}:1", f"{two[1]}:3")
    manifest = read_manifest(tmp_path / "out.txt")
    assert manifest == result.manifest
    assert manifest.sha256 == sha256_file(tmp_path / "out.txt")
    assert manifest.licence == ("CC0",)
    first, second = manifest.sources
    assert first.manifest == origin
    assert first.sha256 == origin.sha256
    assert (first.bytes or 0) + (second.bytes or 0) == manifest.bytes
    again = mix(tmp_path / "twice.txt", f"{tmp_path}/out.txt:1", f"{two[1]}:1")
    assert again.manifest.sources[0].manifest == manifest


def test_what_is_kept_for_evaluation_is_refused_even_in_the_chain(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    a = Path(two[0])
    origin = Manifest("a.txt", "text", 60, a.stat().st_size, sha256_file(a), evaluation_only=True)
    write_manifest(a, origin)
    with pytest.raises(DataError, match="kept for evaluation"):
        mix(tmp_path / "out.txt", f"{two[0]}:1")


def test_a_failure_leaves_the_old_output_and_nothing_else(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    output = tmp_path / "out" / "mix.txt"
    mix(output, f"{two[0]}:1")
    before = {p.name: p.read_bytes() for p in output.parent.iterdir()}
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": ')
    with pytest.raises(DataError, match=r"bad\.jsonl:2"):
        mix(output, f"{two[0]}:1", f"{tmp_path}/bad.jsonl:1")
    assert {p.name: p.read_bytes() for p in output.parent.iterdir()} == before


def test_a_document_longer_than_the_size_is_said(tmp_path: Path, two: tuple[str, str]) -> None:
    with pytest.raises(DataError, match="longer than the size"):
        mix(tmp_path / "out.txt", f"{two[0]}:1", size=3)


def test_an_output_that_is_also_a_source_is_refused(two: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="both source and output"):
        mix(Path(two[0]), f"{two[0]}:1", f"{two[1]}:1")


def test_ending_before_the_size_is_warned_about(tmp_path: Path, two: tuple[str, str]) -> None:
    flags = {"sources": [f"{two[0]}:1"], "output": tmp_path / "out.txt", "size": "1GB"}
    reporter = RecordingReporter()
    run(load_config(MixConfig, flags=flags), reporter)
    assert "--repeat" in reporter.warnings[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"sources": ["a.txt"]}, "write it as a.txt:0.5"),
        ({"sources": ["a:b.txt"]}, "write it as a:b.txt:0.5"),
        ({"sources": [":0.5"]}, "has no path"),
        ({"sources": ["a.txt:-1"]}, "at least 0"),
        ({"sources": ["a.txt:nan"]}, "finite"),
        ({"sources": ["a.txt:inf"]}, "finite"),
        ({"sources": ["a.txt:0", "b.txt:0"]}, "all weights are zero"),
        ({"sources": []}, "nothing to mix"),
        ({"output": Path("out.parquet")}, r"\.txt or \.jsonl"),
        ({"by": "tokens"}, "name the `tokenizer`"),
        ({"tokenizer": Path("t.json")}, "counts tokens"),
        ({"size": "10X"}, "is not a size"),
        ({"size": "0"}, "at least 1"),
        ({"seed": -1}, "at least 0"),
    ],
)
def test_mistakes_in_the_config_are_explained(flags: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(MixConfig, flags={"sources": ["a.txt:1"], "output": Path("o.txt"), **flags})


@pytest.mark.parametrize(
    ("written", "size"),
    [("10MB", 10_000_000), ("1.5k", 1500), ("2GiB", 2 << 30), ("5000", 5000), (7, 7)],
)
def test_sizes_are_read(written: object, size: int) -> None:
    flags = {"sources": ["a.txt:1"], "output": Path("o.txt"), "size": written}
    assert load_config(MixConfig, flags=flags).size == size


def test_a_path_may_hold_a_colon(tmp_path: Path) -> None:
    write_source(tmp_path / "a:b.txt", ["hello"])
    assert mix(tmp_path / "out.txt", f"{tmp_path}/a:b.txt:0.5").manifest.documents == 1


def test_paths_in_a_config_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    write_source(tmp_path / "plan" / "a.txt", ["hello"])
    config = {"sources": ["a.txt:1", {"path": "a.txt", "weight": 2}], "output": "out.txt"}
    (tmp_path / "plan" / "mix.json").write_text(json.dumps(config))
    loaded = load_config(MixConfig, tmp_path / "plan" / "mix.json")
    assert {source.path for source in loaded.sources} == {str(tmp_path / "plan" / "a.txt")}
    assert loaded.output == tmp_path / "plan" / "out.txt"


def test_questions_are_looked_for_in_the_mixture(two: tuple[str, str], tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    rows = [
        {"question": "What do frogs in ponds eat?", "choices": ["flies", "sand"], "answer": 0},
        {"question": "What do bears in woods eat?", "choices": ["fish", "sand"], "answer": 0},
    ]
    questions.write_text("\n".join(map(json.dumps, rows)))
    leaky = write_source(tmp_path / "leaky.txt", ["what do FROGS in ponds eat"] * 60)
    reporter = RecordingReporter()
    flags = {
        "sources": [f"{leaky}:1", f"{two[0]}:1"],
        "output": tmp_path / "mix.txt",
        "questions": [str(questions)],
    }
    run(load_config(MixConfig, flags=flags), reporter)
    manifest = read_manifest(tmp_path / "mix.txt")
    assert manifest is not None
    (record,) = manifest.contamination
    assert (record["items"], record["exact"], record["documents"]) == (1, 1, manifest.documents)
    assert "holds 1 of 2 questions" in reporter.warnings[-1]
    assert mix(tmp_path / "m.txt", f"{leaky}:1").manifest.contamination == ()


def test_your_own_test_is_not_mixed_in(two: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kept for evaluation"):
        mix(tmp_path / "mix.txt", f"{two[0]}:1", f"{two[1]}:1", evaluation_only=[two[1]])
