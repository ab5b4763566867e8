"""Where each document of a file lies, so that documents can be read in any order.

The index holds two whole numbers per document and never the text: a million documents take 12 MB.
Documents are read by position from the file as it is, which has to be plain UTF-8 with single
newlines; anything else is copied into that form first, by whoever builds the index.
"""

import codecs
import hashlib
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyllm.data.encoding import read_blocks
from tinyllm.data.text import MAX_DOCUMENT_CHARACTERS
from tinyllm.records import END_OF_TEXT
from tinyllm.seeding import derive_seed

_SEPARATOR = END_OF_TEXT.encode()
_REST_OF_LINE = re.compile(rb"[ \t]*(?:\n|\Z)")
_OVERLAP = 64
Starts = npt.NDArray[np.int64]
Integers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class DocumentIndex:
    """The documents of one file: where each starts and how long it is, in bytes."""

    path: Path
    starts: Starts
    lengths: Integers
    sha256: str

    def __len__(self) -> int:
        return len(self.starts)


def index_text(path: Path) -> DocumentIndex | None:
    """Find the documents of a plain TEXT file; None when it is not plain UTF-8 text.

    Lengths include outer newlines and leave out the separator. A document of more than 16 MB is
    cut at a line end, as when it is read as a stream.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    digest = hashlib.sha256()
    bounds = [array("q", [0])]  # start of a document, its end, start of the next, …
    window, base, searched = b"", 0, 0
    for block in _blocks_and_end(path):
        if b"\r" in block or (not base and block.startswith(codecs.BOM_UTF8)):
            return None
        try:
            decoder.decode(block, not block)
        except UnicodeDecodeError:
            return None
        digest.update(block)
        window += block
        safe = base + len(window) - (_OVERLAP if block else 0)
        bounds.append(array("q"))  # one short array a block: a long one that grows wastes memory
        place = window.find(_SEPARATOR, searched - base)
        while place >= 0 and base + place < safe:
            end = _end_of_separator(window, place)
            if end is not None:
                bounds[-1].extend((base + place, base + end))
            place = window.find(_SEPARATOR, place + len(_SEPARATOR))
        searched = max(searched, safe)
        n_done = max(searched - 1 - base, 0)  # one byte stays, to see whether a line starts
        window, base = window[n_done:], base + n_done
    bounds.append(array("q", [base + len(window)]))
    pairs = np.concatenate(bounds).reshape(-1, 2)
    return _without_long(path, pairs[:, 0], pairs[:, 1] - pairs[:, 0], digest.hexdigest())


def _blocks_and_end(path: Path) -> Iterator[bytes]:
    yield from read_blocks(path)
    yield b""


def _end_of_separator(window: bytes, place: int) -> int | None:
    """Return where the separator line at `place` ends, or None when it is a part of a line."""
    if place and window[place - 1 : place] != b"\n":
        return None
    rest = _REST_OF_LINE.match(window, place + len(_SEPARATOR))
    return rest.end() if rest else None


def _without_long(path: Path, starts: Starts, lengths: Starts, sha256: str) -> DocumentIndex:
    """Leave out what is empty, and cut what is too long."""
    filled = lengths > 0
    starts, lengths = starts[filled], lengths[filled]
    if len(lengths) and lengths.max() > MAX_DOCUMENT_CHARACTERS:
        pieces = [
            piece
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
            for piece in _cut(path, start, length)
        ]
        starts = np.array([start for start, _ in pieces], dtype=np.int64)
        lengths = np.array([length for _, length in pieces], dtype=np.int64)
    return DocumentIndex(path, starts, lengths.astype(np.int32), sha256)


def _cut(path: Path, start: int, length: int) -> Iterator[tuple[int, int]]:
    """Cut one document into pieces that end at a line end, or else at a whole character."""
    end = start + length
    with open(path, "rb") as file:
        while end - start > MAX_DOCUMENT_CHARACTERS:
            file.seek(start)
            block = file.read(MAX_DOCUMENT_CHARACTERS)
            n_taken = block.rfind(b"\n") + 1
            if not n_taken:
                n_taken = len(block) - 1
                while block[n_taken] & 0xC0 == 0x80:  # inside a character
                    n_taken -= 1
            yield start, n_taken
            start += n_taken
    yield start, end - start


def index_lines(path: Path) -> DocumentIndex:
    """Find the lines of a JSONL file. Lengths include the newline."""
    digest = hashlib.sha256()
    ends, base = [np.zeros(1, dtype=np.int64)], 0
    for block in read_blocks(path):
        digest.update(block)
        ends.append(np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 10) + base + 1)
        base += len(block)
    bounds = np.concatenate(ends)
    lengths = np.diff(bounds).astype(np.int32)
    return DocumentIndex(path, bounds[:-1], lengths, digest.hexdigest())


def shuffled(n: int, seed: int, purpose: str, *indices: int) -> Integers:
    """Return a seeded order of range(n): numbers sorted by a hash of (seed, purpose, number).

    The hash is the finaliser of SplitMix64 (Steele et al. 2014), so the order is the same on
    every machine and with every version of NumPy.
    """
    keys = np.arange(n, dtype=np.uint64)
    keys *= np.uint64(0x9E3779B97F4A7C15)
    keys += np.uint64(derive_seed(seed, purpose, *indices))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        keys ^= keys >> np.uint64(shift)
        keys *= np.uint64(factor)
    return np.argsort(keys, kind="stable").astype(np.int32)
