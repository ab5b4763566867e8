"""Stories that passed the rules, on disk until it is known which of them are duplicates."""

import contextlib
import hashlib
import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tinyllm.data.clean.cleaning import Cleaned, group_key
from tinyllm.files import os_error

_TO_SHARE = 2**64


@dataclass(frozen=True, slots=True)
class Story:
    """A kept story. `index` counts all kept ones, in the order of the sources."""

    index: int
    id: str
    source: int
    prompt: str | None
    text: str


class KeptStories:
    """A file of stories with an index in memory of some 24 bytes each; gone with the process."""

    def __init__(self, folder: Path) -> None:
        """Open it in a folder. Raises DataError when the folder cannot be written."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (see close)
        except OSError as error:
            raise os_error(error, f"write to {folder}") from error
        self._folder = folder
        self._offsets = array("Q")
        self._groups = array("Q")
        self._end = 0

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, story: Cleaned) -> int:
        """Append a story; return its index."""
        line = json.dumps([story.id, story.source, story.prompt, story.text]).encode() + b"\n"
        with self._told():
            self._file.write(line)
        self._offsets.append(self._end)
        self._groups.append(group_key(story.prompt, story.text))
        self._end += len(line)
        return len(self._offsets) - 1

    def read(self, index: int) -> Story:
        """Return one story. Raises DataError when what was added finds no room."""
        with self._told():
            self._file.seek(self._offsets[index])  # writes what is still in memory
            line = self._file.readline()
        key, source, prompt, text = json.loads(line)
        return Story(index, key, source, prompt, text)

    def text(self, index: int) -> str:
        """Return the text of one story."""
        return self.read(index).text

    def side(self, indices: Iterable[int], validation_share: float) -> Iterator[tuple[Story, bool]]:
        """Yield stories, each with whether it is for validation."""
        for index in indices:
            yield self.read(index), self._groups[index] < validation_share * _TO_SHARE

    def close(self) -> None:
        """Let the file go; what it held is of no use any more."""
        with contextlib.suppress(OSError):
            self._file.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise os_error(error, f"write to {self._folder}") from error


def order_of(rule: str, story_id: str) -> bytes:
    """Return what samples are chosen by: chance, the same in every run."""
    return hashlib.sha256(f"{rule}:{story_id}".encode()).digest()[:8]
