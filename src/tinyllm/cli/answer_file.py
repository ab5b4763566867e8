"""The file of `tinyllm infer --output`: answers that a killed run leaves, and the next one goes on.

    answers.jsonl           one JSON object a line, appended as soon as its text ends; when all are
                            there, in the order of the prompts
    answers.manifest.json   a manifest (data/manifest.py) whose settings are what the answers depend
                            on: hashes of prompts and checkpoint, and every setting with the seed.
                            It holds number, bytes and hash once all answers are there

A killed run leaves at most a part of one line, at the end, which is cut off.
"""

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from tinyllm.data.manifest import Manifest, manifest_path, write_manifest
from tinyllm.errors import DataError, UsageError
from tinyllm.files import atomic_write, os_error, read_json, sha256_file, try_lock

Key = tuple[str, int]
"""A prompt's id and the number of the sample."""

_HASHES = {"checkpoint_sha256": "another checkpoint", "prompts_sha256": "other prompts"}
_SYNC_SECONDS = 2.0
"""What a power cut can take."""
_NO_MORE = "Give --output another name, or remove the file to begin anew."


class AnswerFile:
    """Answers that are there already, and the end of the file to append more to."""

    def __init__(self, path: Path, file: FileIO, order: Sequence[Key], made: Manifest) -> None:
        self.path = path
        self._file, self._order, self._made = file, order, made
        self._synced_at = time.monotonic()
        self._places = _places(path, set(order))
        file.truncate(max((end for _, end in self._places.values()), default=0))

    def missing(self) -> list[Key]:
        """Return what is still to be drawn, in order."""
        return [key for key in self._order if key not in self._places]

    @property
    def n_done(self) -> int:
        """How many answers are there."""
        return len(self._places)

    @property
    def is_finished(self) -> bool:
        """Whether all answers are there, in order, and the manifest says so."""
        return (
            self._is_in_order
            and self._made.documents == len(self._order)
            and self._made.bytes == self.path.stat().st_size
        )

    def append(self, key: Key, line: str) -> None:
        """Add one line of JSON, which a kill leaves alone from here on. Raises DataError.

        It is brought to the disk within seconds, as long as more are added.
        """
        data = line.encode("utf-8", "backslashreplace")  # half a character stays a JSON escape
        try:
            begin = self._file.seek(0, os.SEEK_END)
            rest = memoryview(data)
            while rest:  # a write may go half through
                rest = rest[self._file.write(rest) :]
            if time.monotonic() - self._synced_at >= _SYNC_SECONDS:
                self._sync()
        except OSError as error:
            raise os_error(error, f"append to {self.path}") from error
        self._places[key] = begin, begin + len(data)

    def finish(self) -> None:
        """Put the answers in order, once all are there, and complete the manifest."""
        self._sync()
        self._file.close()  # a second run that now comes in finds everything, and writes the same
        if not self._is_in_order:
            with open(self.path, "rb") as source, atomic_write(self.path) as sorted_file:
                for key in self._order:
                    begin, end = self._places[key]
                    source.seek(begin)
                    sorted_file.write(source.read(end - begin))
        self._made = dataclasses.replace(
            self._made,
            documents=len(self._order),
            bytes=self.path.stat().st_size,
            sha256=sha256_file(self.path),
        )
        write_manifest(self.path, self._made)

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise os_error(error, f"write {self.path}") from error
        self._synced_at = time.monotonic()

    @property
    def _is_in_order(self) -> bool:
        return sorted(self._places, key=self._places.__getitem__) == list(self._order)


@contextmanager
def open_answers(path: Path, order: Sequence[Key], made: Manifest) -> Iterator[AnswerFile]:
    """Open a file of answers to begin it or go on, alone; `made` says what they depend on.

    Raises UsageError for a file that was begun with other settings, prompts or checkpoint, or of
    which nothing is known, and DataError for one that another run is writing or that is damaged.
    """
    _require_same(path, made)
    with _opened_alone(path) as file:
        _require_same(path, made)  # another run may have ended in between
        found = read_made(path)
        if found is None:
            write_manifest(path, made)
        yield AnswerFile(path, file, order, found or made)


def read_made(path: Path) -> Manifest | None:
    """Return what the answers of a file depend on; None for one that is still to be begun.

    Raises UsageError for a file that is none of infer's.
    """
    beside = manifest_path(path)
    is_empty = not path.exists() or not path.stat().st_size
    if not beside.is_file():
        if not is_empty:
            raise UsageError(f"{path} is there already, and {beside.name} is not", _NO_MORE)
        return None
    try:
        made = Manifest.from_json(read_json(beside))
    except (TypeError, KeyError) as error:
        raise UsageError(f"{beside} is not a manifest of tinyllm", _NO_MORE) from error
    if made.name != path.name or not made.written_by.endswith(" infer"):
        raise UsageError(
            f"{beside} belongs to {made.name}, written by {made.written_by}",
            "Give --output another name.",
        )
    return None if is_empty else made


def _require_same(path: Path, made: Manifest) -> None:
    found = read_made(path)
    if found is None:
        return
    difference = next(_differences(found.settings, made.settings), None)
    if difference is not None:
        raise UsageError(
            f"{path} was begun with {difference}",
            "Run the command as it was to go on, or give --output another name to begin anew.",
        )


def _differences(
    found: Mapping[str, Any], wanted: Mapping[str, Any], within: str = ""
) -> Iterator[str]:
    """Yield in words what differs."""
    for key in dict.fromkeys([*found, *wanted]):
        was, now = found.get(key), wanted.get(key)
        if was == now:
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            yield from _differences(was, now, f"{within}{key}.")
        elif key in _HASHES:
            yield _HASHES[key]
        else:
            yield f"{within}{key} {_show(was)}, and this command has {_show(now)}"


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


@contextmanager
def _opened_alone(path: Path) -> Iterator[FileIO]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab", buffering=0)  # noqa: SIM115  (closed below)
    except OSError as error:
        raise os_error(error, f"write {path}") from error
    with file:
        if not try_lock(file.fileno()) or not os.path.samestat(
            os.fstat(file.fileno()), os.stat(path)
        ):
            raise DataError(f"another run is writing {path}", "Wait for it, or stop it first.")
        yield file


def _places(path: Path, expected: set[Key]) -> dict[Key, tuple[int, int]]:
    """Return where the whole lines of each answer begin and end. Raises DataError for others."""
    places: dict[Key, tuple[int, int]] = {}
    position = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):  # a run was killed in the middle of it
                break
            key = _key(line)
            if key not in expected or key in places:
                raise DataError(
                    f"{path}:{number}: this line is not an answer of this run",
                    "Undo the change to the file, or remove the file to begin anew.",
                )
            places[key] = position, position + len(line)
            position += len(line)
    return places


def _key(line: bytes) -> Key | None:
    try:
        record = json.loads(line)
        return str(record["id"]), int(record["sample"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
