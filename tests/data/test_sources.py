import gzip
import json
import os
from pathlib import Path

import pytest

from tinyllm.data.source_files import expand_source
from tinyllm.data.sources import describe_source, read_conversations, read_documents, sniff_format
from tinyllm.errors import DataError, UsageError
from tinyllm.records import END_OF_TEXT, Message
from tinyllm.reporting import RecordingReporter

STORIES = ["Once there was a cat.\nIt slept.", "Once there was a dog."]


def write_all_forms(folder: Path) -> list[Path]:
    """Write the two stories in every form that is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = "".join(f"{story}\n{END_OF_TEXT}\n" for story in STORIES)
    rows = [{"id": str(i), "text": story} for i, story in enumerate(STORIES)]
    quoted = "".join(f'{row["id"]},"{row["text"]}"\n' for row in rows)
    (folder / "a.txt").write_text(text)
    (folder / "b.txt.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "c.txt").write_bytes(text.replace("\n", "\r\n").encode("utf-16"))
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "e.json").write_text(json.dumps(rows))
    (folder / "f.csv").write_text("id,text\n" + quoted)
    pq.write_table(pa.Table.from_pylist(rows), folder / "g.parquet")
    return sorted(folder.iterdir())


def test_every_form_gives_the_same_documents(tmp_path: Path) -> None:
    for path in write_all_forms(tmp_path):
        documents = list(read_documents(str(path)))
        assert [d.text for d in documents] == STORIES, path
        assert [d.id for d in documents] == [f"{path.name}:0", f"{path.name}:1"]


def test_a_folder_and_a_glob_hold_all_their_files(tmp_path: Path) -> None:
    write_all_forms(tmp_path)
    (tmp_path / "README.md").write_text("not data")
    (tmp_path / "a.manifest.json").write_text("{}")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.txt").write_text("not data")
    everything = [d.text for d in read_documents(str(tmp_path))]
    assert everything == STORIES * 7
    assert len(list(read_documents(str(tmp_path / "*.txt")))) == 4


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("hi")
    assert expand_source(str(tmp_path / "a[1].txt")) == [tmp_path / "a[1].txt"]


@pytest.mark.parametrize("source", ["*.txt", "."])
def test_nothing_found_is_said(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no "):
        list(read_documents(source))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"a\.txt is a pipe or device"):
        expand_source(str(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    ("source", "sentence", "hint"),
    [
        ("*.nope", "no file matches *.nope", None),
        ("-", "standard input cannot be read as data", "Save it to a file"),
        ("https://x.org/a.txt", "https://x.org/a.txt is an address", "tinyllm download --url"),
    ],
)
def test_what_is_no_path_is_named_for_what_it_is(
    source: str, sentence: str, hint: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        expand_source(source)
    assert caught.value.message == sentence
    assert hint is None or hint in (caught.value.hint or "")


def test_a_text_column_without_strings_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": NaN}\n')
    with pytest.raises(DataError, match="none of its columns holds text: text"):
        list(read_documents(str(tmp_path / "a.jsonl")))


@pytest.mark.parametrize("content", ["", "  \n\n"])
def test_a_file_without_text_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(DataError, match="holds no text"):
        list(read_documents(str(tmp_path / "a.txt")))


def test_the_text_column_is_found_by_name_then_by_length(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title,Story,long\nT,a story,something much longer than that\n")
    (tmp_path / "b.csv").write_text("id,label,utterance\n1,x,the words of it\n")
    reporter = RecordingReporter()
    assert [d.text for d in read_documents(str(tmp_path / "a.csv"), reporter=reporter)] == [
        "a story"
    ]
    assert "'Story'" in reporter.notes[0]
    assert [d.text for d in read_documents(str(tmp_path / "b.csv"))] == ["the words of it"]


def test_a_wanted_column_is_taken_and_a_misspelt_one_corrected(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "summary": "b"}\n')
    assert [d.text for d in read_documents(str(path), text_field="summary")] == ["b"]
    with pytest.raises(DataError, match="no column 'sumary'") as error:
        list(read_documents(str(path), text_field="sumary"))
    assert error.value.hint == "Did you mean 'summary'?"


def test_rows_without_text_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": null}\n{"text": ""}\n{"other": 1}\n')
    reporter = RecordingReporter()
    assert len(list(read_documents(str(path), reporter=reporter))) == 1
    assert "skipped 3 rows without text" in reporter.warnings[0]


def test_a_table_without_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "n": 3}\n')
    with pytest.raises(DataError, match="none of its columns holds text: id, n"):
        list(read_documents(str(path)))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"instruction": "Q", "input": "", "output": "A"},
        {"prompt": "Q", "completion": "A"},
        {"prompt": "Q", "response": "A"},
        {"instruction": "Q", "story": "A"},
        {"prompt": "Q", "story": "A"},
        {"question": "Q", "answer": "A"},
    ],
)
def test_every_layout_of_a_conversation(tmp_path: Path, row: dict[str, object]) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (conversation,) = read_conversations(str(path))
    assert conversation.messages == (Message("user", "Q"), Message("assistant", "A"))
    assert conversation.id == "chat.jsonl:0"
    assert sniff_format(str(path)) == "conversations"
    assert [d.text for d in read_documents(str(path))] == ["Q\n\nA"]


def test_an_alpaca_input_follows_the_instruction(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"instruction": "Add", "input": "1 2", "output": "3"}]))
    (conversation,) = read_conversations(str(path))
    assert conversation.messages[0].content == "Add\n\n1 2"


def test_turns_alternate_and_end_with_an_answer(tmp_path: Path) -> None:
    turns = ["system:S", "user:Q1", "user:Q2", "assistant:A", "tool:T", "user:open"]
    messages = [dict(zip(("role", "content"), t.split(":"), strict=True)) for t in turns]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"id": 7, "messages": messages}) + "\n")
    (conversation,) = read_conversations(str(path))
    assert conversation.id == "7"
    assert [(m.role, m.content) for m in conversation.messages] == [
        ("system", "S"),
        ("user", "Q1\n\nQ2"),
        ("assistant", "A"),
    ]


def test_rows_without_an_exchange_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "Q", "completion": "A"}\n{"prompt": "Q", "completion": " "}\n')
    reporter = RecordingReporter()
    assert len(list(read_conversations(str(path), reporter))) == 1
    assert "skipped 1 row without" in reporter.warnings[0]


def test_text_is_no_conversation(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hi")
    with pytest.raises(DataError, match="running text") as error:
        list(read_conversations(str(tmp_path / "a.txt")))
    assert "messages" in str(error.value.hint)


def test_describe_shows_column_and_first_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,story\n1,Once upon a time\n2,There was\n")
    info = describe_source(str(tmp_path / "a.csv"))
    assert (info.kind, info.text_field, info.format, info.encoding) == (
        "csv",
        "story",
        "text",
        "UTF-8",
    )
    assert info.preview == ("Once upon a time", "There was")
    assert "Once upon a time" in info.summary()


def test_describe_refuses_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match="is empty"):
        describe_source(str(tmp_path / "a.txt"))


def test_a_wrong_hub_address_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="not the address"):
        list(read_documents("hf:nothing"))


@pytest.mark.real_data
def test_real_slices_hold_what_their_card_says(real_data: Path) -> None:
    counts = {
        "tinystories/tinystories-train.txt.gz": 11_394,
        "tinystories/tinystories-v1-train-head.txt.gz": 2_308,
        "tinyshakespeare/input.txt": 1,
    }
    for name, n_documents in counts.items():
        assert sum(1 for _ in read_documents(str(real_data / name))) == n_documents


def test_a_folder_is_read_without_what_trainings_left_in_it(tmp_path: Path) -> None:
    for name in ("a.txt", "runs/a/a-run/samples.md", "b-run.1/metrics.jsonl", "c.tokenizer.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert expand_source(str(tmp_path)) == [tmp_path / "a.txt"]


def test_a_link_that_cannot_be_followed_is_passed_over(tmp_path):
    (tmp_path / "a.txt").write_text("some text")
    (tmp_path / "b.txt").symlink_to("x" * 300)  # no file may be named so
    assert expand_source(str(tmp_path)) == [tmp_path / "a.txt"]


def test_a_row_with_an_empty_answer_is_named_with_what_is_empty(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Name a bird.", "input": "", "output": "The wren."},
        {"instruction": "Name a tree.", "input": "", "output": " "},
        {"prompt": "", "completion": ""},
    ]
    path = tmp_path / "alpaca.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    reporter = RecordingReporter()
    assert len(list(read_conversations(str(path), reporter))) == 1
    (warning,) = reporter.warnings
    assert "alpaca.jsonl:2: its output is empty" in warning
    assert "alpaca.jsonl:3: its prompt and completion are empty" in warning


def test_rows_without_a_whole_exchange_are_named_with_the_reason(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "a", "completion": "b"},
        {"messages": [{"role": "user", "content": "hello?"}]},
        {"messages": [{"role": "assistant", "content": "hello!"}]},
        {"title": "a", "body": "b"},
        {"title": "c", "body": "d"},
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("\n\n".join(map(json.dumps, rows)))
    reporter = RecordingReporter()
    assert len(list(read_conversations(str(path), reporter))) == 1
    (warning,) = reporter.warnings
    assert "skipped 4 rows" in warning
    assert "chat.jsonl:3: nobody answers in it" in warning
    assert "chat.jsonl:5: nothing in it is said by the user" in warning
    assert "chat.jsonl:7: its keys title, body are no known layout; …" in warning
    array = tmp_path / "chat.json"
    array.write_text(json.dumps(rows[1:]))
    with pytest.raises(DataError, match=r"chat\.json, row 1: nobody answers in it"):
        list(read_conversations(str(array)))
