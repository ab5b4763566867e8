"""Token shards: what is in them, when they are made again, what killed or rival builders leave."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm.chat_template import MarkerTemplate, render
from tinyllm.data.loader import Loader
from tinyllm.data.shard_cache import building
from tinyllm.data.shards import Shards, build_shards, open_shards
from tinyllm.data.sources import read_conversations, read_documents
from tinyllm.data.split import split_shards
from tinyllm.errors import ConfigError, DataError
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import RecordingReporter, SilentReporter
from tinyllm.tokenizer import Tokenizer, train_bpe, train_characters

STORIES = [
    f"Once upon a time number {i} went to the park — naïve 🌍.\n" * (1 + i % 3) for i in range(60)
]
TOKENIZER = train_bpe(STORIES, 300, SilentReporter())


CHARACTERS = train_characters(["qa\n#: InstructionResponse"], SilentReporter())
PROMPT_LENGTH = len("### Instruction:\n\n\n### Response:\n")


def write_stories(path: Path, stories: list[str] = STORIES) -> str:
    path.write_text(f"\n{END_OF_TEXT}\n".join(stories), encoding="utf-8")
    return str(path)


def write_conversations(path: Path, n: int = 40) -> str:
    rows = (
        {"instruction": f"Count to {i}", "input": "", "output": "one two three " * (1 + i % 5)}
        for i in range(n)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def build(source: str, tokenizer: Tokenizer = TOKENIZER, **arguments: object) -> Shards:
    settings: dict[str, object] = {"format": "text", "reporter": SilentReporter(), **arguments}
    return build_shards([source], tokenizer, **settings)  # type: ignore[arg-type]


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 30), st.integers(1, 40)), min_size=1, max_size=3),
        min_size=1,
        max_size=12,
    ),
    st.integers(16, 90),
    st.booleans(),
    st.integers(0, 2),
)
def test_conversations_of_any_length_are_used_once_or_reported(
    shapes: list[list[tuple[int, int]]], context_length: int, pack: bool, epoch: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = write_exchanges(Path(folder, "chat.jsonl"), shapes)
        try:
            shards = build(
                source, CHARACTERS, format="conversations", context_length=context_length
            )
            loader = Loader(
                shards,
                batch_size=3,
                context_length=context_length,
                packing="documents",
                pack=pack,
            )
        except DataError:  # all of them have prompts that fill a row
            assert all(PROMPT_LENGTH + shape[0][0] > context_length for shape in shapes)
            return
        batches = list(loader.batches(epoch))
        assert all(batch.n_targets > 0 for batch in batches)
        assert sum(len(batch.input_ids) for batch in batches) == loader.n_rows
        rows = range(epoch * loader.n_rows, (epoch + 1) * loader.n_rows)
        used = [i for row in rows for i in loader.documents(row, 1)]
        assert len(used) == len(set(used))
        left_out = shards.counts.n_empty + shards.counts.n_no_room + loader.report.n_dropped
        assert len(used) + left_out == len(shapes)


def write_exchanges(path: Path, shapes: list[list[tuple[int, int]]]) -> str:
    """Write conversations of so many characters a question and an answer."""
    rows = (
        {
            "messages": [
                {"role": role, "content": word * n}
                for question, answer in shape
                for role, word, n in (("user", "q", question), ("assistant", "a", answer))
            ]
        }
        for shape in shapes
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def folders(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.iterdir() if p.is_dir())


def test_shards_hold_every_document_and_one_end_token_each(tmp_path: Path) -> None:
    source = write_stories(tmp_path / "stories.txt")
    shards = build(source)
    documents = [d.text for d in read_documents(source)]
    assert shards.n_documents == len(documents) == 60
    assert int((shards.ids == TOKENIZER.end_of_text_id).sum()) == 60
    for i, text in enumerate(documents):
        ids = shards.document(i).tolist()
        assert ids == [*TOKENIZER.encode(text), TOKENIZER.end_of_text_id]
    assert shards.n_tokens == len(shards.ids) == shards.offsets[-1]
    assert shards.n_bytes == sum(len(text.encode()) for text in documents)
    assert shards.loss_mask is None
    assert shards.ids.dtype == np.uint16


def test_conversations_are_as_rendered_with_their_mask(tmp_path: Path) -> None:
    source = write_conversations(tmp_path / "alpaca.jsonl")
    shards = build(source, format="conversations")
    for i, conversation in enumerate(read_conversations(source)):
        example = render(conversation, TOKENIZER)
        assert shards.document(i).tolist() == example.ids
        assert shards.mask(i).tolist() == example.loss_mask
    assert shards.n_documents == 40
    assert shards.counts.n_trained == int(np.asarray(shards.loss_mask).sum())


def test_long_conversations_are_cut_dropped_and_counted(tmp_path: Path) -> None:
    source = write_conversations(tmp_path / "alpaca.jsonl")
    lengths = [len(render(c, TOKENIZER).ids) for c in read_conversations(source)]
    context_length = sorted(lengths)[20]
    shards = build(source, format="conversations", context_length=context_length)
    assert shards.lengths.max() <= context_length + 1
    assert shards.counts.n_cut == sum(n > context_length + 1 for n in lengths)
    with pytest.raises(DataError, match="none of the 40 conversations"):
        build(source, format="conversations", context_length=4)


def test_unchanged_text_is_not_read_again(tmp_path: Path) -> None:
    source = write_stories(tmp_path / "stories.txt")
    first = build(source)
    before = (first.folder / "ids.bin").stat().st_mtime_ns
    reporter = RecordingReporter()
    again = build(source, reporter=reporter)
    assert again.folder == first.folder
    assert (again.folder / "ids.bin").stat().st_mtime_ns == before
    assert reporter.progresses == []


def test_a_touched_file_is_known_by_its_content(tmp_path: Path) -> None:
    source = write_stories(tmp_path / "stories.txt")
    first = build(source)
    os.utime(source, ns=(1, 1))
    assert build(source).folder == first.folder


def test_changed_text_tokenizer_format_or_template_makes_new_shards(tmp_path: Path) -> None:
    source = write_stories(tmp_path / "stories.txt")
    made = [build(source)]
    made.append(build(source, train_characters(STORIES, SilentReporter())))
    write_stories(tmp_path / "stories.txt", STORIES[:-1])
    made.append(build(source))
    chats = write_conversations(tmp_path / "chats.jsonl")
    made.append(build(chats))
    made.append(build(chats, format="conversations"))
    made.append(build(chats, format="conversations", context_length=50))
    made.append(build(chats, format="conversations", mask_prompt=False))
    template = MarkerTemplate(user="Q: {content}\n", assistant_header="A: ")
    made.append(build(chats, format="conversations", template=template))
    assert len({shards.folder for shards in made}) == len(made)
    assert len({shards.fingerprint for shards in made}) == len(made)


def test_a_change_of_equal_size_is_noticed(tmp_path: Path) -> None:
    source = write_stories(tmp_path / "stories.txt")
    first = build(source)
    write_stories(tmp_path / "stories.txt", [s.replace("park", "dark") for s in STORIES])
    assert build(source).folder != first.folder


def test_shards_of_text_that_changed_are_removed_and_others_kept(tmp_path: Path) -> None:
    source = write_stories(tmp_path / "stories.txt")
    characters = build(source, train_characters(STORIES, SilentReporter()))
    outdated = build(source)
    write_stories(tmp_path / "stories.txt", STORIES[:-1])
    current = build(source)
    assert folders(tmp_path / ".tinyllm-cache") == sorted(
        [characters.folder.name, current.folder.name]
    )
    assert outdated.document(0).tolist() == current.document(0).tolist()


def test_several_sources_follow_each_other(tmp_path: Path) -> None:
    sources = [write_stories(tmp_path / "a.txt", STORIES[:5]), write_stories(tmp_path / "b.txt")]
    shards = build_shards(sources, TOKENIZER, format="text", reporter=SilentReporter())
    assert shards.n_documents == 65
    assert shards.document(5).tolist() == shards.document(0).tolist()
    twice = build_shards(sources[:1] * 2, TOKENIZER, format="text", reporter=SilentReporter())
    assert twice.n_documents == 2 * build(sources[0]).n_documents == 10


def test_many_batches_give_the_same_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_stories(tmp_path / "stories.txt")
    whole = build(source, cache=tmp_path / "one")
    monkeypatch.setattr("tinyllm.data.shard_writer.BATCH_CHARS", 300)
    parts = build(source, cache=tmp_path / "many")
    for name in ("ids.bin", "offsets.bin", "keys.bin"):
        assert (whole.folder / name).read_bytes() == (parts.folder / name).read_bytes()


def test_damaged_shards_are_made_again(tmp_path: Path) -> None:
    source = write_stories(tmp_path / "stories.txt")
    first = build(source)
    expected = (first.folder / "ids.bin").read_bytes()
    (first.folder / "ids.bin").write_bytes(expected[:-2])
    with pytest.raises(DataError, match="whole token shards"):
        open_shards(first.folder)
    assert (build(source).folder / "ids.bin").read_bytes() == expected


def test_an_error_while_building_leaves_nothing(tmp_path: Path) -> None:
    source = write_conversations(tmp_path / "alpaca.jsonl")
    with pytest.raises(DataError):
        build(source, format="conversations", context_length=4, cache=tmp_path / "cache")
    assert folders(tmp_path / "cache") == []


_HALF_BUILT = """
import sys
from pathlib import Path
from tinyllm.data.shard_cache import building

