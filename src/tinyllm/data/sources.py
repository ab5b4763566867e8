"""One argument, any text: where data comes from and how it becomes documents or conversations.

A source is a file, a folder, a glob, or `hf:owner/name[/config][:split]`. Files may be TEXT,
JSONL, a JSON array, CSV, TSV or parquet, compressed or not, in any common encoding. The text
column of a table is found by name, else by length. Memory does not grow with the source.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinyllm.data.conversations import (
    conversation_from_row,
    describe_layouts,
    has_turns,
    why_no_exchange,
)
from tinyllm.data.encoding import detect_encoding, read_head, read_text
from tinyllm.data.hub import is_hub_source, read_hub_rows
from tinyllm.data.rows import Row, format_of, place_of_row, read_rows, running_text
from tinyllm.data.source_files import expand_source
from tinyllm.data.text import split_documents
from tinyllm.data.text_field import find_text_field
from tinyllm.errors import DataError
from tinyllm.records import Conversation, Document
from tinyllm.reporting import Reporter, SilentReporter, counted, format_bytes

_N_JUDGED = 50
PAIR_COLUMNS = frozenset({"chosen", "rejected"})
"""Rows with these are a better and a worse answer, and not one text."""
_N_NAMED = 3
"""So many rows that hold nothing to use are named."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source looks like from its first rows.

    `kind` is `text`, `jsonl`, `json`, `csv`, `tsv`, `parquet` or `hub`; `text_field` is None for
    running text, conversations and pairs; `n_bytes` is the size on disk (0 on the hub).
    """

    source: str
    kind: str
    format: Literal["text", "conversations"]
    encoding: str
    text_field: str | None
    columns: tuple[str, ...]
    n_files: int
    n_bytes: int
    preview: tuple[str, ...]

    @property
    def holds_pairs(self) -> bool:
        """Whether rows hold a better and a worse answer, and not one text."""
        return set(self.columns) >= PAIR_COLUMNS

    def summary(self) -> str:
        """Say in a few lines what was found, with the first rows."""
        files = f"{self.n_files} files, " if self.n_files > 1 else ""
        column = f", text column {self.text_field!r} of {', '.join(self.columns)}"
        first = f"{self.source}: {files}{self.kind}, {self.encoding}, {format_bytes(self.n_bytes)}"
        first += ", conversations" if self.format == "conversations" else ""
        first += column if self.text_field else ""
        first += ", pairs of answers" if self.holds_pairs else ""
        return "\n".join([first, *(f"  | {row}" for row in self.preview)])


def read_documents(
    source: str, *, text_field: str | None = None, reporter: Reporter | None = None
) -> Iterator[Document]:
    """Yield the documents of a source, in order, as a stream.

    Conversations are read as running text, their turns joined by blank lines. Raises DataError
    when the source cannot be read, has no such column, or holds no text at all.
    """
    reporter = reporter or SilentReporter()
    n_documents = 0
    for name, rows_or_path in _parts(source, reporter):
        if isinstance(rows_or_path, Path) and format_of(rows_or_path) == "text":
            texts: Iterable[str] = split_documents(read_text(rows_or_path, reporter), reporter)
        else:
            texts = _texts_of_rows(name, _rows(rows_or_path, reporter), text_field, reporter)
        for index, text in enumerate(texts):
            n_documents += 1
            yield Document(f"{name}:{index}", text, source)
    if not n_documents:
        raise DataError(f"{source} holds no text", "Check that this is the file you meant.")


def read_conversations(source: str, reporter: Reporter | None = None) -> Iterator[Conversation]:
    """Yield the conversations of a source, in order, as a stream.

    Rows that hold no whole exchange are skipped and counted, the first ones named. Raises
    DataError when no row holds one.
    """
    reporter = reporter or SilentReporter()
    n_read = n_skipped = 0
    named: list[str] = []
    for name, rows_or_path in _parts(source, reporter):
        if isinstance(rows_or_path, Path) and format_of(rows_or_path) == "text":
            raise running_text(rows_or_path, "conversations", describe_layouts())
        for index, row in enumerate(_rows(rows_or_path, reporter)):
            conversation = conversation_from_row(row, f"{name}:{index}", source)
            if conversation is None:
                n_skipped += 1
                if len(named) < _N_NAMED:
                    place = place_of_row(name, rows_or_path, index)
                    named.append(f"{place}: {why_no_exchange(row)}")
                continue
            n_read += 1
            yield conversation
    listed = "; ".join(named) + ("; …" if n_skipped > len(named) else "")
    if not n_read:
        reason = f" ({listed})" if named else ""
        raise DataError(f"{source} holds no conversation{reason}", describe_layouts())
    if n_skipped:
        reporter.warn(
            f"{source}: skipped {counted(n_skipped, 'row')} without a whole exchange ({listed})"
        )


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as it is, and where it lies."""

    name: str
    origin: Path | Iterator[Row]
    index: int
    values: Row

    @property
    def id(self) -> str:
        """An id that is unique within the source."""
        return f"{self.name}:{self.index}"

    @property
    def place(self) -> str:
        """Where a reader finds it: file and line."""
        return place_of_row(self.name, self.origin, self.index)


