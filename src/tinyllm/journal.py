"""Journals: what costs money or time, one JSON object a line, appended and never rewritten.

    {"id":"5b1f…-17","key":"…", … }\\n        compact JSON in ASCII; the id is the first key

A line is written whole by one writer and reaches the disk every few records and seconds. A crash
can tear the last line only: opening cuts the torn bytes off and keeps them in `NAME.recovered`. A
line that is broken further up is never passed over in silence: reading stops and names it, and
`quarantine` moves it to `NAME.quarantined`.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tinyllm.errors import DataError
from tinyllm.files import append_line, atomic_write, os_error

_HEAD = b'{"id":"'
_BLOCK = 1 << 22
_REPAIR_HINT = "Run the command again with --repair: it moves broken lines to a file of their own."
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_ID = re.compile(rb'[^"\\\x00-\x1f]*')


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal, read no further than its id: where it lies and its bytes."""

    offset: int
    id: str
    line: bytes

    def record(self) -> dict[str, Any]:
        """Decode the whole line. Raises ValueError for a line that is no JSON object."""
        value = json.loads(self.line)
        if not isinstance(value, dict):
            raise ValueError("a line of a journal is an object")
        return value


class Journal:
    """The one writer of a journal file.

    `sync_records` and `sync_seconds` bound what a power cut can take; a killed process loses
    nothing that `append` has returned from. `recovered_bytes` tells what opening cut off.
    """

    def __init__(self, path: Path, *, sync_records: int = 256, sync_seconds: float = 1.0) -> None:
        """Open or make the file. Raises DataError for whatever the disk refuses."""
        self.path = path
        self._sync_records, self._sync_seconds = sync_records, sync_seconds
        self._n_unsynced = 0
        self._synced_at = time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.recovered_bytes = _cut_torn_tail(path)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._offset = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise os_error(error, f"write {path}") from error

    def append(self, record: Mapping[str, Any]) -> int:
        """Write one record, its id first; return where its line begins.

        Raises ValueError for a record whose first key is not a plain `id`, and DataError when the
        disk refuses: then the file ends after the last whole line.
        """
        line = encode(record)
        offset = self._offset
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            self._offset += len(line)
            self._n_unsynced += 1
            late = time.monotonic() - self._synced_at >= self._sync_seconds
            if self._n_unsynced >= self._sync_records or late:
                self._sync()
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, offset)
            self._offset = offset
            raise os_error(error, f"write {len(line)} bytes to {self.path}") from error
        return offset

    def sync(self) -> None:
        """Bring everything to the disk. Raises DataError when it refuses or the file is gone."""
        try:
            self._sync()
        except OSError as error:
            raise os_error(error, f"write {self.path}") from error

    def _sync(self) -> None:
        if self._n_unsynced:
            os.fsync(self._descriptor)
        self._n_unsynced = 0
        self._synced_at = time.monotonic()
        if os.fstat(self._descriptor).st_nlink == 0:
            raise FileNotFoundError(2, "it was removed while it was written", str(self.path))

    def close(self) -> None:
        """Bring everything to the disk and let the file go."""
        if self._descriptor < 0:
            return
        try:
            self.sync()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; an error that is already on its way is not replaced by another."""
        if error is None:
            self.close()
            return
        with contextlib.suppress(DataError):
            self.close()


def encode(record: Mapping[str, Any]) -> bytes:
    """Return a record as the line of a journal. Raises ValueError unless a plain id comes first."""
    line = _ENCODER.encode(record).encode("ascii") + b"\n"
    if _id_of(line) is None:
        raise ValueError(f"a record begins with a plain id, found {line[:60]!r}")
    return line


def _id_of(line: bytes) -> str | None:
    """Return the id of a line that looks whole, or None."""
    if not line.startswith(_HEAD) or not line.endswith((b"}\n", b"}\r\n")):
        return None
    if line.find(_HEAD, 1) >= 0 or b"\0" in line:  # two lines run into one, a block never written
        return None
    found = _ID.match(line, len(_HEAD))
    if found is None or line[found.end() : found.end() + 1] != b'"':
        return None
    return found.group().decode("utf-8", "replace")


def _cut_torn_tail(path: Path) -> int:
    """Cut what follows the last good line, when that is at most one line; return its length."""
    if not path.exists():
        return 0
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = _last_line_start(file, size)
        file.seek(start)
        tail = file.read()
        last, newline, _ = tail.partition(b"\n")
        keep = start + len(last) + 1 if newline and _is_good(last + b"\n") else start
        if keep == size:
            return 0
        file.seek(keep)
        lost = file.read()
        with open(path.with_name(f"{path.name}.recovered"), "ab") as recovered:
            recovered.write(lost + b"\n")
            recovered.flush()
            os.fsync(recovered.fileno())
        file.truncate(keep)
        file.flush()
        os.fsync(file.fileno())
        return len(lost)


def _last_line_start(file: IO[bytes], size: int) -> int:
    """Return where the last line that ends in a newline begins; torn bytes may follow it."""
    held = b""
    position = size
    while position > 0:
        step = min(_BLOCK, position)
        position -= step
        file.seek(position)
        held = file.read(step) + held
        end = held.rfind(b"\n")
        if end >= 0 and (begin := held.rfind(b"\n", 0, end)) >= 0:
            return position + begin + 1
    return 0


def _is_good(line: bytes) -> bool:
    if _id_of(line) is None:
        return False
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def scan(path: Path) -> Iterator[Entry]:
    """Yield the lines of a journal, reading their ids only: a million take a second or two.

    A torn last line (one that is being written) is left out; a missing file has none. Raises
    DataError with the number of a line that is broken.
    """
    if not path.exists():
        return
    offset, rest = 0, b""
    number = 0
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                lines = (rest + block).splitlines(keepends=True)
                rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
                for line in lines:
                    number += 1
                    found = _id_of(line)
                    if found is None:
                        raise _broken(path, number)
                    yield Entry(offset, found, line)
                    offset += len(line)
    except OSError as error:
        raise os_error(error, f"read {path}") from error


def _broken(path: Path, number: int) -> DataError:
    return DataError(f"{path}:{number}: this line is broken", _REPAIR_HINT)


def read(path: Path) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Yield every line with its record. Raises DataError with the number of a broken line."""
    for number, entry in enumerate(scan(path), 1):
        try:
            yield entry, entry.record()
        except ValueError as error:
            raise _broken(path, number) from error


def last_line(path: Path) -> bytes | None:
    """Return the last line that ends in a newline, or None where there is none."""
    if not path.exists():
        return None
    try:
        with open(path, "rb") as file:
            file.seek(_last_line_start(file, file.seek(0, os.SEEK_END)))
            line, newline, _ = file.read().partition(b"\n")
    except OSError as error:
        raise os_error(error, f"read {path}") from error
    return line if newline else None


def read_at(file: IO[bytes], offset: int) -> dict[str, Any]:
    """Return the record whose line begins at `offset` of an open journal."""
    file.seek(offset)
    value: dict[str, Any] = json.loads(file.readline())
    return value


def quarantine(path: Path) -> int:
    """Move every broken line to `NAME.quarantined`; return how many there were."""
    if not path.exists():
        return 0
    bad = 0
    try:
        with open(path, "rb") as file, atomic_write(path) as kept:
            for line in file:
                if _is_good(line):
                    kept.write(line)
                    continue
                bad += 1
                text = line.decode("utf-8", "backslashreplace").replace("\0", "\\0")
                append_line(path.with_name(f"{path.name}.quarantined"), text)
    except OSError as error:
        raise os_error(error, f"read {path}") from error
    return bad