with building(Path(sys.argv[1])) as folder:
    (folder / "ids.bin").write_bytes(b"half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_builder_left_is_removed(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _HALF_BUILT,
            str(tmp_path / "cache" / "stories-1"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.kill()
    assert len(folders(tmp_path / "cache")) == 1
    shards = build(write_stories(tmp_path / "stories.txt"), cache=tmp_path / "cache")
    assert folders(tmp_path / "cache") == [shards.folder.name]


def test_of_two_builders_the_first_to_finish_wins(tmp_path: Path) -> None:
    source = write_stories(tmp_path / "stories.txt")
    shards = build(source, cache=tmp_path / "cache")
    with building(shards.folder) as rival:
        (rival / "ids.bin").write_bytes(b"other")
    assert open_shards(shards.folder).n_documents == 60
    assert folders(tmp_path / "cache") == [shards.folder.name]


def _build_in_process(source: str, cache: str, barrier: Barrier) -> None:
    barrier.wait()
    assert build(source, cache=Path(cache)).n_documents == 60


def test_processes_that_build_at_once_agree(tmp_path: Path) -> None:
    source = write_stories(tmp_path / "stories.txt")
    spawn = multiprocessing.get_context("spawn")
    arguments = (source, str(tmp_path / "cache"), spawn.Barrier(2))
    children = [spawn.Process(target=_build_in_process, args=arguments) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert len(folders(tmp_path / "cache")) == 1


def test_the_cache_is_not_for_version_control(tmp_path: Path) -> None:
    shards = build(write_stories(tmp_path / "stories.txt"))
    assert shards.folder.parent == tmp_path / ".tinyllm-cache"
    assert (shards.folder.parent / ".gitignore").read_text() == "*\n"


def test_text_in_a_read_only_folder_is_cached_in_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    source = write_stories(library / "stories.txt")
    library.chmod(0o555)
    monkeypatch.chdir(tmp_path)
    assert build(source).folder.parent == Path(".tinyllm-cache")
    library.chmod(0o755)


def test_the_split_takes_whole_documents_and_loses_none(tmp_path: Path) -> None:
    source = write_stories(tmp_path / "stories.txt", [f"Story {i}." for i in range(400)])
    shards = build(source)
    train, validation = split_shards(shards, 0.1)
    assert train.n_documents + validation.n_documents == 400
    assert 15 <= validation.n_documents <= 80
    assert set(train.keys.tolist()).isdisjoint(validation.keys.tolist())
    assert train.n_tokens + validation.n_tokens == shards.n_tokens
    assert len({shards.fingerprint, train.fingerprint, validation.fingerprint}) == 3


def test_a_document_stays_on_its_side_when_others_come_and_whatever_the_tokenizer(
    tmp_path: Path,
) -> None:
    texts = [f"Story {i}." for i in range(400)]
    few = build(write_stories(tmp_path / "few.txt", texts[100:]))
    many = build(
        write_stories(tmp_path / "many.txt", texts[::-1]), train_characters(texts, SilentReporter())
    )
    held_out_few = set(split_shards(few, 0.1)[1].keys.tolist())
    held_out_many = set(split_shards(many, 0.1)[1].keys.tolist())
    assert held_out_few == held_out_many & set(few.keys.tolist())


def test_a_single_document_is_cut_at_the_fraction(tmp_path: Path) -> None:
    shards = build(write_stories(tmp_path / "one.txt", ["a b c d e f g h i j " * 100]))
    train, validation = split_shards(shards, 0.2)
    both = np.concatenate([train.document(0), validation.document(0)])
    assert both.tolist() == shards.document(0).tolist()
    assert validation.n_tokens == pytest.approx(0.2 * shards.n_tokens, abs=1)


def test_few_conversations_are_split_between_and_never_inside(tmp_path: Path) -> None:
    shards = build(write_conversations(tmp_path / "c.jsonl", 5), format="conversations")
    train, validation = split_shards(shards, 0.3)
    assert train.n_documents + validation.n_documents == 5
    assert validation.n_documents >= 1
    alone = build(write_conversations(tmp_path / "one.jsonl", 1), format="conversations")
    with pytest.raises(ConfigError, match="too few"):
        split_shards(alone, 0.3)


def test_more_than_65536_ids_take_four_bytes(tmp_path: Path) -> None:
    characters = "".join(chr(c) for c in range(0x20, 0x20 + 70_000) if not 0xD800 <= c < 0xE000)
    tokenizer = train_characters([characters], SilentReporter())
    text = characters[-200:]
    shards = build(write_stories(tmp_path / "wide.txt", [text]), tokenizer)
    assert shards.ids.dtype == np.uint32
    assert tokenizer.decode(shards.document(0).tolist()) == text


@pytest.mark.real_data
def test_real_stories_end_with_one_end_token_each(real_data: Path, tmp_path: Path) -> None:
    source = str(real_data / "tinystories" / "tinystories-v1-train-head.txt.gz")
    texts = [document.text for document in read_documents(source)]
    shards = build(source, cache=tmp_path)
    assert shards.n_documents == len(texts) == np.count_nonzero(np.asarray(shards.ids) == 0)
    assert TOKENIZER.decode(shards.ids.tolist()) == "".join(texts)
    assert shards.n_bytes == len("".join(texts).encode())


def test_a_text_encoded_by_processes_gives_the_same_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_stories(tmp_path / "stories.txt", STORIES * 5)
    alone = build(source, cache=tmp_path / "a")
    monkeypatch.setattr("tinyllm.data.shards.WORKERS_FROM_BYTES", 0)
    monkeypatch.setattr("tinyllm.data.shard_writer.BATCH_CHARS", 5000)
    together = build(source, cache=tmp_path / "b")
    assert together.folder != alone.folder
    for name in ("ids.bin", "offsets.bin", "keys.bin"):
        assert (together.folder / name).read_bytes() == (alone.folder / name).read_bytes()
