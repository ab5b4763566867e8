"""Which runs of words of some texts stand in a training text, and how long the longest are.

A run of n words can only stand where its first n - 1 words stand. So each length is looked for only
at the places that the one before has left: the first look-up sees every place, the tenth a few in a
thousand. Up to 13 words every run that was seen is marked. Longer ones are followed word by word,
in the texts and in the block at once, and only the longest at each word is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyllm.data.word_hashes import (
    Block,
    Hashes,
    HashTable,
    Indices,
    hash_documents,
    longer_runs,
    run_hashes,
    split_words,
)

MARKED = 13
"""The longest runs that are marked one by one."""


@dataclass(frozen=True)
class _Length:
    """All different runs of one length in the texts, and which of them have been seen."""

    table: HashTable
    numbers: Indices
    """Of the run that begins at each word of the texts; -1 where none does."""
    is_seen: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Runs:
    """Runs of one length, by the word at which each begins in `words`."""

    words: Hashes
    places: Indices
    hashes: Hashes

    def keep(self, chosen: npt.NDArray[np.bool_] | Indices) -> "_Runs":
        """Return some of the runs."""
        return _Runs(self.words, self.places[chosen], self.hashes[chosen])

    def grown(self, length: int) -> "_Runs":
        """Return the runs of `length` words, one word longer; those at the very end fall away."""
        fitting = self.keep(self.places + length <= len(self.words))
        following = self.words[fitting.places + length - 1]
        return _Runs(self.words, fitting.places, longer_runs(fitting.hashes, following))


class Spans:
    """The runs of words of some texts, marked as a training text goes by."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [split_words(text) for text in texts]
        block = hash_documents(texts)
        self._words, self._starts = block.words, block.starts
        self._longest = np.zeros(len(self._words), dtype=np.int64)  # followed from each word
        self._lengths = [self._all_of(length) for length in range(1, MARKED + 1)]

    def _all_of(self, length: int) -> _Length:
        """Find all runs of a length; none reaches from one text into the next."""
        hashes = run_hashes(self._words, length)
        begins = [
            np.arange(start, start + len(words) - length + 1)
            for start, words in zip(self._starts, self._texts, strict=True)
        ]
        places = np.concatenate(begins).astype(np.int64)
        keys, inverse = np.unique(hashes[places], return_inverse=True)
        numbers = np.full(len(self._words), -1, dtype=np.int64)
        numbers[places] = inverse
        return _Length(HashTable(keys), numbers, np.zeros(len(keys), dtype=np.bool_))

    def read(self, block: Block) -> None:
        """Mark the runs that stand in a block of the training text."""
        runs = _Runs(block.words, np.arange(len(block.words)), block.words)
        for length in range(1, MARKED + 1):
            if length > 1:
                runs = runs.grown(length)
            of_length = self._lengths[length - 1]
            found, numbers = of_length.table.find(runs.hashes)
            of_length.is_seen[numbers] = True
            runs = runs.keep(found)
        if len(runs.places):
            self._follow(runs)

    def _follow(self, there: _Runs) -> None:
        """Find how far runs of 13 words of the block go on in the texts."""
        numbers = self._lengths[MARKED - 1].numbers
        hashes = self._lengths[MARKED - 1].table.keys[numbers]
        places = np.flatnonzero((numbers >= 0) & np.isin(hashes, there.hashes))
        here = _Runs(self._words, places, hashes[places])
        length = MARKED
        while len(here.places):
            self._longest[here.places] = np.maximum(self._longest[here.places], length)
            length += 1
            here, there = here.grown(length), there.grown(length)
            there = there.keep(np.isin(there.hashes, here.hashes))
            here = here.keep(np.isin(here.hashes, there.hashes))

    def n_words(self, text: int) -> int:
        """Return the number of words of a text."""
        return len(self._texts[text])

    def longest(self, text: int) -> list[str]:
        """Return the longest run of words of a text that was seen; the first of several."""
        first, words = int(self._starts[text]), self._texts[text]
        followed = self._longest[first : first + len(words)]
        length, place = 0, 0
        if followed.any():
            length, place = int(followed.max()), int(followed.argmax())
        for shorter in range(1, MARKED) if not length else ():
            seen = self._seen(text, shorter)
            if not seen.any():
                break
            length, place = shorter, int(seen.argmax())
        return words[place : place + length]

    def unseen(self, text: int, length: int) -> float | None:
        """Return the share of a text's runs of up to 13 words that were not seen; None: no run."""
        seen = self._seen(text, length)
        return float(1 - seen.mean()) if len(seen) else None

    def _seen(self, text: int, length: int) -> npt.NDArray[np.bool_]:
        """Tell of each run of a length in a text whether it was seen."""
        of_length, first = self._lengths[length - 1], int(self._starts[text])
        last = first + max(0, self.n_words(text) - length + 1)
        return of_length.is_seen[of_length.numbers[first:last]]
