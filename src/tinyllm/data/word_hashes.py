"""Text as arrays of word hashes, fast enough to look through all of a training text.

Words are told apart alike everywhere: NFKC, small letters, no apostrophes, anything else that is
neither letter nor digit is a space. A word is a 64-bit hash of its bytes, and a run of words (an
n-gram) the value of a polynomial in them, so that a longer run costs one more step. Two different
runs have the same hash by chance once in 10^19 pairs: what matters is confirmed by the words.

Nothing here is ever stored: hashes are made anew for each scan.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

BLOCK_CHARACTERS = 1 << 20
"""So much text is looked at at once."""
PIECE_CHARACTERS = 1 << 16
"""A longer document is read in pieces."""
OVERLAP_CHARACTERS = 2000
"""What the next piece of a long document repeats, so that a run across the cut is seen."""

_BETWEEN_DOCUMENTS = b" \x01 "
_SPACE = 32
_NON_ASCII = re.compile(r"[^\x00-\x7f]+")
_NO_WORD = re.compile(r"[\W_]+")
_APOSTROPHES = re.compile("[’ʼ‘]")
_LETTERS = bytes(
    ord(chr(i).lower()) if i < 128 and chr(i).isalnum() else i if i >= 128 else _SPACE
    for i in range(256)
)
_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def normalise(text: str) -> bytes:
    """Return the words of a text with spaces between them, as UTF-8; outer spaces may be there."""
    if not text.isascii():
        plain = unicodedata.normalize("NFKC", text)
        text = _NON_ASCII.sub(lambda found: _plain(found.group()), plain)
    return text.encode("utf-8", "replace").translate(_LETTERS, b"'")


@lru_cache(100_000)
def _plain(letters: str) -> str:
    """Normalise letters outside ASCII."""
    kept = _APOSTROPHES.sub("", letters)
    return _NO_WORD.sub(" ", "".join(c.lower() for c in kept))


def split_words(text: str) -> list[str]:
    """Return the normalised words of a text."""
    return normalise(text).decode().split()


@dataclass(frozen=True)
class Block:
    """Some documents as word hashes.

    `words` (N,) holds those of all of them; between two documents stands a hash that is no word's.
    Document i of the block begins at word `starts[i]`.
    """

    words: Hashes
    starts: Indices

    def document_at(self, position: int) -> int:
        """Return which document of the block a word belongs to."""
        return int(np.searchsorted(self.starts, position, side="right")) - 1


def hash_documents(texts: Sequence[str]) -> Block:
    """Hash the words of some documents."""
    words = _hash_bytes(_BETWEEN_DOCUMENTS.join(map(normalise, texts)))
    borders = np.flatnonzero(words == _border())
    return Block(words, np.concatenate(([0], borders + 1)).astype(np.int64))


@lru_cache(1)
def _border() -> np.uint64:
    return np.uint64(_hash_bytes(_BETWEEN_DOCUMENTS)[0])


def _hash_bytes(text: bytes) -> Hashes:
    """Hash each word of normalised text; eight bytes of it at a time."""
    letters = np.frombuffer(text, dtype=np.uint8)
    is_word = np.empty(len(letters) + 2, dtype=np.bool_)
    is_word[0] = is_word[-1] = False
    np.not_equal(letters, _SPACE, out=is_word[1:-1])
    edges = np.flatnonzero(is_word[1:] != is_word[:-1])
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    padded = text + bytes(8)
    eights = np.ndarray((len(text) + 1,), dtype="<u8", buffer=padded, strides=(1,))
    hashes = _scramble(eights[starts] & _MASKS[np.minimum(lengths, 8)])
    longer = np.flatnonzero(lengths > 8)
    n_done = 8
    while len(longer):
        rest = eights[starts[longer] + n_done] & _MASKS[np.minimum(lengths[longer] - n_done, 8)]
        hashes[longer] = _scramble(hashes[longer] * _STEP + rest)
        n_done += 8
        longer = longer[lengths[longer] > n_done]
    return hashes


def _scramble(values: Hashes) -> Hashes:
    """Mix the bits of each value (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values + _STEP).astype(np.uint64, copy=False)
    values ^= values >> np.uint64(30)
    values *= _MIX[0]
    values ^= values >> np.uint64(27)
    values *= _MIX[1]
    values ^= values >> np.uint64(31)
    return values


def run_hashes(words: Hashes, n: int) -> Hashes:
    """Return the hash of every run of n words: (N,) to (N - n + 1,), none where N < n."""
    if len(words) < n:
        return np.empty(0, dtype=np.uint64)
    runs = words.copy()
    for size in range(2, n + 1):
        runs = longer_runs(runs[:-1], words[size - 1 :])
    return runs


def longer_runs(runs: Hashes, following: Hashes) -> Hashes:
    """Return the hashes of runs that are one word longer."""
    grown: Hashes = runs * _STEP + following
    return grown


class HashTable:
    """Finds hashes in a fixed set of them; key i is number i."""

    _SLOTS_PER_KEY = 8

    def __init__(self, keys: Hashes) -> None:
        """Take keys that all differ, in rising order."""
        self.keys = keys
        bits = max(10, int(self._SLOTS_PER_KEY * max(1, len(keys)) - 1).bit_length())
        self._shift = np.uint64(64 - bits)
        slots = (keys >> self._shift).astype(np.int64)
        self._slots = np.full(1 << bits, -1, dtype=np.int32)
        self._slots[slots] = np.arange(len(keys), dtype=np.int32)
        lost = self._slots[slots] != np.arange(len(keys))
        self._is_shared = np.zeros(1 << bits, dtype=np.bool_)
        self._is_shared[slots[lost]] = True

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self.keys)

    def find(self, hashes: Hashes) -> tuple[Indices, Indices]:
        """Return where the hashes are that the set holds, and the numbers of their keys."""
        slots = (hashes >> self._shift).astype(np.int64)
        numbers = self._slots[slots]
        places = np.flatnonzero(numbers >= 0)
        found = numbers[places].astype(np.int64)
        is_right = self.keys[found] == hashes[places]
        unsure = np.flatnonzero(~is_right & self._is_shared[slots[places]])
        if len(unsure):
            wanted = hashes[places[unsure]]
            number = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            found[unsure] = number
            is_right[unsure] = self.keys[number] == wanted
        return places[is_right], found[is_right]


@dataclass(frozen=True)
class Piece:
    """A document, or a part of a long one that begins at character `offset` of it."""

    document: int
    offset: int
    text: str


def blocks_of(texts: Iterable[str]) -> Iterator[list[Piece]]:
    """Gather documents into blocks of at most about a million characters; the first is number 0."""
    held: list[Piece] = []
    n_held = 0
    for number, text in enumerate(texts):
        for piece in _pieces(number, text):
            if n_held + len(piece.text) > BLOCK_CHARACTERS and held:
                yield held
                held, n_held = [], 0
            held.append(piece)
            n_held += len(piece.text)
    if held:
        yield held


def _pieces(number: int, text: str) -> Iterator[Piece]:
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        cut = text.rfind(" ", start + OVERLAP_CHARACTERS + 1, start + PIECE_CHARACTERS)
        stop = cut if cut > 0 else start + PIECE_CHARACTERS
        yield Piece(number, start, text[start:stop])
        back = text.find(" ", stop - OVERLAP_CHARACTERS, stop)
        start = back + 1 if back >= 0 else stop
    yield Piece(number, start, text[start:])
