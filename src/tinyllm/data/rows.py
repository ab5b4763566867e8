"""Rows of tables and JSON files, one dictionary at a time, whatever the file format.

    .jsonl .ndjson   one JSON object per line
    .json            an array of objects, or an object that holds one such array
    .csv .tsv        a header line, then rows; quoted fields may hold line ends
    .parquet         read through pyarrow

Memory does not grow with the file. A broken row is named by file and line.
"""

import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from tinyllm.data.encoding import read_head, read_lines, read_text
from tinyllm.errors import DataError
from tinyllm.files import os_error, require_file
from tinyllm.reporting import Reporter

Row = Mapping[str, Any]

_COMPRESSED = {".gz", ".bz2", ".xz"}
_FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".raw": "text",
    ".tokens": "text",
}
KNOWN_SUFFIXES = frozenset(_FORMATS)
_JSON_GAP = re.compile(r"[ \t\n\r,]*")
_JSON_WRAPPER = re.compile(r'\s*\{\s*"(?P<key>[^"\\]+)"\s*:\s*\[\s*\{')


def format_of(path: Path) -> str:
    """Return `text`, `jsonl`, `json`, `csv`, `tsv` or `parquet`, by suffix and else by content."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    if suffixes and suffixes[-1] in _FORMATS:
        return _FORMATS[suffixes[-1]]
    head = read_head(path, 65536)
    if head.startswith(b"PAR1"):
        return "parquet"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"[") and start[1:].lstrip().startswith(b"{"):
        return "json"
    return "jsonl" if start.startswith(b"{") and _is_object(start.splitlines()[0]) else "text"


def stem_of(name: str) -> str:
    """Return a file name without the suffixes of its format and compression, safe to write to."""
    path = Path(name)
    while path.suffix.lower() in _COMPRESSED | KNOWN_SUFFIXES:
        path = path.with_suffix("")
    return re.sub(r"[^\w.+-]", "", path.name) or "data"


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def read_rows(path: Path, reporter: Reporter | None = None) -> Iterator[Row]:
    """Yield the rows of a table or JSON file. Raises DataError with file and line."""
    match format_of(path):
        case "jsonl":
            return _read_jsonl(path, reporter)
        case "json":
            return _read_json(path, reporter)
        case "csv":
            return _read_csv(path, None, reporter)
        case "tsv":
            return _read_csv(path, "\t", reporter)
        case "parquet":
            return _read_parquet(path)
        case _:
            raise running_text(path, "rows", _ROW_FILES)


_ROW_FILES = "Rows are taken from .jsonl, .json, .csv, .tsv and .parquet files."


def running_text(path: Path, wanted: str, hint: str | None = None) -> DataError:
    """Return the error for a file of running text where rows of some kind were expected."""
    if not read_head(path, 1):
        return DataError(f"{path} is empty", "Check that this is the file you meant.")
    return DataError(f"{path} holds running text, and {wanted} were expected", hint)


def _read_jsonl(path: Path, reporter: Reporter | None) -> Iterator[Row]:
    for number, line in enumerate(read_lines(path, reporter), start=1):
        if not line or line.isspace():
            continue
        try:
            row = json.loads(line)
        except RecursionError as error:
            raise DataError(f"{path}:{number}: this JSON is nested too deeply") from error
        except ValueError as error:
            problem = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(
                f"{path}:{number}: this line is not valid JSON: {problem}",
                "A JSONL file holds one whole JSON object per line.",
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                f"{path}:{number}: a JSON object was expected, found {_kind(row)}",
                "A JSONL file holds one whole JSON object per line.",
            )
        yield row


def place_of_row(name: str, rows_or_path: Path | Iterator[Row], index: int) -> str:
    """Name row `index`, from 0: by its line where each line of the file is a row."""
    if not isinstance(rows_or_path, Path) or format_of(rows_or_path) != "jsonl":
        return f"{name}, row {index + 1}"
    filled = (number for number, line in enumerate(read_lines(rows_or_path), 1) if line.strip())
    return f"{name}:{next(islice(filled, index, None))}"


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _read_json(path: Path, reporter: Reporter | None) -> Iterator[Row]:
    """Parse an array (or objects that follow one another) piece by piece."""
    blocks = read_text(path, reporter)
    buffer = next(blocks, "")
    position, is_array = _start_of_rows(buffer)
    decoder = json.JSONDecoder()
    lines_before = 0
    while True:
        position = _end_of(_JSON_GAP, buffer, position)
        error: json.JSONDecodeError | None = None
        if position < len(buffer):
            if buffer[position] == "]":
                return
            try:
                row, position = decoder.raw_decode(buffer, position)
            except json.JSONDecodeError as refusal:
                error = refusal
            except RecursionError as refusal:
                line = lines_before + buffer.count("\n", 0, position) + 1
                raise DataError(f"{path}:{line}: this JSON is nested too deeply") from refusal
            else:
                if not isinstance(row, dict):
                    line = lines_before + buffer.count("\n", 0, position) + 1
                    raise DataError(f"{path}:{line}: an object was expected, found {_kind(row)}")
                yield row
                continue
        wanted = max(len(buffer) - position, 1)  # at least double the rest: keeps parsing linear
        more = "" if error and _is_hopeless(error, buffer) else _take(blocks, wanted)
        if not more:
            if error is None and not is_array:
                return
            line = lines_before + (error.lineno if error else buffer.count("\n") + 1)
            problem = error.msg.lower() if error else "the array is not closed by a ]"
            raise DataError(
                f"{path}:{line}: this is not valid JSON: {problem}",
                "The file may be cut off; fetch it again.",
            ) from error
        lines_before += buffer.count("\n", 0, position)
        buffer, position = buffer[position:] + more, 0


def _start_of_rows(buffer: str) -> tuple[int, bool]:
    """Return where the first row starts, and whether it lies in an array that has to be closed.

    The array may lie inside an object that wraps it.
    """
    wrapper = _JSON_WRAPPER.match(buffer)
    if wrapper and wrapper["key"] not in ("messages", "conversations", "choices"):
        return wrapper.end() - 1, True
    start = _end_of(_JSON_GAP, buffer, 0)
    is_array = buffer[start : start + 1] == "["
    return start + is_array, is_array


def _end_of(pattern: re.Pattern[str], buffer: str, position: int) -> int:
    match = pattern.match(buffer, position)
    return match.end() if match else position


def _is_hopeless(error: json.JSONDecodeError, buffer: str) -> bool:
    """Whether more text cannot mend it: the error lies inside, and not in an open string."""
    return not error.msg.startswith("Unterminated") and error.pos < len(buffer) - 16


def _take(blocks: Iterator[str], n_characters: int) -> str:
    taken: list[str] = []
    n = 0
    while n < n_characters and (block := next(blocks, None)) is not None:
        taken.append(block)
        n += len(block)
    return "".join(taken)


def _read_csv(path: Path, delimiter: str | None, reporter: Reporter | None) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    head = list(islice(read_lines(path), 50))
    delimiter = delimiter or _delimiter(head[0] if head else "")
    lines = (line + "\n" for line in read_lines(path, reporter))
    if _is_unquoted(head, delimiter):
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=delimiter)
    try:
        header = next(reader, None)
        if header is None:
            return
        names = [name.strip() for name in header]
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(names):
                raise DataError(
                    f"{path}:{reader.line_num}: this row has {len(fields)} fields, "
                    f"and the header has {len(names)}",
                    "Fields that hold the delimiter or a line end need quotes around them.",
                )
            yield dict(zip(names, fields, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: this is not a valid table: {error}") from error


def _delimiter(header: str) -> str:
    return max(",;\t|", key=header.count)


def _is_unquoted(head: list[str], delimiter: str) -> bool:
    """Whether quotes are ordinary characters: a table with no quoted field that needs them."""
    if delimiter != "\t":
        return False
    n_fields = {line.count(delimiter) for line in head if line}
    doubled = sum('""' in line for line in head)
    return len(n_fields) <= 1 and not doubled


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_file(path, "data file")
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} is not a whole parquet file: {reason}", "Fetch it again."
        ) from error
    except OSError as error:
        raise os_error(error, f"read {path}") from error