def read_source_rows(source: str, reporter: Reporter) -> Iterator[SourceRow]:
    """Yield the rows of a source of tables or JSON. Raises DataError for running text."""
    for name, origin in _parts(source, reporter):
        if isinstance(origin, Path) and format_of(origin) == "text":
            raise running_text(origin, "rows")
        for index, values in enumerate(_rows(origin, reporter)):
            yield SourceRow(name, origin, index, values)


def _parts(source: str, reporter: Reporter) -> Iterator[tuple[str, Path | Iterator[Row]]]:
    """Yield (name, file) for each file of a source, or (name, rows) for one on the hub."""
    if is_hub_source(source):
        yield source, read_hub_rows(source, reporter)
        return
    for path in expand_source(source):
        yield path.name, path


def _rows(rows_or_path: Path | Iterator[Row], reporter: Reporter) -> Iterator[Row]:
    return read_rows(rows_or_path, reporter) if isinstance(rows_or_path, Path) else rows_or_path


def _texts_of_rows(
    name: str, rows: Iterator[Row], text_field: str | None, reporter: Reporter
) -> Iterator[str]:
    first = list(itertools.islice(rows, _N_JUDGED))
    if not first:
        return
    if text_field is None and all(map(has_turns, first[:5])):
        reporter.note(f"{name} holds conversations; their turns are read as running text")
        for index, row in enumerate(itertools.chain(first, rows)):
            conversation = conversation_from_row(row, str(index), name)
            if conversation is not None:
                yield "\n\n".join(message.content for message in conversation.messages)
        return
    field = find_text_field(name, first, text_field)
    if text_field is None and len(first[0]) > 1:
        reporter.note(f"{name}: the text is taken from column {field!r} of {', '.join(first[0])}")
    n_skipped = 0
    for row in itertools.chain(first, rows):
        text = row.get(field)
        if isinstance(text, str) and text.strip():
            yield text.strip("\n")
        else:
            n_skipped += 1
    if n_skipped:
        reporter.warn(f"{name}: skipped {counted(n_skipped, 'row')} without text in {field!r}")


def sniff_format(source: str) -> Literal["text", "conversations"]:
    """Judge by the first rows whether a source holds running text or conversations."""
    return describe_source(source).format


def describe_source(source: str, reporter: Reporter | None = None) -> SourceInfo:
    """Look at the beginning of a source: kind, encoding, columns, first rows, size on disk."""
    if is_hub_source(source):
        rows = list(itertools.islice(read_hub_rows(source, reporter), 5))
        return _describe_rows(source, "hub", "UTF-8", rows, 1, 0)
    paths = expand_source(source)
    n_bytes = sum(path.stat().st_size for path in paths)
    kind = format_of(paths[0])
    if kind == "parquet":
        rows = list(itertools.islice(read_rows(paths[0]), 5))
        return _describe_rows(source, kind, "UTF-8", rows, len(paths), n_bytes)
    if not read_head(paths[0], 1):
        raise DataError(f"{paths[0]} is empty", "Check that this is the file you meant.")
    encoding = detect_encoding(paths[0]).name.upper()
    if kind != "text":
        rows = list(itertools.islice(read_rows(paths[0]), 5))
        return _describe_rows(source, kind, encoding, rows, len(paths), n_bytes)
    text = next(read_text(paths[0]), "")
    lines = [_shorten(line) for line in text[:4096].splitlines() if line.strip()]
    return SourceInfo(
        source, kind, "text", encoding, None, (), len(paths), n_bytes, tuple(lines[:3])
    )


def _describe_rows(
    source: str, kind: str, encoding: str, rows: list[Row], n_files: int, n_bytes: int
) -> SourceInfo:
    if not rows:
        raise DataError(f"{source} has no rows", "Check that this is the file you meant.")
    columns = tuple(str(column) for column in rows[0])
    preview = tuple(_shorten(str(dict(row))) for row in rows[:3])
    if all(map(has_turns, rows)):
        return SourceInfo(
            source, kind, "conversations", encoding, None, columns, n_files, n_bytes, preview
        )
    field = None if set(columns) >= PAIR_COLUMNS else find_text_field(source, rows)
    if field is not None:
        preview = tuple(_shorten(str(row.get(field))) for row in rows[:3])
    return SourceInfo(source, kind, "text", encoding, field, columns, n_files, n_bytes, preview)


def _shorten(text: str, width: int = 76) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
