"""What was typed in `tinyllm chat`, kept for the next time in a file that only its owner can read.

One JSON string a line, the oldest first. A disk that refuses costs the history, never the chat.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.history import History

from tinyllm.config.settings import settings

_BYTES_READ = 1 << 20
_MOST_CHARACTERS = 20_000
"""Longer texts, which were pasted, are not kept."""


class PromptHistory(History):
    """The history in a file; without one, in memory."""

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self._path = path

    def load_history_strings(self) -> Iterable[str]:
        """Yield what was typed before, the newest first; of a large file, its end."""
        if self._path is None:
            return
        try:
            with open(self._path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _BYTES_READ))
                lines = file.read().decode("utf-8", errors="replace").splitlines()
        except OSError:
            return
        for line in reversed(lines):
            text = _read(line)
            if text is not None:
                yield text

    def store_string(self, string: str) -> None:
        """Append what was typed."""
        if self._path is None or len(string) > _MOST_CHARACTERS:
            return
        line = json.dumps(string) + "\n"  # ASCII, so half a surrogate is no trouble
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            with open(os.open(self._path, flags, 0o600), "wb") as file:
                file.write(line.encode())
        except OSError:
            self._path = None


def history_path() -> Path | None:
    """Return where the history is kept (the XDG state folder); None without a home."""
    given = settings().state_home
    try:
        home = given if given and given.is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return home / "tinyllm" / "chat-history.jsonl"


def _read(line: str) -> str | None:
    """Return a line's text; None for a line that is torn or no string."""
    try:
        text = json.loads(line)
    except ValueError:
        return None
    return text if isinstance(text, str) else None
