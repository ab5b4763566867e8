import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import encoding
from tinyllm.data.rows import format_of, read_rows, stem_of
from tinyllm.errors import DataError

ROWS = [{"id": "1", "text": 'a "quoted" line'}, {"id": "2", "text": "two\nlines, and a comma"}]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_jsonl(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n\n")
    assert list(read_rows(path)) == ROWS


def test_a_broken_line_of_jsonl_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "b"\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: this line is not valid JSON"):
        list(read_rows(path))


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n["b"]\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: .* found an array"):
        list(read_rows(path))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=4),
        json.dumps({"data": ROWS}),
        json.dumps({"rows": ROWS}, indent=1),
        "\n".join(map(json.dumps, ROWS)),
    ],
    ids=["array", "indented", "wrapped", "wrapped indented", "lines in a .json"],
)
def test_json_arrays_in_all_their_forms(tmp_path: Path, text: str) -> None:
    assert list(read_rows(write(tmp_path / "a.json", text))) == ROWS


def test_a_single_conversation_object_is_one_row(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "hi"}]}
    assert list(read_rows(write(tmp_path / "a.json", json.dumps(row)))) == [row]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=3), json_values, max_size=3), max_size=5),
    block=st.integers(1, 9),
    indent=st.none() | st.just(2),
)
def test_an_array_is_parsed_alike_in_blocks_of_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    block: int,
    indent: int | None,
) -> None:
    path = write(tmp_path_factory.mktemp("t") / "a.json", json.dumps(rows, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_BLOCK", block)
        assert list(read_rows(path)) == rows


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[\n{"a": 1},\n{"a": }, {"b": "something that follows"}\n]', 3),
        ('[\n{"a": 1},\n{"a": "cut off', 3),
        ('[{"a": 1},\n\n17]', 3),
        ('[{"a": 1},\n{"a": 2}', 2),
        ('[{"a": 1},\n{"a": 2},\n', 3),
        ('{"data": [{"a": 1},\n{"a": 2}', 2),
    ],
)
def test_broken_json_is_named_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(DataError, match=rf"a\.json:{line}: "):
        list(read_rows(write(tmp_path / "a.json", text)))


def test_csv_with_quotes_and_line_ends_inside_fields(tmp_path: Path) -> None:
    text = 'id,text\r\n1,"a ""quoted"" line"\r\n2,"two\r\nlines, and a comma"\r\n'
    assert list(read_rows(write(tmp_path / "a.csv", text))) == ROWS


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_csv_delimiters_are_recognised(tmp_path: Path, delimiter: str) -> None:
    text = f"id{delimiter}text\n1{delimiter}a\n"
    assert list(read_rows(write(tmp_path / "a.csv", text))) == [{"id": "1", "text": "a"}]


def test_tsv_takes_bare_quotes_as_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'id\ttext\n1\t"Stop\n2\tgo" he said\n')
    assert [row["text"] for row in read_rows(path)] == ['"Stop', 'go" he said']


def test_a_row_with_the_wrong_number_of_fields_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,text\n1,a\n2,b,c\n")
    with pytest.raises(DataError, match=r"a\.csv:3: this row has 3 fields"):
        list(read_rows(path))


def test_a_field_of_a_megabyte_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f'id,text\n1,"{"x" * 1_000_000}"\n')
    assert len(next(read_rows(path))["text"]) == 1_000_000


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet")) == ROWS


def test_a_torn_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing that belongs here")
    with pytest.raises(DataError, match="not a whole parquet file"):
        list(read_rows(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("name", "text", "format"),
    [
        ("a.txt.gz", "x", "text"),
        ("a.jsonl.bz2", "x", "jsonl"),
        ("data", '{"text": "a"}\n', "jsonl"),
        ("data", '[{"text": "a"}]', "json"),
        ("data", "{curly} text", "text"),
        ("data", "[1] a footnote", "text"),
        ("data", "Once upon a time", "text"),
    ],
)
def test_formats_by_suffix_and_else_by_content(
    tmp_path: Path, name: str, text: str, format: str
) -> None:
    assert format_of(write(tmp_path / name, text)) == format


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("stories.v2.txt.gz", "stories.v2"),
        ("a.jsonl", "a"),
        ("*.csv", "data"),
        ("notes", "notes"),
        ("my story.md", "mystory"),
    ],
)
def test_stems_lose_only_suffixes_that_are_known(name: str, stem: str) -> None:
    assert stem_of(name) == stem


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_json_nested_without_end_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, '{"text": ' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(DataError, match=r"a\.jsonl?:1: .*nested too deeply"):
        list(read_rows(path))
