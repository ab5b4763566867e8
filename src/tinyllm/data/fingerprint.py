"""What a cache knows of the files it is made from, so that it notices when they change.

A file is known by the SHA-256 of its bytes. `hashes.json` in the cache remembers the hash together
with the size and time of change, so that unchanged files are not read again:

    {"/home/me/stories.txt": {"size": 1234, "mtime_ns": 1700000000000000000, "sha256": "ab12…"}}
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tinyllm.data.hub import is_hub_source
from tinyllm.data.source_files import expand_source
from tinyllm.errors import DataError
from tinyllm.files import os_error, sha256_file, write_json

CACHE_NAME = ".tinyllm-cache"
_MEMORY = "hashes.json"


def cache_folder(source: str) -> Path:
    """Return where caches of a source go: `.tinyllm-cache` beside it, or here."""
    return folder_beside(source) / CACHE_NAME


def folder_beside(source: str) -> Path:
    """Return the folder of a source's first file, where something made from it may be put.

    It is the current folder when that one cannot be written, or the source is on the Hub. A
    folder without any write bit counts as read-only, even for root.
    """
    if is_hub_source(source):
        return Path()
    folder = expand_source(source)[0].parent
    is_writable = os.access(folder, os.W_OK) and folder.stat().st_mode & 0o222
    return folder if is_writable else Path()


def hash_sources(sources: Iterable[str], cache: Path) -> list[tuple[str, str]]:
    """Return (absolute path, SHA-256) of every file behind the sources, in order.

    A Hub name stands for itself. Raises DataError when a source names nothing or cannot be read.
    """
    known = _read_memory(cache)
    hashes: list[tuple[str, str]] = []
    learnt: dict[str, Any] = {}
    for source in sources:
        if is_hub_source(source):
            hashes.append((source, source))
            continue
        for path in expand_source(source):
            name = str(path.absolute())
            learnt[name] = _hash(path, known.get(name))
            hashes.append((name, learnt[name]["sha256"]))
    if any(known.get(name) != entry for name, entry in learnt.items()):
        _remember(cache, {**known, **learnt})
    return hashes


def digest(value: object) -> str:
    """Return the SHA-256 (hex) of a plain value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _hash(path: Path, known: Any) -> dict[str, Any]:
    try:
        status = path.stat()
        seen = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
        if isinstance(known, dict) and seen.items() <= known.items() and "sha256" in known:
            return known
        return {**seen, "sha256": sha256_file(path)}
    except OSError as error:
        raise os_error(error, f"read {path}") from error


def _read_memory(cache: Path) -> dict[str, Any]:
    try:
        found = json.loads((cache / _MEMORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(cache: Path, entries: dict[str, Any]) -> None:
    """Save the hashes; two writers at once may forget some, which costs only a second reading."""
    try:
        write_json(cache / _MEMORY, entries)
    except DataError:  # a cache that cannot be written is still good to read from
        return
