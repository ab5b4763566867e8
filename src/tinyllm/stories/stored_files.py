"""Files as blocks in an object store, which cannot append: what grows sends its last block anew.

A file is a list of blocks of 8 MiB at most, each an object named by its SHA-256. Equal blocks are
sent once, a block that is there never changes, and what comes back is checked against its name.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tinyllm.errors import DataError
from tinyllm.files import atomic_write, os_error
from tinyllm.storage import Store

BLOCK_BYTES = 8 << 20
BLOCKS = "stories-run/blocks"

Relation = Literal["equal", "longer", "shorter", "other"]
"""What the file here is, beside the one in the store."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a file, named by its content."""

    sha256: str
    n_bytes: int

    @property
    def name(self) -> str:
        """The object that holds it."""
        return f"{BLOCKS}/{self.sha256}"

    def to_json(self) -> list[Any]:
        """Return plain JSON values."""
        return [self.sha256, self.n_bytes]


def blocks_of(path: Path, known: Sequence[Block] = ()) -> list[Block]:
    """Return the blocks of a file; all but the last of those that are known are not read again.

    JSON lines are cut between lines only, and a last line that is being written is left out.
    """
    found = list(known[:-1])
    offset = sum(block.n_bytes for block in found)
    while piece := _piece(_read(path, offset, BLOCK_BYTES), path):
        found.append(Block(hashlib.sha256(piece).hexdigest(), len(piece)))
        offset += len(piece)
    return found


def _piece(content: bytes, path: Path) -> bytes:
    if path.suffix != ".jsonl" or content.endswith(b"\n"):
        return content
    whole = content[: content.rfind(b"\n") + 1]
    return whole or (content if len(content) == BLOCK_BYTES else b"")


def send(store: Store, path: Path, blocks: Sequence[Block], there: set[str]) -> None:
    """Send the blocks of a file that are not there yet, and note them. Raises DataError."""
    offset = 0
    for block in blocks:
        if block.sha256 not in there:
            content = _read(path, offset, block.n_bytes)
            if hashlib.sha256(content).hexdigest() != block.sha256:
                raise DataError(f"{path} changed while it was sent to {store.url}")
            store.write(block.name, content)
            there.add(block.sha256)
        offset += block.n_bytes


def _read(path: Path, offset: int, n_bytes: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(n_bytes)
    except OSError as error:
        raise os_error(error, f"read {path}") from error


def relation(path: Path, stored: Sequence[Block], store: Store) -> Relation:
    """Compare a file here with one in the store. Raises DataError."""
    n_stored = sum(block.n_bytes for block in stored)
    n_here = path.stat().st_size if path.is_file() else 0
    offset = 0
    for block in stored:
        here = _read(path, offset, block.n_bytes) if n_here > offset else b""
        if len(here) < block.n_bytes:
            is_beginning = not here or fetch(store, block).startswith(here)
            return "shorter" if is_beginning else "other"
        if hashlib.sha256(here).hexdigest() != block.sha256:
            return "other"
        offset += block.n_bytes
    return "longer" if n_here > n_stored else "equal"


def fetch(store: Store, block: Block) -> bytes:
    """Return a block's bytes. Raises DataError when it is not there or not what it was."""
    content = store.read(block.name)
    if content is None:
        raise DataError(f"{store.url} lacks {block.name}, which its state names")
    if hashlib.sha256(content).hexdigest() != block.sha256:
        raise DataError(f"{store.url}/{block.name} is not what was written there")
    return content


def bring(store: Store, blocks: Sequence[Block], path: Path) -> None:
    """Write a file as the store has it, in place of what is here. Raises DataError."""
    with atomic_write(path) as file:
        for block in blocks:
            file.write(fetch(store, block))
