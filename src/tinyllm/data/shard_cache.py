"""Folders that are whole or absent: how shards get into the cache, whoever else is writing it."""

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tinyllm.files import is_alive, os_error, sync_folder

DESCRIPTION = "shards.json"


def read_description(folder: Path) -> dict[str, Any] | None:
    """Return what `shards.json` says, or None when the folder is not a whole one."""
    with suppress(OSError, ValueError):
        found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if isinstance(found, dict) and _sizes_agree(folder, found):
            return found
    return None


def _sizes_agree(folder: Path, description: Mapping[str, Any]) -> bool:
    counts = description.get("counts", {})
    is_masked = description.get("recipe", {}).get("format") == "conversations"
    width = {"uint16": 2, "uint32": 4}.get(description.get("dtype", ""), 0)
    sizes = {
        "ids.bin": width * counts.get("n_tokens", -1),
        "offsets.bin": 8 * (counts.get("n_documents", -1) + 1),
        "keys.bin": 8 * counts.get("n_documents", -1),
        "mask.bin": counts.get("n_tokens", -1) if is_masked else 0,
    }
    return all((folder / name).stat().st_size == size for name, size in sizes.items())


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the name `folder` when the block ends without an error.

    What killed processes of this machine left is removed. When another process has made the
    same folder meanwhile, its result stays and ours is removed. Raises DataError.
    """
    temporary = folder.with_name(f".{folder.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _ignore_in_git(folder.parent)
        _remove_leftovers(folder.parent)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            _sync_file(file)
        _publish(temporary, folder)
    except OSError as error:
        raise os_error(error, f"write {folder}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_outdated(folder: Path) -> None:
    """Remove shards of the same files and recipe whose text has changed since.

    Whoever still maps them keeps them until they are let go.
    """
    current = read_description(folder)
    if current is None:
        return
    for other in folder.parent.glob("[!.]*/"):
        known = read_description(other) if other != folder else None
        if (
            known is not None
            and known["recipe"] == current["recipe"]
            and [name for name, _ in known["sources"]] == [name for name, _ in current["sources"]]
            and known["sources"] != current["sources"]
        ):
            shutil.rmtree(other, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    if read_description(folder) is not None:
        return
    if folder.exists():  # damaged: a file was cut or removed by hand
        damaged = temporary.with_suffix(".damaged.tmp")
        os.rename(folder, damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        os.rename(temporary, folder)
    except OSError:
        if read_description(folder) is None:
            raise
        return
    sync_folder(folder.parent)


def _sync_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _ignore_in_git(cache: Path) -> None:
    ignore = cache / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def _remove_leftovers(cache: Path) -> None:
    for leftover in cache.glob(f".*.{socket.gethostname()}.*.tmp"):
        pid = next((part for part in reversed(leftover.name.split(".")) if part.isdigit()), "")
        if pid and not is_alive(int(pid)):
            shutil.rmtree(leftover, ignore_errors=True)
