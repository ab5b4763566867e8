"""The two forms in which data leaves a command: TEXT and JSONL.

    TEXT    UTF-8; documents, each followed by a line that holds only <|endoftext|>
    JSONL   one JSON object per line

A file appears under its name when it is whole. Counts and SHA-256 are kept while writing.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from tinyllm.files import atomic_write
from tinyllm.records import END_OF_TEXT, Conversation, MultipleChoice

SEPARATOR_LINE = f"{END_OF_TEXT}\n".encode()
_BUFFER = 1 << 20


class DataWriter:
    """Append to one data file. `documents`, `bytes` and `sha256` tell what has been written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._pending: list[bytes] = []
        self._n_pending = 0
        self.documents = 0
        self.bytes = 0

    def write_bytes(self, document: bytes) -> None:
        """Append one document in its final form: TEXT with its separator line, or a JSON line."""
        self._pending.append(document)
        self._n_pending += len(document)
        self.documents += 1
        self.bytes += len(document)
        if self._n_pending >= _BUFFER:
            self.flush()

    def write_text(self, text: str) -> None:
        """Append one document of a TEXT."""
        self.write_bytes(text_bytes(text))

    def write_json(self, value: Mapping[str, Any]) -> None:
        """Append one line of a JSONL."""
        self.write_bytes(json_bytes(value))

    def flush(self) -> None:
        """Hand what is pending to the file."""
        block = b"".join(self._pending)
        self._digest.update(block)
        self._file.write(block)
        self._pending, self._n_pending = [], 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of everything flushed so far, in hex."""
        return self._digest.hexdigest()


@contextlib.contextmanager
def open_writer(path: Path) -> Iterator[DataWriter]:
    """Open a data file that appears under `path` when the block ends without an error."""
    with atomic_write(path) as file:
        writer = DataWriter(file)
        yield writer
        writer.flush()


def text_bytes(text: str) -> bytes:
    """Return one document of a TEXT with its separator.

    A line inside that holds only the separator would cut the document in two, so it is removed.
    Lone surrogates, which UTF-8 cannot hold, become question marks.
    """
    if END_OF_TEXT in text:
        lines = (line for line in text.split("\n") if line.strip() != END_OF_TEXT)
        text = "\n".join(lines)
    newline = "" if text.endswith("\n") else "\n"
    return f"{text}{newline}".encode("utf-8", "replace") + SEPARATOR_LINE


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return one line of a JSONL."""
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def conversation_row(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as its JSON object."""
    messages = [{"role": m.role, "content": m.content} for m in conversation.messages]
    return {"id": conversation.id, "messages": messages}


def multiple_choice_row(item: MultipleChoice) -> dict[str, Any]:
    """Return a question as its JSON object; `fact` only where there is one."""
    row: dict[str, Any] = {
        "id": item.id,
        "question": item.question,
        "choices": list(item.choices),
        "answer": item.answer,
    }
    return row if item.fact is None else {**row, "fact": item.fact}
